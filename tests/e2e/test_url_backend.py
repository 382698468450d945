"""The url table's ways to its backends: fail-over, limits, TLS, and all that may break."""

import json
import os
import socket
import threading
import time
import unittest

from harness import Backend, Case, Reply, free_port, serve, tempdir, url, wait_until
from harness.backend import as_json
from harness.pki import Authority


class Upstreams(Case):
    """Several templates: fail-over, spreading, coming back."""

    def pair(self, **options):
        first, second = (Backend(self, lambda request,
                                 name=name: as_json(name)) for name in ("first", "second"))
        mux = serve(self, [url("t", f"{first.url}/{{}} {second.url}/other?k={{}}", connect_timeout="1s",
                               **options)],
                    threads=1)
        return first, second, mux

    def test_the_first_is_asked(self):
        first, second, mux = self.pair()
        for number in range(10):
            self.assertEqual(mux.ask("t", f"k{number}"), ("OK", "first"))
        self.assertEqual((len(first.seen()), len(second.seen())), (10, 0))

    def test_fail_over_and_return(self):
        first, second, mux = self.pair()
        self.assertEqual(mux.ask("t", "a"), ("OK", "first"))
        first.kill()
        for number in range(10):
            self.assertEqual(mux.ask("t", f"k{number}"), ("OK", "second"))
        self.assertEqual(second.seen()[0].target, "/other?k=k0")
        first.start()
        wait_until(lambda: mux.ask("t", "b") == ("OK", "first"), "the first upstream is asked again",
                   timeout=60, pause=0.2)

    def test_all_dead(self):
        first, second, mux = self.pair()
        first.kill()
        second.kill()
        start = time.monotonic()
        self.assertEqual(mux.ask("t", "a")[0], "TEMP")
        self.assertEqual(mux.look("t", "shared/a").letter, "F")
        self.assertLess(time.monotonic() - start, 10)
        second.start()
        wait_until(lambda: mux.ask("t", "b") == ("OK", "second"), "an upstream that came back is used",
                   timeout=60, pause=0.2)

    def test_an_answer_is_an_answer(self):
        """404 from the first is not asked of the second."""
        first, second, mux = self.pair()
        first.handler = lambda request: None
        self.assertEqual(mux.ask("t", "a")[0], "NOTFOUND")
        self.assertEqual(second.seen(), [])

    def test_round_robin(self):
        first, second, mux = self.pair(balance="round-robin")
        with mux.socketmap() as client:
            for number in range(100):
                self.assertEqual(client.ask("t", f"k{number}")[0], "OK")
        self.assertGreaterEqual(min(len(first.seen()), len(second.seen())), 40)
        first.kill()
        for number in range(10):
            self.assertEqual(mux.ask("t", f"x{number}"), ("OK", "second"))

    def test_starts_while_an_upstream_is_down(self):
        port = free_port()
        mux = serve(self, [url("t", f"http://127.0.0.1:{port}/{{}}"),
                           url("name", "http://no-such-host.invalid/{}")])
        self.assertEqual(mux.ask("t", "a")[0], "TEMP")
        self.assertEqual(mux.ask("name", "a")[0], "TEMP")
        Backend(self, lambda request: as_json("here"), port=port)
        wait_until(lambda: mux.ask("t", "b") == ("OK", "here"), "it is asked when it is there", timeout=30,
                   pause=0.2)

    def test_ipv6(self):
        backend = Backend(self, lambda request: as_json("six"), host="::1")
        mux = serve(self, [url("t", backend.url + "/{}")])
        self.assertEqual(mux.ask("t", "k"), ("OK", "six"))
        self.assertEqual(backend.seen()[0].header("Host"), f"[::1]:{backend.port}")

    def test_name(self):
        backend = Backend(self, lambda request: as_json("by name"))
        mux = serve(self, [url("t", f"http://localhost:{backend.port}/{{}}")])
        self.assertEqual(mux.ask("t", "k"), ("OK", "by name"))

    def test_unix_socket(self):
        path = os.path.join(tempdir(self), "http")
        backend = Backend(self, lambda request: as_json("unix"), unix=path)
        mux = serve(self, [url("t", "http://service.test/x/{}", unix_socket=path)])
        self.assertEqual(mux.ask("t", "a b"), ("OK", "unix"))
        self.assertEqual((backend.seen()[0].target, backend.seen()[0].header("Host")),
                         ("/x/a%20b", "service.test"))

    def test_proxy(self):
        proxy = Backend(self, lambda request: as_json("by proxy"))
        mux = serve(self, [url("t", "http://service.test:8080/x/{}", proxy=proxy.url)])
        self.assertEqual(mux.ask("t", "a b"), ("OK", "by proxy"))
        self.assertEqual(proxy.seen()[0].target, "http://service.test:8080/x/a%20b")


