"""Dovecot's dict protocol as bytes: versions, framing, transactions, replayed sessions."""

import glob
import os
import re
import threading
import time
import unittest

from harness import (Backend, Case, Dict, Mapmux, Reply, Store, free_port, serve, tempdir, url,
                     wait_until)
from harness.backend import as_json
from harness.http import Http
from harness.wire import Answer, Closed, Stream

HERE = os.path.dirname(os.path.abspath(__file__))
HARD = ["tab\there", "line\nbreak", "cr\rlf\r\n", "soh\x01t\x01", "\x010", "ü日\udcff", " blanks ", "", "\x01",
        "\t"]


class Wire(Case):
    """A memory table and a scripted url table."""

    def setUp(self):
        self.store, self.gates = Store(), {}
        self.backend = Backend(self, self.answer)
        self.mux = serve(self, [{"name": "mem", "type": "memory", "param": ""},
                                {"name": "a/b:c", "type": "memory", "param": ""},
                                url("u", self.backend.url + "/u/{}"),
                                url("kv", self.backend.url + "/kv/{}", timeout="2s")], ("dict", "http"))

    def answer(self, request):
        """/u/KEY is its key, after its gate if it has one; /kv/ is a store."""
        if request.path.startswith("/kv/"):
            gate = self.gates.get((request.method, request.body.decode()))
            if gate:
                gate.wait(20)
            return self.store(request)
        key = request.plain_path[len("/u/"):]
        return as_json(key, gate=self.gates.get(key))

    def client(self, name="mem", **kwargs):
        client = self.mux.dict(name, **kwargs)
        self.addCleanup(client.close)
        return client

    def raw(self, *lines):
        """A connection on which these lines were sent."""
        stream = Stream(self.mux.paths["dict"])
        self.addCleanup(stream.close)
        stream.send(b"".join(lines))
        return stream

    def closed(self, *lines):
        """The server closes without a word, and goes on serving others."""
        self.assertEqual(self.raw(*lines).rest(), b"")
        self.assertEqual(self.client().lookup("shared/none").letter, "N")


class Handshake(Wire):
    """The first line."""

    def test_nothing_is_sent_for_it(self):
        self.assertTrue(self.raw(b"H3\t2\t0\t\tmem\n").silent(0.3))

    def test_versions(self):
        for major, minor in ((2, 0), (2, 1), (2, 2), (3, 2), (4, 0), (3, 0), (4, 5)):
            with self.subTest(major=major, minor=minor):
                client = self.client(major=major, minor=minor, user="u")
                self.assertEqual(client.change(1, ("set", "shared/v", f"{major}.{minor}"), user="u").letter,
                                 "O")
                self.assertEqual(client.lookup("shared/v", "u").value, f"{major}.{minor}")

    def test_unknown_dict_is_named_in_the_log(self):
        self.closed(b"H3\t2\t0\t\tnosuch\n", b"Lshared/none\t\n")
        self.assertIn("nosuch", self.mux.log())

    def test_escaped_name(self):
        self.assertEqual(self.client("a/b:c").lookup("shared/none").letter, "N")

    def test_in_fragments(self):
        data = b"H3\t2\t0\t\tmem\nLshared/none\t\n"
        for cut in range(1, len(data)):
            stream = self.raw(data[:cut])
            time.sleep(0.001)       # lets the server read the first part; nothing shows when it has
            stream.send(data[cut:])
            self.assertEqual(re.sub(rb"^\*(\d+)\n\+\1\t", b"", stream.until(b"N")), b"", cut)

    def test_connection_without_a_word(self):
        self.raw().close()
        self.raw(b"H3\t2\t0\t\tmem\n").close()
        self.closed_after_half_close(b"")
        self.closed_after_half_close(b"H3\t2\t0\t\tmem\n")
        self.closed_after_half_close(b"H3\t2\t0\t\tmem\nLshared/no")

    def closed_after_half_close(self, data):
        stream = self.raw(data)
        stream.half_close()
        self.assertEqual(stream.rest(), b"")


