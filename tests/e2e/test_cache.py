"""The cache around real tables: one request for many clients, Cache-Control, changes, stale answers, and a
Redis server that several mapmux share."""

import signal
import time
import unittest
import urllib.parse

from harness import Backend, Case, Reply, Store, serve, tempdir, url, wait_until
from harness.backend import as_json
from harness.http import Http
from harness.mapmux import document, mapmux
from harness.nginx import Nginx
from harness.redis import Client, Redis, Script


def counters(mux, table):
    """The cache's counters of a table, from the summary of SIGUSR1."""
    seen = mux.log().count(f"table {table} (cache)")
    mux.process.send_signal(signal.SIGUSR1)
    line = wait_until(lambda: [line for line in mux.log().split("\n") if f"table {table} (cache)" in line][seen:],
                      "the summary")[0]
    return {name: int(value) for name, value in
            (part.split(" ") for part in line.split("(cache): ")[1].split(", "))}


class Sharing(Case):
    """Equal questions under way are one request."""

    def connect(self, mux, count):
        """So many clients, spread over the workers."""
        clients = [mux.socketmap() for _ in range(count)]
        for client in clients:
            self.addCleanup(client.close)
        return clients

    def ask_all(self, clients, key):
        for client in clients:
            client.request("t", key)
        return [client.reply() for client in clients]

    def test_hundreds_of_clients_are_one_request(self):
        """Also when several workers serve them."""
        backend = Backend(self, lambda request: Reply('"found"', delay=1))
        for threads in (1, 4):
            mux = serve(self, [url("t", backend.url + "/{}")], threads=threads)
            clients = self.connect(mux, 300)
            backend.forget()
            start = time.monotonic()
            self.assertEqual(set(self.ask_all(clients, f"k{threads}")), {("OK", "found")})
            self.assertLess(time.monotonic() - start, 1.6)
            self.assertEqual(len(backend.seen()), 1)
            self.assertEqual(counters(mux, "t")["entries"], 0)

    def test_clients_that_leave(self):
        """The one whose question went out leaves; those of all workers get their answer."""
        backend = Backend(self, lambda request: Reply('"found"', delay=0.5))
        mux = serve(self, [url("t", backend.url + "/{}")], threads=4)
        clients = self.connect(mux, 40)
        clients[0].request("t", "a")
        backend.wait_for(1)
        for client in clients[1:]:
            client.request("t", "a")
        for client in clients[:20]:
            client.close()
        self.assertEqual({client.reply() for client in clients[20:]}, {("OK", "found")})
        self.assertEqual(len(backend.seen()), 1)

    def test_failures_are_shared_but_not_kept(self):
        backend = Backend(self, lambda request: Reply("", 500, delay=0.3))
        mux = serve(self, [url("t", backend.url + "/{}", cache={"ttl": "1h", "negative_ttl": "1h"})], threads=4)
        clients = self.connect(mux, 50)
        self.assertEqual({status for status, _ in self.ask_all(clients, "a")}, {"TEMP"})
        self.assertEqual(len(backend.seen()), 1)
        self.assertEqual(mux.ask("t", "a")[0], "TEMP")
        self.assertEqual(len(backend.seen()), 2)

    def test_time_runs_out_for_all(self):
        backend = Backend(self, lambda request: Reply('"late"', delay=5))
        mux = serve(self, [url("t", backend.url + "/{}", timeout="1s")], threads=4)
        clients = self.connect(mux, 50)
        start = time.monotonic()
        self.assertEqual({status for status, _ in self.ask_all(clients, "a")}, {"TEMP"})
        self.assertLess(time.monotonic() - start, 2)

    def test_side_effects(self):
        """Each asks by himself, whatever else is set, and check says so."""
        backend = Backend(self, lambda request: Reply('"found"', delay=0.2))
        table = url("t", backend.url + "/{}", side_effects="yes", cache={"ttl": "1h"})
        mux = serve(self, [table], threads=2)
        clients = self.connect(mux, 10)
        self.assertEqual(set(self.ask_all(clients, "a")), {("OK", "found")})
        self.assertEqual(len(backend.seen()), 10)
        done = mapmux("check", "-c", mux.dir + "/mapmux.yaml")
        self.assertEqual(done.returncode, 0)
        self.assertRegex(done.stderr.decode(), r"mapmux.yaml:\d+: cache.ttl: has no effect with side_effects: yes")

    def test_stopped_while_many_wait(self):
        backend = Backend(self, lambda request: Reply('"late"', delay=30))
        mux = serve(self, [url("t", backend.url + "/{}", timeout="20s")], threads=4, shutdown_timeout="100ms")
        clients = self.connect(mux, 50)
        for client in clients:
            client.request("t", "a")
        backend.wait_for(1)
        mux.stop()      # looks for leaks under AddressSanitizer


