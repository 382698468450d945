"""Retries, breakers, limits and fail-over, with real backends that come and go."""

import os
import threading
import time
import unittest

from harness import Backend, Case, Mapmux, Reply, free_port, run, serve, tempdir, url, wait_until
from harness.backend import as_json
from harness.mapmux import binary, document
from harness.nginx import Nginx
from harness.postfix import Postmap
from harness.redis import Redis


class Retries(Case):
    """Only reads, and only where there was no answer."""

    def test_a_connection_that_breaks(self):
        """The first try is cut off in its answer, the second is answered whole."""
        broken = set()

        def answer(request):
            if request.method == "GET" and request.path not in broken:
                broken.add(request.path)
                return Reply(b'"good"', cut=3)
            return as_json("good") if request.method == "GET" else Reply(hangup=True)
        backend = Backend(self, answer)
        mux = serve(self, [url("t", backend.url + "/{}"), url("off", backend.url + "/off/{}", retries=0),
                           url("once", backend.url + "/once/{}", side_effects=True)], threads=1)
        with mux.socketmap() as client:
            for number in range(5):
                self.assertEqual(client.ask("t", f"k{number}"), ("OK", "good"))
                self.assertEqual(client.ask("off", f"k{number}")[0], "TEMP")
                self.assertEqual(client.ask("once", f"k{number}")[0], "TEMP")
        self.assertEqual(mux.look("t", "shared/d").value, "good")
        with mux.dict("t") as client:
            client.line("B1", "alice")
            client.line("S1", "shared/set", "x")
            self.assertEqual(client.commit(1).letter, "W")
        self.assertEqual(len(backend.seen(method="POST")), 1)

    def test_answers_are_not_asked_for_again(self):
        backend = Backend(self, lambda request: Reply(status=503))
        mux = serve(self, [url("t", backend.url + "/{}", retries=5)])
        self.assertEqual(mux.ask("t", "k")[0], "TEMP")
        self.assertEqual(len(backend.seen()), 1)

    def test_a_restart_in_between(self):
        """nginx is away for less time than the retries take: nobody notices."""
        nginx = Nginx(self, {"/k": "v"})
        mux = serve(self, [url("t", nginx.url + "/{}", retries=5)], threads=1)
        self.assertEqual(mux.ask("t", "k"), ("OK", "v"))
        nginx.stop()
        with mux.socketmap() as client:
            client.request("t", "k")
            time.sleep(0.1)
            nginx.start()
            self.assertEqual(client.reply(), ("OK", "v"))

    def test_redis(self):
        redis = Redis(self, "")
        mux = serve(self, [{"name": "t", "type": "redis", "param": f"redis://127.0.0.1:{redis.port}/0", "retries": 5}],
                    threads=1)
        self.assertEqual(mux.ask("t", "k")[0], "NOTFOUND")
        redis.stop()
        with mux.socketmap() as client:
            client.request("t", "k")
            time.sleep(0.1)
            redis.start()
            self.assertEqual(client.reply()[0], "NOTFOUND")


class Breaker(Case):
    """A table that fails is left alone, and found again."""

    def test_nginx_dead_and_back(self):
        nginx = Nginx(self, {"/k": "v"})
        postmap = Postmap(self)
        path = os.path.join(tempdir(self), "sm")
        mux = Mapmux(self, config=document({
            "threads": 1, "listeners": [{"protocol": "socketmap", "address": "unix:" + path, "mode": "0666"}],
            "tables": [url("t", nginx.url + "/{}", **{"breaker.failures": 3, "breaker.cooldown": "4s"})]}))

        def ask():
            return postmap.query("k", f"socketmap:unix:{path}:t")
        self.assertEqual(ask().stdout, b"v\n")
        nginx.stop()
        for _ in range(2):      # each asks twice
            done = ask()
            self.assertEqual((done.returncode, done.stdout), (1, b""))
        self.assertIn(b"breaker open", ask().stderr)
        nginx.start()
        wait_until(lambda: ask().stdout == b"v\n", "the breaker closes")
        log = mux.log()
        self.assertEqual((log.count("table t: breaker open: failed 3 times in a row"),
                          log.count("table t: breaker closed")), (1, 1), log)
        self.assertIn(f"127.0.0.1:{nginx.port}", log)

    def test_silence_opens_it(self):
        """The ones behind do not wait for the timeout any more; a probe finds out that it talks again."""
        gate = threading.Event()
        backend = Backend(self, lambda request: Reply(b'"v"', gate=gate))
        mux = serve(self, [url("t", backend.url + "/{}", timeout="500ms", breaker={"failures": 2, "cooldown": "1s"})],
                    threads=1)
        for _ in range(2):
            self.assertEqual(mux.ask("t", "k")[0], "TEMP")
        before, start = len(backend.seen()), time.monotonic()
        for number in range(100):
            self.assertEqual(mux.ask("t", f"k{number}")[0], "TEMP")
            self.assertEqual(mux.look("t", "shared/k").letter, "F")
        self.assertLess(time.monotonic() - start, 2)
        self.assertLessEqual(len(backend.seen()) - before, 3)
        gate.set()
        wait_until(lambda: mux.ask("t", "k") == ("OK", "v"), "it is asked again")

    def test_clients_that_leave_are_no_failures(self):
        gate = threading.Event()
        backend = Backend(self, lambda request: Reply(b'"v"', gate=gate))
        mux = serve(self, [url("t", backend.url + "/{}", **{"breaker.failures": 2})], threads=1)
        for number in range(5):
            with mux.socketmap() as client:
                client.request("t", f"k{number}")
                backend.wait_for(path=f"/k{number}")
        gate.set()
        self.assertEqual(mux.ask("t", "k"), ("OK", "v"))
        self.assertNotIn("breaker", mux.log())