class Replies(Wire):
    """Lookups: framing, order, escaping, failures."""

    def test_sync_order_for_version_2_0(self):
        """No async ids there: the slow first answer comes first."""
        client = self.client("u", major=2, minor=0)
        gate = self.gates["slow"] = threading.Event()
        slow, fast = client.start_lookup("shared/slow"), client.start_lookup("shared/fast")
        self.backend.wait_for(path="/u/slow")
        self.assertTrue(client.silent(0.2))
        gate.set()
        client.finish(fast)
        self.assertEqual(client.framing, "sync")
        self.assertEqual([answer.value for answer in client.order], ["slow", "fast"])
        self.assertEqual(slow.value, "slow")

    def test_async_ids_let_a_fast_answer_pass(self):
        for major, minor in ((2, 1), (2, 2), (3, 2), (4, 0)):
            with self.subTest(major=major, minor=minor):
                client = self.client("u", major=major, minor=minor)
                name = f"slow{major}{minor}"
                gate = self.gates[name] = threading.Event()
                slow = client.start_lookup("shared/" + name)
                self.backend.wait_for(path="/u/" + name)
                self.assertEqual(client.lookup("shared/fast").value, "fast")
                self.assertEqual(client.framing, "async")
                gate.set()
                self.assertEqual(client.finish(slow).value, name)

    def test_many_at_once(self):
        client = self.client("u")
        answers = {key: client.start_lookup("shared/" + key) for key in (f"k{number}" for number in range(500))}
        for key, answer in answers.items():
            self.assertEqual(client.finish(answer).value, key)

    def test_fragments_at_every_position(self):
        data = b"B1\t\nS1\tshared/f\t1\nC1\nLshared/f\t\nI0\t0\tshared/\t\n"
        for cut in range(1, len(data)):
            with self.subTest(cut=cut):
                client = self.client()
                client.send(data[:cut])
                time.sleep(0.001)   # lets the server read the first part; nothing shows when it has
                client.send(data[cut:])
                wanted = [Answer(("C1",)), Answer(("Lshared/f", "")), Answer(("I0", "0", "shared/"))]
                client.pending += wanted
                for answer in wanted:
                    client.finish(answer)
                self.assertEqual([answer.letter for answer in wanted], ["O", "O", "O"])
                self.assertEqual((wanted[1].value, wanted[2].rows), ("1", [("shared/f", "1")]))
                client.close()

    def test_escaping_both_ways(self):
        client = self.client()
        for number, value in enumerate(HARD):
            key = f"shared/esc/{number}/{value}"
            with self.subTest(value):
                self.assertEqual(client.change(number + 1, ("set", key, value)).letter, "O")
                self.assertEqual(client.lookup(key).value, value)
        rows = client.iterate("shared/esc/", flags=1).rows
        wanted = [(f"shared/esc/{number}/{value}", value) for number, value in enumerate(HARD)]
        self.assertEqual(sorted(rows), sorted(wanted))

    def test_escaping_towards_a_backend(self):
        """What Dovecot escaped reaches the backend as it was; what a backend says is escaped."""
        client = self.client("kv")
        for number, value in enumerate(HARD):
            if "\udcff" in value:
                continue
            with self.subTest(value):
                self.assertEqual(client.change(number + 1, ("set", "shared/v", value)).letter, "O")
                self.assertEqual(self.store.data["/kv/v"], value)
                self.assertEqual(client.lookup("shared/v").value, value)

    def test_carriage_return_before_the_line_end(self):
        self.client().change(1, ("set", "shared/a", "value"))
        stream = self.raw(b"H3\t2\t0\t\tmem\r\nLshared/a\t\r\n")
        self.assertIn(b"Ovalue", stream.until(b"value") + b"value")

    def test_long_value(self):
        """Dovecot limits nothing in either direction; of escapes each byte may be two."""
        client = self.client()
        for number, value in enumerate(("v" * 100000, "v" * 200001, "\x01" * 200001, "\r\n" * 200000)):
            self.assertEqual(client.change(number + 1, ("set", "shared/long", value)).letter, "O")
            self.assertEqual(client.lookup("shared/long").value, value)
            self.assertEqual(client.iterate("shared/").rows, [("shared/long", value)])

    def test_failure_says_why(self):
        self.backend.kill()
        for path in ("shared/x", "shared/y"):
            answer = self.client("u").lookup(path)
            self.assertEqual(answer.letter, "F")
            self.assertTrue(answer.value)
        answer = self.client("u").iterate("shared/x/")
        self.assertEqual((answer.letter, bool(answer.value)), ("F", True))

    def test_private_key_without_user(self):
        for major in (2, 3, 4):
            client = self.client(major=major)
            answer = client.lookup("priv/x")
            self.assertEqual((answer.letter, bool(answer.value)), ("F", True), major)
            self.assertEqual(client.iterate("priv/").letter, "F")
            self.assertEqual(client.lookup("shared/x").letter, "N")

    def test_user_of_the_first_line(self):
        """Major 2 has it there; 3 and 4 with each command."""
        self.client(major=2, user="alice").change(1, ("set", "priv/k", "hers"))
        self.assertEqual(self.client(major=2, user="alice").lookup("priv/k").value, "hers")
        self.assertEqual(self.client(major=2, user="bob").lookup("priv/k").letter, "N")
        self.assertEqual(self.client(major=3).lookup("priv/k", "alice").value, "hers")
        self.assertEqual(self.client(major=4).lookup("priv/k", "bob").letter, "N")

    def test_further_fields_are_ignored(self):
        client = self.client()
        answer = client.ask(b"Lshared/none", "", "more", "fields")
        self.assertEqual(client.finish(answer).letter, "N")

    def test_iteration_rows(self):
        client = self.client()
        client.change(1, *[("set", "shared/" + key, key) for key in ("p/a", "p/b", "p/s/c", "p", "pq/d")])
        full = sorted((f"shared/{key}", key) for key in ("p/a", "p/b", "p/s/c"))
        self.assertEqual(sorted(client.iterate("shared/p/", flags=1).rows), full)
        self.assertEqual(sorted(client.iterate("shared/p/").rows), full[:2])
        self.assertEqual(sorted(client.iterate("shared/p/", flags=33).rows), full)
        self.assertEqual(sorted(client.iterate("shared/p/", flags=9).rows), [(key, "") for key, _ in full])
        self.assertEqual(client.iterate("shared/p", flags=16).rows, [("shared/p", "p")])
        self.assertEqual([key for key, _ in client.iterate("shared/p/", flags=3).rows],
                         [key for key, _ in full])
        self.assertEqual(len(client.iterate("shared/p/", flags=1, rows=2).rows), 2)
        self.assertEqual(client.iterate("shared/none/", flags=1).rows, [])

    def test_sorted_by_value(self):
        client = self.client()
        client.change(1, *[("set", f"shared/s/{key}", value) for key, value in zip("abcd", "3121")])
        rows = [(f"shared/s/{key}", value) for key, value in zip("bdca", "1123")]
        self.assertEqual(client.iterate("shared/s/", flags=4).rows, rows)
        self.assertEqual(client.iterate("shared/s/", flags=4, rows=3).rows, rows[:3])

    def test_long_iteration(self):
        """40,000 rows of 600 bytes: 24 MB held by the table. Its answer may hold them once, and once more
        as what is to be sent; clients that leave in the midst give all of it back. (The bound leaves room
        for a sanitizer.)"""
        client = self.client()
        for number in range(1, 9):
            client.begin(number)
            client.send(b"".join(b"S%d\tshared/l/%d-%d\t" % (number, number, row) + b"v" * 600 + b"\n"
                                 for row in range(5000)))
            self.assertEqual(client.commit(number).letter, "O")
        before = self.mux.memory()
        for _ in range(20):
            stream = self.raw(b"H3\t2\t0\t\tmem\nI1\t0\tshared/l/\t\n")
            stream.until(b"Oshared/l/")
            stream.close()
        answer = client.iterate("shared/l/")
        self.assertEqual((answer.letter, len(answer.rows)), ("O", 40000))
        self.assertEqual(set(value for _, value in answer.rows), {"v" * 600})
        self.assertLess(self.mux.memory() - before, 200 << 20)

    def test_an_iteration_larger_than_one_answer(self):
        """45 MB whose escapes make 90 of them: row by row."""
        client = self.client()
        for number in range(1, 4):
            client.begin(number)
            for row in range(30):
                client.send(b"S%d\tshared/e/%d-%d\t" % (number, number, row) + b"\x01t" * 500000 + b"\n")
            self.assertEqual(client.commit(number).letter, "O")
        answer = client.iterate("shared/e/")
        self.assertEqual((answer.letter, len(answer.rows)), ("O", 90))
        self.assertEqual(set(value for _, value in answer.rows), {"\t" * 500000})
        self.assertEqual(client.iterate("shared/e/", flags=8, rows=2).rows, [("shared/e/1-0", ""), ("shared/e/1-1", "")])

    def test_half_close(self):
        gate = self.gates["late"] = threading.Event()
        client = self.client("u")
        late, other = client.start_lookup("shared/late"), client.start_lookup("shared/other")
        client.half_close()
        self.backend.wait_for(path="/u/late")
        gate.set()
        self.assertEqual((client.finish(late).value, client.finish(other).value), ("late", "other"))
        self.assertEqual(client.rest(), b"")