class Keeping(Case):
    """ttl, Cache-Control, changes, stale."""

    def test_hits_and_expiry(self):
        backend = Backend(self, lambda request: request.path)
        mux = serve(self, [url("t", backend.url + "/{}", cache={"ttl": "1s", "negative_ttl": "1s"})], threads=1)
        for _ in range(10):
            self.assertEqual(mux.ask("t", "a"), ("OK", "/a"))
        self.assertEqual(len(backend.seen()), 1)
        time.sleep(1.1)
        self.assertEqual(mux.ask("t", "a"), ("OK", "/a"))
        self.assertEqual(len(backend.seen()), 2)
        counted = counters(mux, "t")
        self.assertEqual((counted["hit"], counted["miss"], counted["entries"]), (9, 2, 1))

    def test_cache_control_of_nginx(self):
        nginx = Nginx(self, {})
        nginx.stop()
        nginx = Nginx(self, server=f"""
            server {{
                listen 127.0.0.1:{nginx.port};
                location /hour {{ add_header Cache-Control "public, max-age=3600"; return 200 '"$msec"'; }}
                location /shared {{ add_header Cache-Control 'max-age=0, s-maxage="3600"'; return 200 '"$msec"'; }}
                location /second {{ add_header cache-control "max-age=1"; return 200 '"$msec"'; }}
                location /no {{ add_header Cache-Control "max-age=3600"; add_header Cache-Control "no-store";
                                return 200 '"$msec"'; }}
                location /check {{ add_header Cache-Control "no-cache, max-age=3600"; return 200 '"$msec"'; }}
                location /old {{ add_header Cache-Control "max-age=60"; add_header Age 60; return 200 '"$msec"'; }}
                location /silent {{ return 200 '"$msec"'; }}
                location /absent {{ add_header Cache-Control "max-age=3600" always; return 404; }}
                location /down {{ add_header Cache-Control "max-age=3600" always; return 503; }}
            }}""", port=nginx.port)
        mux = serve(self, [url("t", nginx.url + "/{}", cache={"ttl": "source"})], threads=1)

        def stays(key, pause=0.02):
            first = mux.ask("t", key)
            time.sleep(pause)
            return mux.ask("t", key) == first

        for key, kept in (("hour", True), ("shared", True), ("no", False), ("check", False), ("old", False),
                          ("silent", False)):
            with self.subTest(key):
                self.assertEqual(stays(key), kept)
        self.assertTrue(stays("second"))
        self.assertFalse(stays("second", 1.2))
        before = counters(mux, "t")["hit"]
        self.assertEqual([mux.ask("t", "absent")[0] for _ in range(3)], ["NOTFOUND"] * 3)
        self.assertEqual(counters(mux, "t")["hit"], before + 2)
        self.assertEqual([mux.ask("t", "down")[0] for _ in range(3)], ["TEMP"] * 3)
        self.assertEqual(counters(mux, "t")["hit"], before + 2)

    def test_a_listing_lives_as_short_as_its_values(self):
        ages = {"/l/": 3600, "/l/a": 3600, "/l/b": 3600}

        def answer(request):
            body = ["a", "b"] if request.path == "/l/" else request.path
            return as_json(body, headers=[("Cache-Control", f"max-age={ages[request.path]}")])

        backend = Backend(self, answer)
        mux = serve(self, [url("t", backend.url + "/{}", cache={"ttl": "source"})], threads=1)
        for last, requests in ((3600, 3), (0, 6)):
            ages["/l/b"] = last
            backend.forget()
            for _ in range(2):
                with mux.dict("t") as client:
                    self.assertEqual(len(client.iterate("shared/l/", flags=last and 1).rows), 2)
            self.assertEqual(len(backend.seen()), requests)

    def test_changes_are_seen_at_once_by_every_worker(self):
        store = Store({"/kv/a": "0"})
        backend = Backend(self, store)
        mux = serve(self, [url("kv", backend.url + "/kv/{}", cache={"ttl": "1h"})], threads=4)
        readers = [mux.dict("kv") for _ in range(8)]
        for reader in readers:
            self.addCleanup(reader.close)
        with mux.dict("kv") as writer:
            for number in range(1, 30):
                self.assertEqual(writer.change(number, ("set", "shared/a", f"v{number}")).letter, "O")
                self.assertEqual({reader.lookup("shared/a").value for reader in readers}, {f"v{number}"})
        backend.forget()
        for _ in range(10):
            self.assertEqual({reader.lookup("shared/a").value for reader in readers}, {"v29"})
        self.assertEqual(backend.seen(), [])

    def test_a_reload_keeps_it(self):
        """And what is under way meanwhile, with clients of several workers, goes on."""
        backend = Backend(self, lambda request: Reply('"found"', delay=1 if request.path == "/slow" else 0))
        mux = serve(self, [url("t", backend.url + "/{}", cache={"ttl": "1h"})], threads=2)
        clients = [mux.socketmap() for _ in range(8)]
        for client in clients:
            self.addCleanup(client.close)
            self.assertEqual(client.ask("t", "a"), ("OK", "found"))
        known = len(backend.seen())
        for client in clients:
            client.request("t", "slow")
        backend.wait_for(1, path="/slow")
        for number in range(1, 4):
            mux.process.send_signal(signal.SIGHUP)
            wait_until(lambda: mux.log().count("reloaded") == number, "the reload")
        self.assertEqual({client.reply() for client in clients}, {("OK", "found")})
        for client in clients:
            self.assertEqual(client.ask("t", "a"), ("OK", "found"))
        self.assertEqual(len(backend.seen()), known + 1)

    def test_stale_while_the_service_is_down_or_hangs(self):
        replies = {}
        backend = Backend(self, lambda request: replies.get("now") or as_json("found"))
        mux = serve(self, [url("t", backend.url + "/{}", timeout="3s",
                               cache={"ttl": "200ms", "stale": "1h", "stale_timeout": "500ms"})], threads=1)
        self.assertEqual(mux.ask("t", "a"), ("OK", "found"))
        self.assertEqual(mux.ask("t", "b"), ("OK", "found"))
        time.sleep(0.3)
        replies["now"] = Reply('"new"', delay=2)
        start = time.monotonic()
        self.assertEqual(mux.ask("t", "a"), ("OK", "found"))
        self.assertTrue(0.4 < time.monotonic() - start < 1.5)
        start = time.monotonic()
        for _ in range(20):
            self.assertEqual(mux.ask("t", "b"), ("OK", "found"))
        self.assertLess(time.monotonic() - start, 0.4)      # nobody waits any more
        wait_until(lambda: mux.ask("t", "a") == ("OK", "new"), "the refresh behind the clients' backs")
        backend.kill()
        time.sleep(0.3)
        self.assertEqual(mux.ask("t", "a"), ("OK", "new"))
        self.assertEqual(mux.ask("t", "c")[0], "TEMP")