class Limit(Case):
    """max_inflight, over all workers."""

    def test_too_many(self):
        gate = threading.Event()
        backend = Backend(self, lambda request: Reply(b'"v"', gate=gate))
        mux = serve(self, [url("t", backend.url + "/{}", max_inflight=4)], threads=2)
        clients = [mux.socketmap() for _ in range(10)]
        for number, client in enumerate(clients):
            self.addCleanup(client.close)
            client.request("t", f"k{number}")
        backend.wait_for(4)
        self.assertEqual(mux.ask("t", "more"), ("TEMP", "too many questions in flight"))
        self.assertEqual(mux.look("t", "shared/more").letter, "F")
        gate.set()
        answers = [client.reply() for client in clients]
        self.assertEqual((answers.count(("OK", "v")), answers.count(("TEMP", "too many questions in flight"))), (4, 6))
        self.assertEqual(len(backend.seen()), 4)
        for number in range(20):        # nothing is left behind
            self.assertEqual(mux.ask("t", f"x{number}"), ("OK", "v"))


class Upstreams(Case):
    """Two nginx: who is asked when one goes away and comes back."""

    def test_fail_over_by_postmap(self):
        first, second = (Nginx(self, {"/k": name}) for name in ("first", "second"))
        postmap = Postmap(self)
        path = os.path.join(tempdir(self), "sm")
        mux = Mapmux(self, config=document({
            "threads": 1, "listeners": [{"protocol": "socketmap", "address": "unix:" + path, "mode": "0666"}],
            "tables": [url("t", f"{first.url}/{{}} {second.url}/{{}}", connect_timeout="1s")]}))

        def ask():
            done = postmap.query("k", f"socketmap:unix:{path}:t")
            self.assertEqual(done.stderr, b"")
            return done.stdout
        self.assertEqual(ask(), b"first\n")
        first.stop()
        for _ in range(5):
            self.assertEqual(ask(), b"second\n")
        first.start()
        wait_until(lambda: ask() == b"first\n", "the first is asked again", pause=0.2)
        second.stop()
        self.assertEqual(ask(), b"first\n")
        log = mux.log()
        self.assertEqual((log.count(f"upstream http://127.0.0.1:{first.port} is avoided"),
                          log.count(f"upstream http://127.0.0.1:{first.port} answers again")), (1, 1), log)

    def test_a_silent_upstream_is_probed_by_one(self):
        """When its time is over one question waits for it, not all of them."""
        gate = threading.Event()
        first = Backend(self, lambda request: Reply(b'"first"', gate=gate))
        second = Backend(self, lambda request: as_json("second"))
        mux = serve(self, [url("t", f"{first.url}/{{}} {second.url}/{{}}", timeout="2s")], threads=1)
        self.assertEqual(mux.ask("t", "k")[0], "TEMP")      # it used up the time
        wait_until(lambda: mux.ask("t", "k") != ("OK", "second") or len(first.seen()) > 1, "a probe", pause=0.1)
        before = len(first.seen())
        clients = [mux.socketmap() for _ in range(5)]
        for client in clients:
            self.addCleanup(client.close)
            client.request("t", "k")
        answers = [client.reply() for client in clients]
        self.assertEqual(answers, [("OK", "second")] * 5)
        self.assertEqual(len(first.seen()), before)
        gate.set()

    def test_a_silent_upstream_is_avoided_by_those_with_less_time(self):
        """A chain's timeout can be shorter than its member's: what it does not wait for is late all the same."""
        gate = threading.Event()
        first = Backend(self, lambda request: Reply(b'"first"', gate=gate))
        second = Backend(self, lambda request: as_json("second"))
        mux = serve(self, [url("t", f"{first.url}/{{}} {second.url}/{{}}", timeout="10s"),
                           {"name": "brief", "type": "chain", "param": ["t"], "timeout": "1s"}], threads=1)
        self.assertEqual(mux.ask("brief", "k")[0], "TEMP")
        self.assertEqual(mux.ask("brief", "k"), ("OK", "second"))
        gate.set()

    def test_the_table_behind_them_has_one_breaker(self):
        """It opens when all upstreams fail."""
        ports = [free_port(), free_port()]
        mux = serve(self, [url("t", " ".join(f"http://127.0.0.1:{port}/{{}}" for port in ports),
                               **{"breaker.failures": 2, "retries": 0})], threads=1)
        for _ in range(2):
            self.assertIn("127.0.0.1", mux.ask("t", "k")[1])
        self.assertEqual(mux.ask("t", "k"), ("TEMP", "breaker open"))


class Check(Case):
    """side_effects switches retries off, and check says so."""

    def test_side_effects(self):
        words = ["check", "--listen", f"socketmap:127.0.0.1:{free_port()}", "--name", "t", "--type", "url", "--param",
                 "http://127.0.0.1:9/{}", "--option", "side_effects=yes"]
        done = run([binary(), *words])
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        self.assertIn(b"# side_effects: nothing is cached, retried or shared", done.stdout)
        done = run([binary(), *words, "--option", "retries=2"])
        self.assertEqual(done.returncode, 0)
        self.assertIn(b"retries: has no effect with side_effects: yes", done.stderr)
        done = run([binary(), *words, "--option", "retries=2", "--option", "max_inflight=5"])
        self.assertIn(b"command line: table t: retries: side_effects switches them off", done.stderr)


if __name__ == "__main__":
    unittest.main()