class Transactions(Wire):
    """Changes on the memory table."""

    def test_interleaved(self):
        """Several open at once, lookups and listings in between, nothing seen before its commit."""
        client = self.client()
        client.begin(3)
        client.set(3, "shared/a", "3")
        client.begin(4)
        client.set(4, "shared/b", "4")
        self.assertEqual(client.lookup("shared/a").letter, "N")
        client.set(3, "shared/c", "3")
        self.assertEqual(client.iterate("shared/").rows, [])
        self.assertEqual(client.commit(4).letter, "O")
        self.assertEqual(client.lookup("shared/a").letter, "N")
        self.assertEqual(client.lookup("shared/b").value, "4")
        self.assertEqual(client.commit(3).letter, "O")
        self.assertEqual(sorted(client.iterate("shared/").rows),
                         [("shared/a", "3"), ("shared/b", "4"), ("shared/c", "3")])

    def test_pipelined_commits(self):
        client = self.client()
        for number in range(1, 200):
            client.begin(number)
            client.set(number, "shared/last", str(number))
            client.start_commit(number)
        while client.pending:
            client.step()
        self.assertEqual({answer.letter for answer in client.order}, {"O"})
        self.assertEqual(client.lookup("shared/last").value, "199")

    def test_same_numbers_on_two_connections(self):
        one, two = self.client(), self.client()
        for client, value in ((one, "one"), (two, "two")):
            client.begin(1)
            client.set(1, "shared/" + value, value)
        self.assertEqual((one.commit(1).letter, two.lookup("shared/two").letter), ("O", "N"))
        self.assertEqual(two.commit(1).letter, "O")
        self.assertEqual(one.lookup("shared/two").value, "two")

    def test_number_can_be_used_again(self):
        client = self.client()
        for value in ("a", "b"):
            self.assertEqual(client.change(1, ("set", "shared/k", value)).letter, "O")
        client.begin(1)
        client.rollback(1)
        self.assertEqual(client.change(1, ("set", "shared/k", "c")).letter, "O")
        self.assertEqual(client.lookup("shared/k").value, "c")

    def test_rollback_and_lost_connection(self):
        client = self.client()
        client.begin(1)
        client.set(1, "shared/r", "1")
        client.rollback(1)
        client.begin(2)
        client.set(2, "shared/r", "2")
        self.assertEqual(client.lookup("shared/r").letter, "N")
        client.close()
        self.assertEqual(self.client().lookup("shared/r").letter, "N")

    def test_order_within(self):
        client = self.client()
        self.assertEqual(client.change(1, ("unset", "shared/q"), ("set", "shared/q", "5")).letter, "O")
        self.assertEqual(client.lookup("shared/q").value, "5")
        self.assertEqual(client.change(2, ("set", "shared/q", "6"), ("inc", "shared/q", 4),
                                       ("inc", "shared/q", -1)).letter, "O")
        self.assertEqual(client.lookup("shared/q").value, "9")
        self.assertEqual(client.change(3, ("set", "shared/q", "6"), ("unset", "shared/q")).letter, "O")
        self.assertEqual(client.lookup("shared/q").letter, "N")

    def test_all_or_nothing(self):
        client = self.client()
        client.change(1, ("set", "shared/word", "word"))
        answer = client.change(2, ("set", "shared/first", "1"), ("inc", "shared/word", 1))
        self.assertEqual((answer.letter, bool(answer.value)), ("F", True))
        self.assertEqual(client.change(3, ("set", "shared/first", "1"), ("inc", "shared/none", 1)).letter,
                         "N")
        self.assertEqual(client.lookup("shared/first").letter, "N")
        self.assertEqual(client.lookup("shared/none").letter, "N")

    def test_increments(self):
        client = self.client()
        client.change(1, ("set", "shared/n", "9223372036854775800"))
        self.assertEqual(client.change(2, ("inc", "shared/n", 7)).letter, "O")
        self.assertEqual(client.lookup("shared/n").value, "9223372036854775807")
        self.assertEqual(client.change(3, ("inc", "shared/n", 1)).letter, "F")
        self.assertEqual(client.lookup("shared/n").value, "9223372036854775807")

    def test_set_after_increment(self):
        client = self.client()
        client.change(1, ("set", "shared/n", "1"))
        self.assertEqual(client.change(2, ("inc", "shared/n", 1), ("set", "shared/n", "7"),
                                       ("inc", "shared/n", 1)).letter, "O")
        self.assertEqual(client.lookup("shared/n").value, "8")

    def test_ten_thousand_sets_in_one(self):
        client = self.client()
        client.begin(1)
        client.send(b"".join(b"S1\tshared/many/%d\t%d\n" % (number, number) for number in range(10000)))
        self.assertEqual(self.client().iterate("shared/many/").rows, [])
        self.assertEqual(client.commit(1).letter, "O")
        self.assertEqual(sorted(client.iterate("shared/many/").rows),
                         sorted((f"shared/many/{number}", str(number)) for number in range(10000)))

    def test_sent_again_after_a_drop(self):
        """2.4.2 and later send sets and unsets once more, on a new connection and with the same number."""
        self.client().change(1, ("set", "shared/gone", "1"))
        lines = b"H4\t0\t0\t\tmem\nB1\t\t0\nS1\tshared/k\tv\nU1\tshared/gone\nC1\n"
        for _ in range(2):
            stream = self.raw(lines)
            stream.until(b"O1\n")
            stream.close()
        self.assertEqual(self.client().iterate("shared/").rows, [("shared/k", "v")])

    def test_equal_increments_are_two(self):
        """No client sends an increment again, so two that look the same are meant as two: also under the
        same number, on one connection and on two."""
        self.client().change(1, ("set", "shared/n", "0"))
        for client in (self.client(major=4), self.client(major=4)):
            for _ in range(2):
                self.assertEqual(client.change(1, ("inc", "shared/n", 1)).letter, "O")
        self.assertEqual(self.client().lookup("shared/n").value, "4")

    def test_increments_from_many_connections(self):
        self.client().change(1, ("set", "shared/n", "0"))

        def work():
            with self.mux.dict("mem") as client:
                for number in range(1, 101):
                    client.change(number, ("inc", "shared/n", 1))
        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        self.assertEqual(self.client().lookup("shared/n").value, "800")

    def test_expiry_is_kept_or_refused(self):
        client = self.client(major=4)
        client.begin(1, expire=1)
        client.set(1, "shared/e", "v")
        if client.commit(1).letter == "O":
            end = time.monotonic() + 10
            while client.lookup("shared/e").letter != "N":
                self.assertLess(time.monotonic(), end, "a key with an expiry of 1 s is still there")
                time.sleep(0.1)

    def test_private_without_user(self):
        client = self.client()
        answer = client.change(1, ("set", "priv/k", "v"))
        self.assertEqual((answer.letter, bool(answer.value)), ("F", True))
        self.assertEqual(client.change(2, ("set", "priv/k", "v"), user="u").letter, "O")

    def test_old_commit_letter(self):
        """D, of 2.2.24 and before: its answer has an A in front."""
        stream = self.raw(b"H2\t0\t0\t\tmem\nB1\nS1\tshared/d\tv\nD1\n")
        self.assertEqual(stream.until(b"\n"), b"AO1")

    def test_order_of_changes_on_a_slow_backend(self):
        """Two commits on one connection, the first one slow: they arrive in their order."""
        gate = self.gates["POST", "1"] = threading.Event()
        client = self.client("kv")
        for number in (1, 2, 3):
            client.begin(number)
            client.set(number, "shared/k", str(number))
            client.start_commit(number)
        self.backend.wait_for(method="POST")
        time.sleep(0.2)             # a second request that overtakes would come now
        gate.set()
        while client.pending:
            client.step()
        self.assertEqual([request.body for request in self.backend.seen(method="POST")], [b"1", b"2", b"3"])
        self.assertEqual({answer.letter for answer in client.order}, {"O"})

    def test_change_whose_client_leaves(self):
        """It was committed: it is carried out."""
        gate = self.gates["POST", "1"] = threading.Event()
        client = self.client("kv")
        client.begin(1)
        client.set(1, "shared/one", "1")
        client.set(1, "shared/two", "2")
        client.start_commit(1)
        self.backend.wait_for(method="POST")
        client.close()
        gate.set()
        self.backend.wait_for(2, method="POST")
        self.assertEqual(self.store.data.get("/kv/one"), 1)

    def test_failing_backend(self):
        """F: nothing was written; W: perhaps it was."""
        self.backend.handler = lambda request: Reply(status=500)
        answer = self.client("kv").change(1, ("set", "shared/k", "1"))
        self.assertEqual((answer.letter, bool(answer.value)), ("F", True))
        self.backend.handler = lambda request: Reply(hangup=True)
        answer = self.client("kv").change(1, ("set", "shared/k", "1"))
        self.assertEqual((answer.letter, bool(answer.value)), ("W", True))
        self.backend.handler = lambda request: Reply(status=204 if request.path.endswith("/a") else 500)
        answer = self.client("kv").change(1, ("set", "shared/a", "1"), ("set", "shared/b", "1"))
        self.assertEqual((answer.letter, bool(answer.value)), ("W", True))


