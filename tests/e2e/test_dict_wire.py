"""Dovecot's dict protocol as bytes: versions, framing, transactions, replayed sessions."""

import glob
import os
import re
import threading
import time
import unittest

from harness import Backend, Case, Dict, Mapmux, Reply, Store, free_port, serve, tempdir, url
from harness.backend import as_json
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
                                url("kv", self.backend.url + "/kv/{}", timeout="2s")], ("dict",))

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

    def test_wrong_versions_close(self):
        for head in (b"H1\t0", b"H5\t0", b"H9\t2", b"H0\t0", b"H\t2", b"Hx\t2", b"H-3\t2",
                     b"H33333333333333333333\t2"):
            with self.subTest(head):
                self.closed(head + b"\t0\t\tmem\n", b"Lshared/none\t\n")

    def test_malformed_first_lines_close(self):
        for line in (b"\n", b"H3\n", b"H3\t2\n", b"H3\t2\t0\n", b"H3\t2\t0\tmem\n", b"Lshared/a\t\n",
                     b"GET / HTTP/1.1\r\n\r\n", b"\0\n"):
            with self.subTest(line):
                self.closed(line)

    def test_unknown_dict_closes(self):
        for name in (b"nosuch", b"MEM", b"mem\x01t", b""):
            with self.subTest(name):
                self.closed(b"H3\t2\t0\t\t" + name + b"\n", b"Lshared/none\t\n")
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
        client, value = self.client(), "v" * 100000
        self.assertEqual(client.change(1, ("set", "shared/long", value)).letter, "O")
        self.assertEqual(client.lookup("shared/long").value, value)

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


class Broken(Wire):
    """What must not be answered."""

    def test_broken_lines_close(self):
        """Without a word; what follows them is not answered; others are served."""
        for line in (b"Zfoo\n", b"\n", b"H3\t2\t0\t\tmem\n", b"I0\tshared/\n", b"Ix\t0\tshared/\t\n",
                     b"I0\tx\tshared/\t\n", b"B1\t\nS1\tshared/a\n",
                     b"B1\t\nS1\n", b"B1\t\nU1\n", b"B1\t\nA1\tshared/a\n", b"Bx\t\n", b"B\t\n"):
            with self.subTest(line):
                self.closed(b"H3\t2\t0\t\tmem\n", line, b"Lshared/none\t\n")

    def test_answers_before_a_broken_line_are_sent(self):
        gate = self.gates["asked"] = threading.Event()
        client = self.client("u")
        asked = client.start_lookup("shared/asked")
        self.backend.wait_for(path="/u/asked")
        client.send(b"Zfoo\n")
        gate.set()
        self.assertEqual(client.finish(asked).value, "asked")
        self.assertEqual(client.rest(), b"")

    def test_unknown_transaction(self):
        """Whatever it does, it does not say that something was written."""
        for lines in (b"S9\tshared/a\tv\nC9\n", b"U9\tshared/a\nC9\n", b"C9\n", b"A9\tshared/a\t1\nC9\n",
                      b"B9\t\nR9\nC9\n"):
            with self.subTest(lines):
                stream = self.raw(b"H3\t2\t0\t\tmem\n" + lines)
                stream.half_close()
                self.assertNotIn(b"O9", stream.rest())
        self.assertEqual(self.client().lookup("shared/a").letter, "N")

    def test_wrong_value_type(self):
        for value_type in (b"1", b"2", b"x", b""):
            self.closed(b"H3\t2\t" + value_type + b"\t\tmem\nLshared/none\t\n")
        self.assertEqual(self.client(major=2).lookup("shared/none").letter, "N")

    def test_key_without_prefix(self):
        """Nothing but this command fails."""
        for key in ("none", "", "/shared/none", "SHARED/none", "priv"):
            client = self.client()
            for answer in (client.lookup(key, "u"), client.iterate(key, "u"),
                           client.change(1, ("set", key, "v"), user="u")):
                self.assertEqual((answer.letter, bool(answer.value)), ("F", True), key)
            self.assertEqual(client.lookup("shared/none").letter, "N")

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
