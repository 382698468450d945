"""HTTP services that die, fall silent, lie and move, while a steady load asks for what they know."""

import os
import threading
import time
import unittest

from harness import free_port, serve, tempdir, url
from harness.backend import RawBackend
from harness.nginx import Nginx

from load import STALE, FaultCase, has_log, warm

KEYS = 211      # shares no factor with the connections: each key is soon asked on all of them
DOCUMENTS = {f"/k{number}": f"v{number}" for number in range(KEYS)}
TIMEOUT = "500ms"

# Where the flag is a file: one byte a second, or 100 MB to every question.
FLAGS = """
        if (-f {dir}/slow) { set $limit_rate 1; }
        if (-f {dir}/huge) { rewrite ^ /huge-document break; }
"""


class Service(FaultCase):
    """One nginx, a table `t` without anything around it, and one with a cache that hides its faults."""

    def start(self, *tables, nginx=None, **options):
        self.nginx = nginx or Nginx(self, DOCUMENTS)
        options, where = {"timeout": TIMEOUT, "retries": 0, **options}, self.nginx.url + "/{}"
        self.mux = serve(self, [url("t", where, **options), url("stale", where, cache=STALE, **options), *tables],
                         threads=2)
        warm(self.mux.paths["socketmap"], "stale", KEYS)

    def load(self, table="t", protocol="socketmap", **options):
        return super().load(self.mux.paths[protocol], protocol, table=table, keys=KEYS, **options)


class Death(Service):
    """The service is gone, and comes back."""

    def test_killed_and_restarted(self):
        """A chain that asks a failing table says TEMP, and answers what stands before that table."""
        self.start({"name": "chain", "type": "chain", "param": ["few", "t"]},
                   {"name": "before", "type": "chain", "param": ["few", "t"]},
                   {"name": "few", "type": "static", "entries": {f"s{number}": f"v{number}" for number in range(KEYS)}})
        self.load()
        self.load(protocol="dict", depth=8, connections=10)
        self.load("chain")
        self.load("before", found="s#", every=0, rate=200, connections=5)
        self.load("stale")
        with self.fault():
            self.nginx.kill()
            time.sleep(0.7)
            self.nginx.start()
        *faulty, before, stale = self.timelines()
        for line in faulty:
            with self.subTest(line.name):
                self.assert_faulty(line)
        self.assert_untouched(stale)
        self.assertEqual((before.total("ok"), before.total("temp")), (before.total("asked"), 0), str(before))

    def test_moved_to_another_address(self):
        """Its name leads elsewhere, and the old machine is switched off."""
        hosts, port = os.path.join(tempdir(self), "hosts"), free_port()

        def lead_to(address):
            with open(hosts, "w", encoding="ascii") as file:        # in place: it is mounted
                file.write(f"127.0.0.1 localhost\n{address} service.test\n")
        lead_to("127.0.0.1")
        self.nginx = Nginx(self, DOCUMENTS, port=port)
        other = Nginx(self, DOCUMENTS, port=port, host="127.0.0.2")
        self.mux = serve(self, [url("t", f"http://service.test:{port}/{{}}", timeout=TIMEOUT, retries=0)],
                         wrap=["unshare", "--mount", "sh", "-c", f'mount --bind {hosts} /etc/hosts && exec "$@"', "sh"])
        self.load()
        with self.fault(grace=1.5):     # an old address is used for a second
            lead_to("127.0.0.2")
            self.nginx.kill()
        line, = self.timelines()
        self.assert_true_answers(line)
        self.assert_steady(line)
        self.assert_temp_within(line)
        with open(os.path.join(other.dir, "access.log"), encoding="ascii") as file:
            self.assertIn("GET /k", file.read())


class Silence(Service):
    """The service takes questions and gives no answer."""

    def test_frozen_and_thawed(self):
        """Answers to what nobody waits for any more are answers to nothing else."""
        self.start()
        self.load()
        self.load(protocol="dict", depth=8, connections=10)
        self.load("stale")
        with self.fault():
            self.nginx.freeze()
            time.sleep(1.2)
            self.nginx.thaw()
        *faulty, stale = self.timelines()
        for line in faulty:
            with self.subTest(line.name):
                self.assert_faulty(line)
        self.assert_untouched(stale)

    def test_one_byte_a_second(self):
        """The whole answer is limited in time, not each read."""
        self.start(nginx=faulty(self))
        self.load()
        self.load("stale")
        with self.fault():
            flag(self.nginx, "slow", True)
            time.sleep(1.2)
            flag(self.nginx, "slow", False)
        line, stale = self.timelines()
        self.assert_faulty(line)
        self.assert_untouched(stale)
        self.assertLess(max(slot["slowest_ms"] for slot in line.slots), 2000, str(line))