H2, H3, H4 = (b"H%d\t%d\t0\t%s\tmem\n" % hello for hello in ((2, 2, b"alice"), (3, 2, b""), (4, 0, b"")))

# What is no protocol ends the connection without a word. By the reason that it is counted under.
ENDS = {
    "bad_hello": (b"\n", b"\r\n", b"\0\n", b"H\n", b"H3\n", b"H3\t2\n", b"H3\t2\t0\n", b"H3\t2\t0\tmem\n",
                  b"Hx\t2\t0\t\tmem\n", b"H3\tx\t0\t\tmem\n", b"H3\t2\tx\t\tmem\n", b"H3\t2\t\t\tmem\n",
                  b"H-3\t2\t0\t\tmem\n", b"H33333333333333333333\t2\t0\t\tmem\n", b"H3\t2\t0\t\tme\0m\n",
                  b"H3\t2\t0\t\tme\x010m\n", b"h3\t2\t0\t\tmem\n", b"Lshared/none\t\n", b"C1\n",
                  b"GET / HTTP/1.1\r\n\r\n", b"3:a b,\n"),
    "bad_version": (b"H0\t0\t0\t\tmem\n", b"H1\t0\t0\t\tmem\n", b"H5\t0\t0\t\tmem\n", b"H9\t2\t0\t\tmem\n"),
    "bad_value_type": (b"H2\t2\t2\t\tmem\n", b"H3\t2\t1\t\tmem\n", b"H4\t0\t1\t\tmem\n"),
    "unknown_command": (H3 + b"\n", H3 + b"Zfoo\n", H3 + b"\0\n", H3 + H3, H3 + b"lshared/none\t\n",
                        H3 + b"B1\t\nP1\tshared/a\tv\n", H2 + b"B1\nV1\tyes\n", H4 + b"B1\t\nD1\n"),
    "bad_fields": (H3 + b"I\n", H3 + b"I0\t0\n", H3 + b"I0\tshared/\n", H3 + b"Ix\t0\tshared/\t\n",
                   H3 + b"I0\tx\tshared/\t\n", H3 + b"I-1\t0\tshared/\t\n", H3 + b"B\n", H3 + b"Bx\t\n",
                   H3 + b"B-1\t\n", H3 + b"B4294967296\t\n", H4 + b"B1\t\tx\n", H3 + b"S1\tshared/a\n", H3 + b"C\n",
                   H3 + b"B1\t\nS1\n", H3 + b"B1\t\nS1\tshared/a\n", H3 + b"B1\t\nS1\tshared/a\tb\tc\n",
                   H3 + b"B1\t\nU1\n", H3 + b"B1\t\nU1\tshared/a\tb\n", H3 + b"B1\t\nA1\tshared/a\n",
                   H3 + b"B1\t\nA1\tshared/a\tx\n", H3 + b"B1\t\nA1\tshared/a\t9223372036854775808\n",
                   H3 + b"B1\t\nT1\t1\n", H3 + b"B1\t\nV1\n", H2 + b"B1\nP1\tshared/a\n"),
    "duplicate_transaction": (H3 + b"B1\t\nS1\tshared/a\tv\nB1\t\n",),
    "unknown_transaction": (H3 + b"S9\tshared/a\tv\n", H3 + b"U9\tshared/a\n", H3 + b"A9\tshared/a\t1\n",
                            H3 + b"T9\t1\t1\n", H3 + b"V9\tyes\n", H3 + b"R9\n", H3 + b"C9\n", H2 + b"D9\n",
                            H3 + b"B9\t\nS9\tshared/a\tv\nR9\nC9\n"),
    "unknown_table": (b"H3\t2\t0\t\tnosuch\n", b"H3\t2\t0\t\tMEM\nLshared/none\t\n", b"H3\t2\t0\t\tmem\x01t\nB1\t\nC1\n",
                      b"H3\t2\t0\t\t\nLpriv/none\t\n", b"H2\t0\t0\tu\tnosuch\nLnone\n"),
    "too_many_transactions": (H3 + b"".join(b"B%d\t\n" % number for number in range(2001)),),
    "line_too_long": (H3 + b"L" + b"k" * (1 << 20) + b"\n", b"H" * ((1 << 20) + 1)),
}

