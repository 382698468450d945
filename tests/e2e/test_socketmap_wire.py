"""Socketmap as bytes on a real socket: fragments, pipelines, broken requests, bad neighbours."""

import contextlib
import os
import threading
import time
import unittest

from harness import Backend, Case, Mapmux, Reply, Socketmap, free_port, run, serve, tempdir, wait_until
from harness.wire import Closed, netstring


def cpu_seconds(pid):
    """What the process has used so far."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


BROKEN = {
    "no length": b":x,", "letters": b"abc:", "letter in the length": b"5x:t key,", "sign": b"+5:t key,",
    "minus": b"-5:t key,", "blank before": b" 5:t key,", "line break before": b"\n5:t key,",
    "no comma": b"5:t keyX",
    "line break for a comma": b"5:t key\n", "overflow": b"99999999999999999999:t key,",
    "overflow of 32 bits": b"4294967301:t key,",
    "too much": b"999999999:t key,", "endless length": b"1" * 10240,
    "http": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "zeros": b"\0" * 64,
}


class Wire(Case):
    """One static and one scripted url table."""

    @classmethod
    def setUpClass(cls):
        cls.gates = {}
        cls.backend = Backend(cls, cls.answer)
        cls.mux = serve(cls, [{"name": "t", "type": "static", "param": "key=value other=second"},
                              {"name": "u", "type": "url", "param": cls.backend.url + "/u/{}"}],
                              ("socketmap",))

    @classmethod
    def answer(cls, request):
        """The key is its own value; slow-N waits N milliseconds; gate-X waits for its gate."""
        key = request.path.rsplit("/", 1)[1]
        reply = Reply(b'"%b"' % key.encode())
        if key.startswith("slow-"):
            reply.delay = int(key.split("-")[1]) / 1000
        reply.gate = cls.gates.get(key)
        return reply

    def client(self):
        client = self.mux.socketmap()
        self.addCleanup(client.close)
        return client

    def still_good(self):
        """A new client is served as if nothing had happened."""
        self.assertEqual(self.mux.ask("t", "key"), ("OK", "value"))

    # well-formed

    def test_reply_bytes(self):
        client = self.client()
        client.send(b"5:t key,")
        self.assertEqual(client.exactly(len(b"8:OK value,")), b"8:OK value,")
        client.send(b"6:t nope,")
        self.assertEqual(client.exactly(len(b"9:NOTFOUND ,")), b"9:NOTFOUND ,")

    def test_fragments_at_every_position(self):
        stream = netstring("t key") + netstring("t nope") + netstring("u one") + netstring("t other")
        expected = [("OK", "value"), ("NOTFOUND", ""), ("OK", "one"), ("OK", "second")]
        client = self.client()
        for cut in range(len(stream) + 1):
            with self.subTest(cut=cut):
                client.send(stream[:cut])
                time.sleep(0.001)       # lets the server read the first part; nothing shows when it has
                client.send(stream[cut:])
                got = [client.reply() for _ in expected]
                self.assertEqual([(status, "" if status == "NOTFOUND" else text) for status, text in got],
                                 expected)

    def test_byte_by_byte(self):
        client = self.client()
        for byte in netstring("t key") * 3:
            client.send(bytes([byte]))
        self.assertEqual([client.reply() for _ in range(3)], [("OK", "value")] * 3)

    def test_pipeline_keeps_its_order(self):
        """The first key is the slowest, the last needs no backend at all."""
        client = self.client()
        client.send(netstring("u slow-400") + netstring("u slow-200") + netstring("u fast") + netstring("t key"))
        self.assertEqual([client.reply()[1] for _ in range(4)], ["slow-400", "slow-200", "fast", "value"])

    def test_long_pipeline(self):
        client = self.client()
        keys = [f"key{number}" if number % 3 else "slow-1" for number in range(600)]
        client.send(b"".join(netstring("u " + key) for key in keys))
        self.assertEqual([client.reply()[1] for _ in keys], keys)

    def test_a_slow_answer_does_not_hold_up_other_clients(self):
        gate = self.gates["gate-other"] = threading.Event()
        slow = self.client()
        slow.request("u", "gate-other")
        self.backend.wait_for(path="/u/gate-other")
        try:
            self.still_good()
            self.assertEqual(self.mux.ask("u", "quick"), ("OK", "quick"))
        finally:
            gate.set()
        self.assertEqual(slow.reply(), ("OK", "gate-other"))

    def test_client_that_reads_nothing(self):
        """It sends more than any buffer holds; others are served; then it gets every answer."""
        client, count, request = self.client(), 60000, netstring("t key")
        sender = threading.Thread(target=client.send, args=(request * count,), daemon=True)
        sender.start()
        for _ in range(20):
            self.still_good()
        for number in range(count):
            self.assertEqual(client.reply(), ("OK", "value"), number)
        sender.join(10)

    def test_client_that_goes_away(self):
        gate = self.gates["gate-gone"] = threading.Event()
        client = self.client()
        client.request("u", "gate-gone")
        self.backend.wait_for(path="/u/gate-gone")
        client.close()
        self.still_good()
        gate.set()
        self.still_good()

    def test_half_close(self):
        """The end of a client's input means no more questions; those asked are answered."""
        client = self.client()
        client.send(netstring("u slow-300") + netstring("t key"))
        client.half_close()
        self.assertEqual([client.reply(), client.reply()], [("OK", "slow-300"), ("OK", "value")])
        self.assertEqual(client.rest(), b"")

    def test_half_close_in_mid_request(self):
        client = self.client()
        client.send(netstring("t key") + b"5:t k")
        client.half_close()
        self.assertEqual(client.reply(), ("OK", "value"))
        self.assertNotIn(b"OK", client.rest())

    def test_connection_without_a_request(self):
        self.client().close()
        client = self.client()
        client.half_close()
        self.assertEqual(client.rest(), b"")
        self.still_good()

    def test_nothing_is_sent_unasked(self):
        client = self.client()
        self.assertTrue(client.silent(0.3))
        self.assertEqual(client.ask("t", "key"), ("OK", "value"))
        self.assertTrue(client.silent(0.3))

    def test_many_connections(self):
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(self.mux.socketmap()) for _ in range(500)]
            for _ in range(3):
                for client in clients:
                    client.request("t", "key")
                for client in clients:
                    self.assertEqual(client.reply(), ("OK", "value"))

    def test_long_keys(self):
        client = self.client()
        for size in (1000, 1024, 4096, 9990, 10000):
            self.assertEqual(client.ask("t", "k" * size)[0], "NOTFOUND", size)
            self.assertEqual(client.ask("t", "key"), ("OK", "value"))

    def test_key_with_spaces(self):
        """Only the first space ends the name."""
        client = self.client()
        self.assertEqual(client.ask("t", "key ")[0], "NOTFOUND")
        self.assertEqual(client.ask("t", " key")[0], "NOTFOUND")
        self.assertEqual(client.ask("t", "key"), ("OK", "value"))

    def test_key_that_is_not_utf8(self):
        client = self.client()
        client.send(netstring(b"t \xff\xfe\x80"))
        self.assertEqual(client.reply()[0], "NOTFOUND")
        self.assertEqual(client.ask("t", "key"), ("OK", "value"))

    # broken

    def test_unknown_table(self):
        client = self.client()
        self.assertEqual(client.ask("nosuch", "key")[0], "PERM")
        self.assertEqual(client.ask("T", "key")[0], "PERM")
        self.assertEqual(client.ask("t", "key"), ("OK", "value"))

    def test_request_without_a_space(self):
        for payload in ("t", "key", "nosuch"):
            with self.subTest(payload=payload):
                client = self.client()
                client.send(netstring(payload))
                self.assertEqual(client.reply()[0], "PERM")
        self.still_good()

    def test_empty_request(self):
        client = self.client()
        client.send(b"0:,")
        self.assertEqual(client.reply()[0], "PERM")
        self.still_good()

    def test_nul_in_a_key(self):
        client = self.client()
        client.send(netstring(b"t key\0x"))
        self.assertIn(client.reply()[0], ("NOTFOUND", "PERM"))
        self.still_good()

    def test_malformed_netstrings(self):
        """The protocol's own error, then the connection closes; what was asked before is answered."""
        for name, data in BROKEN.items():
            with self.subTest(name):
                client = self.client()
                client.send(netstring("t key") + data)
                self.assertEqual(client.reply(), ("OK", "value"))
                self.assertEqual(client.reply()[0], "PERM")
                self.assertEqual(client.rest(), b"")
        self.still_good()

    def test_requests_after_a_malformed_one_are_not_answered(self):
        client = self.client()
        with contextlib.suppress(OSError):
            client.send(b"5:t keyX" + netstring("t key") * 10)
        self.assertNotIn(b"OK", client.rest())

    def test_pending_answer_comes_before_the_error(self):
        client = self.client()
        client.send(netstring("u slow-200") + b"x")
        self.assertEqual(client.reply(), ("OK", "slow-200"))
        self.assertEqual(client.reply()[0], "PERM")
        self.assertEqual(client.rest(), b"")

    def test_claimed_length_takes_no_memory(self):
        self.still_good()
        before = self.mux.memory()
        clients = [self.client() for _ in range(100)]
        for number, client in enumerate(clients):
            client.send(b"%d:t " % (99999999 if number % 2 else 9999))
        self.still_good()
        self.assertLess(self.mux.memory() - before, 16 << 20)
        for client in clients[1::2]:
            self.assertEqual(client.reply()[0], "PERM")

    def test_bad_client_does_not_disturb_a_good_one(self):
        stop, problems, count = threading.Event(), [], [0]

        def good():
            try:
                with self.mux.socketmap() as client:
                    while not stop.is_set():
                        for table, key, want in (("t", "key", "value"), ("u", "steady", "steady")):
                            got = client.ask(table, key)
                            if got != ("OK", want):
                                problems.append(got)
                        count[0] += 1
            except (AssertionError, OSError) as error:
                problems.append(error)

        threads = [threading.Thread(target=good) for _ in range(4)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(10):
                for data in BROKEN.values():
                    with self.mux.socketmap() as bad, contextlib.suppress(OSError):
                        bad.send(data)
                        bad.rest()
        finally:
            stop.set()
            for thread in threads:
                thread.join(20)
        self.assertEqual(problems, [])
        self.assertGreater(count[0], 10)

    def test_malformed_requests_are_logged_once_a_second(self):
        before, start = self.mux.log().count("\n"), time.monotonic()
        for _ in range(100):
            with self.mux.socketmap() as client:
                client.send(b"x")
                client.rest()
        took = time.monotonic() - start
        lines = self.mux.log().count("\n") - before
        self.assertLessEqual(lines, took + 3, self.mux.log()[-2000:])


class Ways(Case):
    """Several listeners at once, and how long an idle client may stay."""

    def test_unix_ipv4_and_ipv6_at_once(self):
        where, four, six = tempdir(self), free_port(), free_port()
        Mapmux(self, "--listen", f"socketmap:unix:{where}/a", "--listen",
               f"socketmap:unix:{where}/b,mode=0666",
               "--listen", f"socketmap:127.0.0.1:{four}", "--listen", f"socketmap:[::1]:{six}",
               "--name", "t", "--type", "static", "--param", "key=value")
        for address in (where + "/a", where + "/b", ("127.0.0.1", four), ("::1", six)):
            with self.subTest(address=address), Socketmap(address) as client:
                self.assertEqual(client.ask("t", "key"), ("OK", "value"))

    def test_idle_timeout(self):
        path = tempdir(self) + "/s"
        Mapmux(self, "--listen", f"socketmap:unix:{path},idle_timeout=1s", "--name", "t", "--type", "static",
               "--param", "key=value")
        with Socketmap(path) as client:
            start = time.monotonic()
            while time.monotonic() - start < 1.5:       # a client that asks is not idle
                self.assertEqual(client.ask("t", "key"), ("OK", "value"))
                time.sleep(0.2)
            start = time.monotonic()
            self.assertEqual(client.rest(), b"")
            self.assertLess(time.monotonic() - start, 5)

    def test_a_client_too_many(self):
        """He is told to try again, not cut off; those who were there before notice nothing."""
        path = tempdir(self) + "/s"
        Mapmux(self, "--listen", f"socketmap:unix:{path},max_connections=2", "--name", "t", "--type", "static",
               "--param", "key=value")
        with self.admitted(path) as one, self.admitted(path) as two:
            with Socketmap(path) as three:
                self.assertEqual(three.ask("t", "key"), ("TEMP", "too many connections"))
                self.assertEqual(three.rest(), b"")
            with Socketmap(path) as silent:         # who does not ask is not told, and does not stay
                self.assertEqual(silent.rest(), b"")
            for client in (one, two):
                self.assertEqual(client.ask("t", "key"), ("OK", "value"))
        wait_until(lambda: self.asks(path) == ("OK", "value"), "room for a client")

    def test_a_client_too_many_takes_no_place(self):
        """Who waits to be told keeps nobody out."""
        path = tempdir(self) + "/s"
        Mapmux(self, "--listen", f"socketmap:unix:{path},max_connections=1", "--name", "t", "--type", "static",
               "--param", "key=value")
        for _ in range(5):                          # on a slow machine he may be closed first, after 5 s
            with self.admitted(path) as one, Socketmap(path) as silent:
                self.assertEqual(one.ask("t", "key"), ("OK", "value"))
                one.close()
                self.admitted(path).close()
                with contextlib.suppress(OSError, Closed):
                    self.assertEqual(silent.ask("t", "key"), ("TEMP", "too many connections"))
                    return
        self.fail("never admitted beside him")

    def test_many_clients_too_many(self):
        """Those who wait to be told are bounded; the rest is closed at once."""
        path = tempdir(self) + "/s"
        mux = Mapmux(self, "--listen", f"socketmap:unix:{path},max_connections=1", "--name", "t", "--type",
                     "static", "--param", "key=value")
        with contextlib.ExitStack() as stack:
            one = self.admitted(path)
            stack.enter_context(one)
            crowd = [stack.enter_context(Socketmap(path)) for _ in range(200)]
            self.assertEqual(one.ask("t", "key"), ("OK", "value"))
            told = 0
            for client in crowd:
                with contextlib.suppress(OSError, Closed):
                    told += client.ask("t", "key")[0] == "TEMP"
            self.assertGreaterEqual(told, 64)
            self.assertLess(told, len(crowd))
            self.assertEqual(one.ask("t", "key"), ("OK", "value"))
        self.assertIn("max_connections", mux.log())

    def admitted(self, path):
        """A client that is not too many: the server learns in its own time that the last one has left."""
        for _ in range(100):
            client = Socketmap(path)
            if client.ask("t", "key") == ("OK", "value"):
                return client
            client.close()
            time.sleep(0.05)
        self.fail("never admitted")

    def asks(self, path):
        with Socketmap(path) as client:
            return client.ask("t", "key")

    def test_no_descriptor_left(self):
        """Who is there goes on, who comes waits, and nobody spins on it."""
        path = tempdir(self) + "/s"
        mux = Mapmux(self, "--listen", f"socketmap:unix:{path}", "--name", "t", "--type", "static", "--param",
                     "key=value")
        with contextlib.ExitStack() as stack:
            first = stack.enter_context(Socketmap(path))
            self.assertEqual(first.ask("t", "key"), ("OK", "value"))
            run(["prlimit", f"--pid={mux.pid}", f"--nofile={len(os.listdir(f'/proc/{mux.pid}/fd'))}:"])
            late = [stack.enter_context(Socketmap(path)) for _ in range(10)]  # more than there may be gaps
            for client in late:
                client.request("t", "key")
            wait_until(lambda: "cannot accept" in mux.log(), "it says so")
            before = cpu_seconds(mux.pid)
            for _ in range(10):
                self.assertEqual(first.ask("t", "key"), ("OK", "value"))
                time.sleep(0.1)
            self.assertLess(cpu_seconds(mux.pid) - before, 0.3)
            run(["prlimit", f"--pid={mux.pid}", "--nofile=1024:"])
            for client in late:
                self.assertEqual(client.reply(), ("OK", "value"))

    def test_default_table(self):
        """A listener's table answers a request that names none."""
        path = tempdir(self) + "/s"
        Mapmux(self, "--listen", f"socketmap:unix:{path},table=t", "--name", "t", "--type", "static",
               "--param",
               "key=value")
        with Socketmap(path) as client:
            self.assertEqual(client.ask("", "key"), ("OK", "value"))
            self.assertEqual(client.ask("t", "key"), ("OK", "value"))


if __name__ == "__main__":
    unittest.main()