class Limits(Case):
    """Slow, endless and dead backends."""

    def ask_timed(self, mux, table, low, high):
        start = time.monotonic()
        self.assertEqual(mux.ask(table, "k")[0], "TEMP")
        took = time.monotonic() - start
        self.assertGreaterEqual(took, low)
        self.assertLess(took, high)

    def test_timeout(self):
        gate = threading.Event()
        backend = Backend(self, lambda request: Reply(b'"late"', gate=gate))
        mux = serve(self, [url("t", backend.url + "/{}", timeout="700ms")])
        self.ask_timed(mux, "t", 0.5, 5)
        start = time.monotonic()
        self.assertEqual(mux.look("t", "shared/k").letter, "F")
        self.assertLess(time.monotonic() - start, 5)
        gate.set()
        self.assertEqual(mux.ask("t", "again"), ("OK", "late"))

    def test_timeout_in_mid_body(self):
        """The whole request is limited, not each read."""
        backend = Backend(self, lambda request: Reply(stream=b" ", pause=0.1))
        mux = serve(self, [url("t", backend.url + "/{}", timeout="1s")])
        self.ask_timed(mux, "t", 0.8, 5)

    def test_late_answer_is_not_taken_for_the_next(self):
        def answer(request):
            return Reply(json.dumps(request.path), delay=1.5 if request.path == "/slow" else 0)
        backend = Backend(self, answer)
        mux = serve(self, [url("t", backend.url + "/{}", timeout="500ms")], threads=1)
        with mux.socketmap() as client:
            self.assertEqual(client.ask("t", "slow")[0], "TEMP")
            for number in range(20):
                self.assertEqual(client.ask("t", f"k{number}"), ("OK", f"/k{number}"))
                time.sleep(0.1)

    def test_connect_timeout(self):
        """A listener whose queue is full: connections neither succeed nor fail."""
        full = socket.socket()
        self.addCleanup(full.close)
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(8):
            sock = socket.socket()
            self.addCleanup(sock.close)
            sock.setblocking(False)
            sock.connect_ex(full.getsockname())
        mux = serve(self, [url("t", "http://127.0.0.1:%d/{}" % full.getsockname()[1], connect_timeout="500ms",
                               timeout="20s")])
        self.ask_timed(mux, "t", 0.3, 8)

    def test_max_body(self):
        backend = Backend(self, lambda request: as_json("v" * int(request.path[1:])))
        mux = serve(self, [url("small", backend.url + "/{}", max_body="1k"),
                           url("big", backend.url + "/{}", max_body="64k")])
        self.assertEqual(mux.ask("small", "1000"), ("OK", "v" * 1000))
        self.assertEqual(mux.ask("small", "1100")[0], "TEMP")
        self.assertEqual(mux.ask("big", "60000"), ("OK", "v" * 60000))
        self.assertEqual(mux.ask("big", "70000")[0], "TEMP")
        self.assertEqual(mux.ask("small", "10"), ("OK", "v" * 10))

    def test_endless_body_takes_no_memory(self):
        backend = Backend(self, lambda request: Reply(stream=b" " * 65536))
        mux = serve(self, [url("t", backend.url + "/{}", timeout="10s")])
        mux.ask("nosuch", "k")
        before = mux.memory()
        self.assertEqual(mux.ask("t", "k")[0], "TEMP")
        self.assertLess(mux.memory() - before, 64 << 20)

    def test_claimed_body_takes_no_memory(self):
        backend = Backend(self,
                          lambda request: Reply(raw=b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n\"x"))
        mux = serve(self, [url("t", backend.url + "/{}")])
        mux.ask("nosuch", "k")
        before = mux.memory()
        self.assertEqual(mux.ask("t", "k")[0], "TEMP")
        self.assertLess(mux.memory() - before, 16 << 20)

    def test_connections_are_kept(self):
        """Fewer than one new connection for each 1,000 lookups."""
        backend = Backend(self, lambda request: as_json("v"))
        mux = serve(self, [url("t", backend.url + "/{}")], threads=1)
        with mux.socketmap() as client:
            for number in range(3000):
                self.assertEqual(client.ask("t", f"k{number}"), ("OK", "v"))
        self.assertLess(backend.connections, 3)
        self.assertEqual(len(backend.seen()), 3000)

    def test_connections_are_kept_by_many_clients(self):
        backend = Backend(self, lambda request: as_json("v"))
        mux = serve(self, [url("t", backend.url + "/{}")], threads=1)
        clients = [mux.socketmap() for _ in range(10)]
        try:
            for number in range(300):
                if number == 10:
                    warm = backend.connections
                for client in clients:
                    client.request("t", f"k{number}")
                for client in clients:
                    self.assertEqual(client.reply(), ("OK", "v"))
            self.assertLess(backend.connections - warm, 3)
        finally:
            for client in clients:
                client.close()

    def test_max_connections(self):
        """No more than so many at once, and yet every lookup is answered."""
        lock, now, most = threading.Lock(), [0], [0]

        def answer(_):
            with lock:
                now[0] += 1
                most[0] = max(most[0], now[0])
            time.sleep(0.02)
            with lock:
                now[0] -= 1
            return as_json("v")
        backend = Backend(self, answer)
        mux = serve(self, [url("t", backend.url + "/{}", max_connections=4)], threads=1)
        clients = [mux.socketmap() for _ in range(30)]
        try:
            for number, client in enumerate(clients):
                client.request("t", f"k{number}")
            self.assertEqual([client.reply() for client in clients], [("OK", "v")] * 30)
        finally:
            for client in clients:
                client.close()
        self.assertLessEqual(most[0], 4)
        self.assertGreater(most[0], 1)