# What is a line of the protocol and cannot be done fails alone: the reply, and those to the lines behind it.
FAILS = {
    "bad_key": ((H3, b"Lnone\tu\n", b"F"), (H3, b"L\tu\n", b"F"), (H3, b"L\n", b"F"), (H3, b"Lpriv\tu\n", b"F"),
                (H3, b"LSHARED/none\tu\n", b"F"), (H3, b"L/shared/none\tu\n", b"F"), (H3, b"Lshared/a\0b\t\n", b"F"),
                (H3, b"Lshared/a\x010b\t\n", b"F"), (H3, b"I0\t0\t\tu\n", b"F"), (H3, b"I0\t0\tnone/\tu\n", b"F"),
                (H3, b"B1\t\nS1\tshared/a\tv\nU1\tnone\nC1\n", b"F1\t"),
                (H3, b"B1\t\nA1\tshared/a\x010\t1\nC1\n", b"F1\t")),
    "no_user": ((H3, b"Lpriv/a\t\n", b"F"), (H3, b"Lpriv/a\n", b"F"), (H4, b"I1\t0\tpriv/\t\n", b"F"),
                (H4, b"B1\t\t0\nS1\tpriv/a\tv\nC1\n", b"F1\t"), (b"H2\t2\t0\t\tmem\n", b"Lpriv/a\tbob\n", b"F")),
    "bad_user": ((H3, b"Lshared/a\tu\x010\n", b"F"), (H3, b"B1\tu\0\nU1\tpriv/a\nC1\n", b"F1\t")),
    "bad_value": ((H3, b"B1\t\nS1\tshared/a\ta\0b\nC1\n", b"F1\t"),
                  (H3, b"B1\t\nS1\tshared/a\ta\x010b\nC1\n", b"F1\t")),
    "append": ((H2, b"B1\nS1\tshared/a\tv\nP1\tshared/a\tw\nC1\n", b"F1\t"),),
    "many_paths": ((H2, b"I0\t0\tshared/a/\tshared/b/\n", b"F"),),
    "too_many_transactions": ((H3, b"".join(b"B%d\t\n" % number for number in range(1001)) + b"C1000\n", b"F1000\t"),),
    "too_big": ((H3, b"B1\t\n" + b"A1\tshared/a\t1\n" * 100001 + b"C1\n", b"F1\t"),),
}