class Lies(Service):
    """The service answers nonsense."""

    def test_100_megabytes(self):
        """No more is read than max_body, so nothing of it is kept."""
        self.start(nginx=faulty(self), max_body="64k")
        self.load()
        time.sleep(0.5)
        before = self.mux.memory()
        with self.fault(settle=0.5):
            flag(self.nginx, "huge", True)
            time.sleep(1)
            most = self.mux.memory()
            flag(self.nginx, "huge", False)
        line, = self.timelines()
        self.assert_faulty(line)
        self.assertLess(most - before, 32 << 20)

    def test_closes_in_the_body(self):
        """Of an existing key as of a missing one: half of a 404 says nothing either."""
        half = {True: b'HTTP/1.1 200 OK\r\nContent-Length: 300\r\n\r\n"half of', False: b"HTTP/1.1 404 Not Found\r\n"}
        seen = set()

        def say(_number, sock, request):
            sock.sendall(half[request.startswith(b"GET /k")])
            seen.add(request[:6])
        self.start()
        self.load()
        self.load("stale")
        with self.fault():
            self.nginx.stop()
            liar = RawBackend(self, say, port=self.nginx.port)
            time.sleep(0.8)
            liar.stop()
            self.nginx.start()
        line, stale = self.timelines()
        self.assert_faulty(line)
        self.assert_untouched(stale)
        self.assertEqual(seen, {b"GET /k", b"GET /x"})


class Upstreams(FaultCase):
    """Two services that know the same."""

    def start(self, **options):
        self.first, self.second = Nginx(self, DOCUMENTS), Nginx(self, DOCUMENTS)
        self.mux = serve(self, [url("t", f"{self.first.url}/{{}} {self.second.url}/{{}}", timeout=TIMEOUT, **options),
                                url("turns", f"{self.first.url}/{{}} {self.second.url}/{{}}", timeout=TIMEOUT,
                                    balance="round-robin", **options)], threads=2)
        for table in ("t", "turns"):
            self.load(self.mux.paths["socketmap"], table=table, keys=KEYS)

    def test_one_is_killed_and_restarted(self):
        """Nobody notices: what had been asked of it is asked of the other."""
        self.start()
        with self.fault():
            self.first.kill()
            time.sleep(0.7)
            self.first.start()
        for line in self.timelines():
            with self.subTest(line.name):
                self.assert_untouched(line)

    def test_one_is_frozen(self):
        """It costs the questions under way their timeout, and then it is left alone, though it is still
        silent."""
        self.start()
        with self.fault(grace=1.2, behind=2):
            self.first.freeze()
        lines = self.timelines()
        self.first.thaw()
        for line in lines:
            with self.subTest(line.name):
                self.assert_faulty(line)


class Breaker(Service):
    """A table that is left alone for a while."""

    def test_it_opens_and_closes(self):
        """While it is open nobody waits, and the service is not asked; then a probe finds it well."""
        self.start(breaker={"failures": 20, "cooldown": "500ms"})
        self.load()
        with self.fault(grace=1.2):
            self.nginx.freeze()
            time.sleep(1.5)
            self.nginx.thaw()
        line, = self.timelines()
        self.assert_faulty(line)
        start, end = self.faults[0]
        # Without it 50 clients would wait for 500 ms each: 100 answers a second.
        self.assertGreater(line.total("temp", start=start, end=end), 500, str(line))
        has_log(self.mux, "breaker open")
        has_log(self.mux, "breaker closed")


class Overload(FaultCase):
    """More questions than a table is to be asked at a time."""

    def test_max_inflight(self):
        """Those too many are TEMP at once; nobody is cut off, and the rest is answered right."""
        gate = threading.Event()
        gate.set()
        known = b'HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"v%b"'
        unknown = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"

        def say(_number, sock, request):
            gate.wait(0.2)
            number = request.split(b" ", 2)[1][2:]
            sock.sendall(known % (len(number) + 3, number) if request.startswith(b"GET /k") else unknown)
            return True
        backend = RawBackend(self, say)
        mux = serve(self, [url("t", backend.url, max_inflight=20)], threads=2)
        self.load(mux.paths["socketmap"], keys=KEYS, rate=500)
        with self.fault():
            gate.clear()
            time.sleep(1)
            gate.set()
        line, = self.timelines()
        self.assert_true_answers(line)
        self.assert_steady(line)
        # Not only then: when the machine stands still for a moment, the questions of that moment come at once.
        start, end = self.faults[0]
        self.assertGreater(line.total("temp", start=start, end=end), 100, str(line))
        self.assertGreater(line.total("ok", start=start, end=end), 20, str(line))
        self.assertIn("too many questions in flight", line.samples)
        self.assertNotIn("no answer within", line.samples)


def faulty(case):
    """An nginx that flags can make slow or huge."""
    nginx = Nginx(case, {**DOCUMENTS, "/huge-document": ""}, more=FLAGS)
    os.truncate(os.path.join(nginx.dir, "www", "huge-document"), 100 << 20)
    return nginx


def flag(nginx, name, yes):
    """Sets it, or takes it back."""
    path = os.path.join(nginx.dir, name)
    if yes:
        with open(path, "w", encoding="ascii"):
            pass
    else:
        os.unlink(path)


if __name__ == "__main__":
    unittest.main()