class Trouble(Case):
    """Backends that break the protocol, and that come back."""

    def test_broken_answers(self):
        answers = {
            "hangup": Reply(hangup=True), "cut": Reply(b'"a long enough value"', cut=8),
            "cut at once": Reply(b'"value"', cut=0),
            "garbage": Reply(raw=b"\x00\x01\x02 nonsense\r\n\r\n"), "text": Reply(raw=b"hello\n"),
            "half a header": Reply(raw=b"HTTP/1.1 200 OK\r\nContent-Le"),
            "status only": Reply(raw=b"HTTP/1.1 200\r\n"),
            "bad chunk": Reply(raw=b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n\"v\"\r\n0\r\n\r\n"),
            "chunk cut": Reply(raw=b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n\"v\"\r\n"),
            "bad length": Reply(raw=b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n\"v\""),
            "endless header": Reply(raw=b"HTTP/1.1 200 OK\r\nX: " + b"x" * 2000000),
        }
        backend = Backend(self, lambda request: answers.get(request.plain_path[1:], as_json("good")))
        mux = serve(self, [url("t", backend.url + "/{}", timeout="5s")])
        for name in answers:
            with self.subTest(name):
                self.assertEqual(mux.ask("t", name)[0], "TEMP")
                self.assertEqual(mux.look("t", "shared/" + name).letter, "F")
                self.assertEqual(mux.ask("t", "fine"), ("OK", "good"))

    def test_backend_that_closes_kept_connections(self):
        """A connection that died while idle costs no lookup its answer."""
        backend = Backend(self, lambda request: as_json("good"))
        mux = serve(self, [url("t", backend.url + "/{}")], threads=1)
        for number in range(5):
            self.assertEqual(mux.ask("t", f"k{number}"), ("OK", "good"))
            backend.kill()
            backend.start()

    def test_backend_that_says_close(self):
        backend = Backend(self,
                          lambda request: Reply(raw=b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 3\r\n\r\n\"v\""))
        mux = serve(self, [url("t", backend.url + "/{}")], threads=1)
        for number in range(20):
            self.assertEqual(mux.ask("t", f"k{number}"), ("OK", "v"))

    def test_http_1_0(self):
        backend = Backend(self, lambda request: Reply(raw=b"HTTP/1.0 200 OK\r\n\r\n\"v\""))
        mux = serve(self, [url("t", backend.url + "/{}")])
        self.assertEqual(mux.ask("t", "k"), ("OK", "v"))

    def test_dead_and_back(self):
        backend = Backend(self, lambda request: as_json("good"))
        mux = serve(self, [url("t", backend.url + "/{}")])
        self.assertEqual(mux.ask("t", "a"), ("OK", "good"))
        backend.kill()
        for number in range(3):
            self.assertEqual(mux.ask("t", f"k{number}")[0], "TEMP")
            self.assertEqual(mux.look("t", f"shared/k{number}").letter, "F")
        backend.start()
        wait_until(lambda: mux.ask("t", "b") == ("OK", "good"), "the backend is used again", timeout=30,
                   pause=0.2)

    def test_failures_do_not_fill_the_log(self):
        backend = Backend(self, lambda request: Reply(b"garbage"))
        mux = serve(self, [url("t", backend.url + "/{}")], threads=1)
        before, start = mux.log().count("\n"), time.monotonic()
        with mux.socketmap() as client:
            for number in range(500):
                self.assertEqual(client.ask("t", f"k{number}")[0], "TEMP")
        lines = mux.log().count("\n") - before
        self.assertLessEqual(lines, 2 * (time.monotonic() - start) + 5)