class Broken(Wire):
    """What must not be answered, or fails by itself."""

    def errors(self):
        """How often what was wrong with dict, so far."""
        with Http(self.mux.paths["http"]) as http:
            counts = http.metrics().all("mapmux_protocol_errors_total", protocol="dict")
        return {dict(labels)["reason"]: count for labels, count in counts.items()}

    def others(self):
        """A client that waits for an answer and has a transaction open; what it says when all is over."""
        gate = self.gates["held"] = threading.Event()
        client = self.client("u")
        held = client.start_lookup("shared/held")
        self.backend.wait_for(path="/u/held")
        writer = self.client()
        writer.begin(1)
        writer.set(1, "shared/kept", "v")

        def check():
            gate.set()
            self.assertEqual(client.finish(held).value, "held")
            self.assertEqual(writer.commit(1).letter, "O")
            self.assertEqual(writer.iterate("shared/").rows, [("shared/kept", "v")])
        return check

    def test_lines_that_end_the_connection(self):
        """Without a word; what follows them is not answered, nothing is changed, others are served."""
        check, errors = self.others(), self.errors()
        for reason, all_lines in ENDS.items():
            for lines in all_lines:
                with self.subTest(reason, lines=lines[:80]):
                    stream = self.raw()
                    try:
                        stream.send(lines + b"B5\t\nS5\tshared/a\tv\nC5\n")
                    except OSError:
                        pass    # it was closed before all was sent
                    self.assertEqual(stream.rest(), b"")
                    errors[reason] = errors.get(reason, 0) + 1
                    self.assertEqual(self.errors(), errors)
        check()

    def test_lines_that_fail_alone(self):
        check, errors = self.others(), self.errors()
        for reason, cases in FAILS.items():
            for hello, lines, reply in cases:
                with self.subTest(reason, lines=lines[:80]):
                    stream = self.raw(hello, lines, b"Lshared/none\t\n")
                    failed = Replay.body(stream)
                    self.assertTrue(failed.startswith(reply) and len(failed) > len(reply), failed)
                    self.assertEqual(Replay.body(stream), b"N")
                    errors[reason] = errors.get(reason, 0) + 1
                    self.assertEqual(self.errors(), errors)
                    stream.close()
        check()

    def test_lines_that_only_look_bad(self):
        """Nothing is counted and nothing fails."""
        self.client().change(1, ("set", "shared/a", "v"))
        for lines, replies in (
                (H3 + b"Lshared/a\n", [b"Ov"]), (H3 + b"Lshared/a\tu\tmore\tfields\r\n", [b"Ov"]),
                (H2 + b"Lshared/a\tbob\n", [b"Ov"]), (H2[:-1] + b"\tmore\n" + b"Lshared/a\n", [b"Ov"]),
                (b"H2\t2\t1\t\tmem\nLshared/a\n", [b"Ov"]), (H3 + b"L\x01shared/a\x01\t\n", [b"Ov"]),
                (H3 + b"Lshared/\t\nLshared//\t\nLshared/a/\t\n", [b"N", b"N", b"N"]),
                (H3 + b"I33\t0\tshared/\n", [b"Oshared/a\tv", b""]),
                (H3 + b"I4294967264\t0\tshared/\tu\tmore\n", [b"Oshared/a\tv", b""]),
                (H3 + b"I16\t0\tshared/none\t\n", [b""]),
                (H3 + b"B1\nT1\t1\t1\nV1\tyes\nC1\tmore\n", [b"O1"]),
                (H3 + b"B1\t\nA1\tshared/none\t1\nC1\n", [b"N1"]),
                (H3 + b"B1\t\nU1\tshared/none\nC1\n", [b"O1"]),
                (H4 + b"B1\t\t0\tmore\nR1\tmore\nLshared/a\t\n", [b"Ov"]),
                (H2 + b"B1\nA1\tshared/none\t1\nD1\n", [b"AN1"])):
            with self.subTest(lines):
                stream = self.raw(lines)
                self.assertEqual([Replay.body(stream) for _ in replies], replies)
                stream.half_close()
                self.assertEqual(stream.rest(), b"")
        self.assertEqual(self.errors(), {})

    def test_too_many_refusals_behind_a_slow_answer(self):
        """Without numbers their replies have to wait for it; they may fill 64 KiB."""
        gate, errors = threading.Event(), self.errors()
        self.gates["slow"] = gate
        stream = self.raw(b"H2\t0\t0\t\tu\nLshared/slow\n" + b"Lx\n" * 3000)
        self.backend.wait_for(path="/u/slow")
        wait_until(lambda: self.errors().get("too_many_pending"), "the end of its patience")
        gate.set()
        lines = stream.rest().split(b"\n")
        self.assertEqual((lines[0], {line[:1] for line in lines[1:-1]}), (b"Oslow", {b"F"}))
        self.assertEqual(self.errors(), {**errors, "too_many_pending": 1, "bad_key": len(lines) - 2})

    def test_the_manual_lists_them_all(self):
        with open(os.path.join(HERE, "..", "..", "docs", "dict.md"), encoding="utf-8") as file:
            rows = re.findall(r"^\|.*\| (the end|`F`)(.*?) \| (.+) \|$", file.read(), re.M)
        listed = {"the end": set(), "`F`": set()}
        for gets, _, counted in rows:
            listed[gets] |= set(re.findall(r"`(\w+)`", counted))
        self.assertEqual(listed["the end"], set(ENDS) | {"too_many_pending", "too_much_unread"})
        self.assertEqual(listed["`F`"], set(FAILS))

    def test_bad_lines_leave_nothing_in_memory(self):
        """3,000 bad connections, and 180 that leave with a MiB in a transaction."""
        big, before = H3 + b"B1\t\nS1\tshared/a\t" + b"v" * 1000000 + b"\n", None
        short = [lines for all_lines in ENDS.values() for lines in all_lines if len(lines) < 1000]
        for _ in range(4):
            for lines in short * 10 + [big + end for end in (b"Zfoo\n", b"", b"S1\tsha") * 20]:
                with Stream(self.mux.paths["dict"]) as stream:
                    stream.send(lines)
            self.closed(b"\n")
            before = before or self.mux.memory()    # after a first round, which fills what is kept
        self.assertLess(self.mux.memory() - before, 32 << 20)

    def test_answers_before_a_broken_line_are_sent(self):
        gate = self.gates["asked"] = threading.Event()
        client = self.client("u")
        asked = client.start_lookup("shared/asked")
        self.backend.wait_for(path="/u/asked")
        client.send(b"Zfoo\n")
        gate.set()
        self.assertEqual(client.finish(asked).value, "asked")
        self.assertEqual(client.rest(), b"")


    def test_commands_without_reading(self):
        """1,000 lookups of 200 KB each by a client that does not read: it waits, others do not, and what
        waits for it is bounded. Then it reads, and all answers are there."""
        good, value = self.client(), "v" * 200000
        self.assertEqual(good.change(1, ("set", "shared/big", value)).letter, "O")
        before = self.mux.memory()
        client = self.client()
        asked = [Answer(("Lshared/big", "")) for _ in range(1000)]
        client.pending += asked
        client.send(b"Lshared/big\t\n" * len(asked))
        for _ in range(100):
            self.assertEqual(good.lookup("shared/none").letter, "N")
        self.assertLess(self.mux.memory() - before, 100 << 20)
        for answer in asked:
            self.assertTrue(client.finish(answer).value == value)

    def test_endless_line(self):
        before = self.mux.memory()
        stream = self.raw(b"H3\t2\t0\t\tmem\nL")
        with self.assertRaises((OSError, Closed)):
            for _ in range(1024):
                stream.send(b"k" * 65536)
        self.assertLess(self.mux.memory() - before, 32 << 20)
        self.assertEqual(self.client().lookup("shared/none").letter, "N")

    def test_endless_transaction(self):
        """A client that never commits cannot fill the memory: 240 MiB are sent, unless it is cut off.
        (16 MiB are gathered; sanitizers keep several bytes for each.)"""
        before = self.mux.memory()
        stream = self.raw(b"H3\t2\t0\t\tmem\nB1\t\n")
        line = b"S1\tshared/k\t" + b"v" * 60000 + b"\n"
        try:
            for _ in range(4096):
                stream.send(line)
        except OSError:
            pass
        self.assertLess(self.mux.memory() - before, 100 << 20)
        self.assertEqual(self.client().lookup("shared/none").letter, "N")

    def test_bad_client_does_not_disturb_a_good_one(self):
        good = self.client("u")
        for number in range(50):
            with Stream(self.mux.paths["dict"]) as bad:
                bad.send([b"Zfoo\n", b"H3\t2\t0\t\tmem\n\n", b"H3\t2\t0\t\tmem\nLshared/a",
                          b"\0" * 100][number % 4])
            self.assertEqual(good.lookup(f"shared/k{number}").value, f"k{number}")

    def test_value_with_nul(self):
        self.store.data["/kv/nul"] = "a\0b"
        self.assertEqual(self.client("kv").lookup("shared/nul").letter, "F")