class Shared(Case):
    """Two mapmux and one Redis server."""

    def setUp(self):
        self.store = Store({f"/kv/{name}": "0" for name in "abc"})
        self.backend = Backend(self, self.store)
        self.redis = Redis(self)
        self.url = f"redis://:{urllib.parse.quote(self.redis.password, safe='')}@127.0.0.1:{self.redis.port}/1"

    def start(self, **options):
        table = url("kv", self.backend.url + "/kv/{}", timeout="2s",
                    cache={"ttl": "1h", "negative_ttl": "1h", "shared": self.url, **options})
        return serve(self, [table], threads=2)

    def keys(self):
        """What is there: {name: ms left}."""
        return {key.decode(): self.do("PTTL", key) for key in self.do("KEYS", "*")}

    def do(self, *words):
        client = Client(self.redis.path, self.redis.password)
        client("SELECT", 1)
        try:
            return client(*words)
        finally:
            client.close()

    def filled(self, count):
        return wait_until(lambda: (lambda keys: keys if len(keys) >= count else None)(self.keys()), "fills")

    def test_one_asks_for_both(self):
        one, two = self.start(), self.start()
        self.assertEqual(one.ask("kv", "a"), ("OK", "0"))
        self.assertEqual(one.ask("kv", "none")[0], "NOTFOUND")
        keys = self.filled(2)
        for key, left in keys.items():
            self.assertRegex(key, r"^mapmux:cache:kv:[0-9a-f]{32}$")
            self.assertTrue(3500000 < left <= 3600000)
        self.assertEqual(two.ask("kv", "a"), ("OK", "0"))
        self.assertEqual(two.ask("kv", "none")[0], "NOTFOUND")
        self.assertEqual(len(self.backend.seen()), 2)

    def test_a_change_is_seen_by_the_other(self):
        one, two = self.start(ttl="400ms"), self.start(ttl="400ms")
        three = self.start(ttl="400ms")
        self.assertEqual(one.ask("kv", "a"), ("OK", "0"))
        self.filled(1)
        with one.dict("kv") as client:
            self.assertEqual(client.change(1, ("set", "shared/a", "new")).letter, "O")
        # Neither the answer of before, which is still there, nor any that is filled now is used.
        self.assertEqual(two.ask("kv", "a"), ("OK", "new"))
        self.assertEqual(one.ask("kv", "a"), ("OK", "new"))
        marks = [key for key in self.keys() if ":w" in key]
        self.assertEqual(len(marks), 2)
        before = len(self.backend.seen())
        self.assertEqual(three.ask("kv", "a"), ("OK", "new"))
        self.assertEqual(len(self.backend.seen()), before + 1)

    def test_a_change_that_cannot_be_marked(self):
        """What the server still holds of before is used by no worker of this process."""
        mux = self.start()
        for name in "ab":
            self.assertEqual(mux.ask("kv", name), ("OK", "0"))
        self.filled(2)
        self.do("CONFIG", "SET", "maxmemory", "1")      # it can be read, and takes nothing more
        with mux.dict("kv") as client:
            for number, name in enumerate("ab"):        # with the second it is not even tried
                self.assertEqual(client.change(number, ("set", "shared/" + name, "new")).letter, "O")
        clients = [mux.socketmap() for _ in range(4)]   # some with each worker
        for client in clients:
            self.addCleanup(client.close)
            self.assertEqual([client.ask("kv", name) for name in "ab"], [("OK", "new")] * 2)
        self.assertEqual(len(self.keys()), 2)
        self.assertIn("answered by OOM", mux.log())

    def test_a_purge_is_of_both_levels(self):
        """What the server still holds is not taken for an answer by this process."""
        table = url("kv", self.backend.url + "/kv/{}", cache={"ttl": "1h", "shared": self.url})
        mux = serve(self, [table], protocols=("socketmap", "http"), threads=2)
        for count, target in enumerate(("&key=a", "")):
            self.assertEqual(mux.ask("kv", "ab"[count]), ("OK", "0"))
            self.filled(count + 1)
            self.store.data["/kv/" + "ab"[count]] = "new"
            with Http(mux.paths["http"]) as client:
                self.assertEqual(client.ask("POST", "/v1/cache/purge?table=kv" + target).status, 200)
            clients = [mux.socketmap() for _ in range(4)]   # some with each worker
            for client in clients:
                self.addCleanup(client.close)
                self.assertEqual(client.ask("kv", "ab"[count]), ("OK", "new"))

    def test_an_answer_lives_as_long_as_there(self):
        """Who finds it there keeps it for what is left of its time."""
        one, two = self.start(), self.start()
        self.assertEqual(one.ask("kv", "a"), ("OK", "0"))
        key, = self.filled(1)
        self.store.data["/kv/a"] = "new"
        self.do("PEXPIRE", key, 5000)
        self.assertEqual(two.ask("kv", "a"), ("OK", "0"))
        wait_until(lambda: two.ask("kv", "a") == ("OK", "new"), "it ends", pause=0.1)

    def test_garbage_is_a_miss(self):
        one, two = self.start(), self.start()
        self.assertEqual(one.ask("kv", "a"), ("OK", "0"))
        key, = self.filled(1)
        value = self.do("GET", key)
        for bad in (b"", b"\x01", value[:-1], value + b"x", b"\x02" + value[1:], b"\x01\xff\xff\xff\xff" + value[5:],
                    value[:6] + b"?" + value[7:-1] + b"1", b"\x01" * 100):   # an answer to another question
            self.do("SET", key, bad, "PX", "100000")
            with self.subTest(bad):
                third = self.start()
                self.assertEqual(third.ask("kv", "a"), ("OK", "0"))
                third.stop()
        self.do("DEL", key)
        self.do("LPUSH", key, "x")
        self.assertEqual(two.ask("kv", "a"), ("OK", "0"))

    def test_down_slow_and_back(self):
        mux = self.start(ttl="100ms")
        self.assertEqual(mux.ask("kv", "a"), ("OK", "0"))
        self.redis.stop()
        for _ in range(5):
            start = time.monotonic()
            self.assertEqual(mux.ask("kv", "b"), ("OK", "0"))
            self.assertLess(time.monotonic() - start, 0.6)
        # A change that cannot be marked: what Redis still holds is not used when it is back.
        with mux.dict("kv") as client:
            self.assertEqual(client.change(1, ("set", "shared/a", "new")).letter, "O")
        self.redis.start()
        time.sleep(1.5)
        for _ in range(5):
            self.assertEqual(mux.ask("kv", "a"), ("OK", "new"))
            time.sleep(0.11)
        self.assertIn("cache.shared is of no use now", mux.log())
        self.assertNotIn("p@ss", mux.log())
        self.redis.daemon.process.send_signal(signal.SIGSTOP)
        start = time.monotonic()
        for name in "abcabc":
            self.assertEqual(mux.ask("kv", name)[0], "OK")
        self.assertLess(time.monotonic() - start, 2)
        self.redis.daemon.process.send_signal(signal.SIGCONT)
        self.redis.do("PING")
        wait_until(lambda: mux.ask("kv", "c") and [key for key in self.keys() if ":w" not in key],
                   "it is filled again", pause=0.2)

    def test_a_server_that_says_nothing(self):
        script = Script(self, None)
        self.url = f"redis://127.0.0.1:{script.port}"
        mux = self.start()
        start = time.monotonic()
        self.assertEqual(mux.ask("kv", "a"), ("OK", "0"))
        self.assertLess(time.monotonic() - start, 1)

    def test_a_change_does_not_wait_for_it(self):
        """A mark has a moment, and the change has the time that is left then."""
        script = Script(self, None)
        cache = {"ttl": "1h", "shared": f"redis://127.0.0.1:{script.port}"}
        mux = serve(self, [url("kv", self.backend.url + "/kv/{}", timeout="900ms", cache=cache)], threads=1)
        with mux.dict("kv") as client:
            self.assertEqual(client.change(1, ("set", "shared/a", "new")).letter, "O")

    def test_check_hides_it(self):
        where = tempdir(self)
        path = where + "/mapmux.yaml"
        for shared, code in ((self.url, 0), ("redis://:verysecret@host:port/", 1), (self.url + "?x=y", 1)):
            with open(path, "w", encoding="utf-8") as file:
                file.write(document({
                    "listeners": [{"protocol": "socketmap", "address": f"unix:{where}/s"}],
                    "tables": [url("t", "http://h/{}", cache={"ttl": "1m", "shared": shared})]}))
            done = mapmux("check", "-c", path)
            text = (done.stdout + done.stderr).decode()
            self.assertEqual(done.returncode, code, text)
            self.assertNotIn("secret@", text)
            self.assertNotIn(urllib.parse.quote(self.redis.password, safe=""), text)
            self.assertIn("(secret)" if code == 0 else "mapmux.yaml:4: cache.shared: ", text)


if __name__ == "__main__":
    unittest.main()