class Tls(Case):
    """Certificates are verified unless the table says otherwise."""

    @classmethod
    def setUpClass(cls):
        cls.ca, cls.stranger = Authority(cls, "right"), Authority(cls, "wrong")
        answer = lambda request: as_json("safe")   # noqa: E731
        cls.good = Backend(cls, answer, tls=cls.ca.server("DNS:localhost,IP:127.0.0.1"))
        cls.other = Backend(cls, answer, tls=cls.ca.server("DNS:other.test"))
        cls.mutual = Backend(cls, answer, tls=cls.ca.server("DNS:localhost,IP:127.0.0.1", clients=cls.ca))
        mine, strange = cls.ca.issue("DNS:client.test"), cls.stranger.issue("DNS:client.test")
        right = {"ca_file": cls.ca.cert}
        named = f"https://localhost:{cls.good.port}/{{}}"
        cls.mux = serve(cls, [
            url("right", cls.good.url + "/{}", **right), url("name", named, **right),
            url("wrongca", cls.good.url + "/{}", ca_file=cls.stranger.cert),
            url("system", cls.good.url + "/{}"),
            url("wronghost", cls.other.url + "/{}", **right),
            url("unverified", cls.good.url + "/{}", tls_verify="no"),
            url("unverifiedhost", cls.other.url + "/{}", tls_verify="no"),
            url("nocert", cls.mutual.url + "/{}", **right),
            url("cert", cls.mutual.url + "/{}", client_cert=mine[0], client_key=mine[1], **right),
            url("strangecert", cls.mutual.url + "/{}", client_cert=strange[0], client_key=strange[1],
                **right),
            url("plain", f"http://127.0.0.1:{cls.good.port}/{{}}"), url("totext", "https://127.0.0.1:%d/{}" %
                                                                        Backend(cls, answer).port, **right)])

    def test_right(self):
        for table in ("right", "name", "cert", "unverified", "unverifiedhost"):
            with self.subTest(table):
                self.assertEqual(self.mux.ask(table, "k"), ("OK", "safe"))

    def test_wrong(self):
        for table in ("wrongca", "system", "wronghost", "nocert", "strangecert", "plain", "totext"):
            with self.subTest(table):
                self.assertEqual(self.mux.ask(table, "k")[0], "TEMP")
                self.assertEqual(self.mux.look(table, "shared/k").letter, "F")

    def test_no_mixing(self):
        """A connection made without verification is not reused by a table that wants it."""
        for _ in range(3):
            self.assertEqual(self.mux.ask("unverified", "k"), ("OK", "safe"))
            self.assertEqual(self.mux.ask("wrongca", "k")[0], "TEMP")
            self.assertEqual(self.mux.ask("cert", "k"), ("OK", "safe"))
            self.assertEqual(self.mux.ask("nocert", "k")[0], "TEMP")

    def test_connections_are_kept(self):
        self.mux.ask("right", "warm")
        before = self.good.connections
        with self.mux.socketmap() as client:
            for number in range(200):
                self.assertEqual(client.ask("right", f"k{number}"), ("OK", "safe"))
        self.assertLess(self.good.connections - before, 3)


if __name__ == "__main__":
    unittest.main()