def unquote(text):
    """The notation of the transcripts, as bytes."""
    def byte(match):
        word = match.group(1)
        return {"t": "\t", "n": "\n", "r": "\r", "\\": "\\"}.get(word) or chr(int(word[1:], 16))
    return re.sub(r"\\(x[0-9a-f]{2}|[tnr\\])", byte, text).encode("latin-1")


class Replay(Wire):
    """Sessions of real clients: the bytes they sent, and what the reference server said."""

    def replay(self, path):
        with open(path, encoding="ascii") as file:
            lines = [line.rstrip("\n") for line in file if not line.startswith("#")]
        stream, wanted = self.raw(), []
        for line in lines + ["C: "]:
            data = unquote(line[3:])
            if line.startswith("S:"):
                wanted.append(data)
                continue
            if wanted:      # the server's lines since the last command: rows in any order, the end last
                got = [self.body(stream) for _ in wanted]
                self.assertEqual((sorted(got[:-1]), got[-1]), (sorted(wanted[:-1]), wanted[-1]),
                                 f"{os.path.basename(path)}: {line}")
                wanted = []
            stream.send(data)
        self.assertTrue(stream.silent(0.1), "something was sent that nobody asked for")

    @staticmethod
    def body(stream):
        """The next reply without its async framing and without times."""
        line = stream.until(b"\n")
        while re.fullmatch(rb"\*\d+", line):
            line = stream.until(b"\n")
        line = re.sub(rb"^\+\d+\t", b"", line)
        return re.sub(rb"\t\d+\t\d+\t\d+\t\d+$", b"", line)

    def test_transcripts(self):
        paths = sorted(glob.glob(os.path.join(HERE, "transcripts", "*.txt")))
        self.assertGreaterEqual(len(paths), 5)
        for path in paths:
            with self.subTest(os.path.basename(path)):
                self.mux.stop()
                self.mux = serve(self, [{"name": "mem", "type": "memory", "param": ""}], ("dict",))
                self.replay(path)


class Ways(Case):
    """TCP as well, and default tables."""

    def test_tcp(self):
        port = free_port()
        Mapmux(self, "--listen", f"dict:127.0.0.1:{port}", "--name", "m", "--type", "memory", "--param", "")
        with Dict(("127.0.0.1", port), "m") as client:
            self.assertEqual(client.change(1, ("set", "shared/a", "1")).letter, "O")
            self.assertEqual(client.lookup("shared/a").value, "1")

    def test_default_table(self):
        path = tempdir(self) + "/d"
        Mapmux(self, "--listen", f"dict:unix:{path},table=m", "--name", "m", "--type", "memory", "--param",
               "")
        with Dict(path, "") as client:
            self.assertEqual(client.lookup("shared/a").letter, "N")


if __name__ == "__main__":
    unittest.main()
