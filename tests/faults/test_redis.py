"""Redis that dies and falls silent, while a steady load asks for what it knows."""

import signal
import time
import unittest

from harness import serve, url
from harness.nginx import Nginx
from harness.redis import Redis

from load import STALE, FaultCase, warm

KEYS = 211


class Server(FaultCase):
    """One Redis, a table `t` without anything around it, and one with a cache that hides its faults."""

    def setUp(self):
        super().setUp()
        self.redis = Redis(self, "")
        self.redis.do("MSET", *(word for number in range(KEYS) for word in (f"k{number}", f"v{number}")))
        table = {"type": "redis", "param": f"redis://127.0.0.1:{self.redis.port}/0", "timeout": "500ms", "retries": 0}
        self.mux = serve(self, [{"name": "t", **table}, {"name": "stale", "cache": STALE, **table}], threads=2)
        warm(self.mux.paths["socketmap"], "stale", KEYS)
        self.load(self.mux.paths["socketmap"], keys=KEYS)
        self.load(self.mux.paths["dict"], "dict", depth=8, connections=10, keys=KEYS)
        self.load(self.mux.paths["socketmap"], table="stale", keys=KEYS)

    def judge(self):
        *faulty, stale = self.timelines()
        for line in faulty:
            with self.subTest(line.name):
                self.assert_faulty(line)
        self.assert_untouched(stale)

    def test_killed_and_restarted(self):
        """Tried again with pauses of at most 2 s. While it loads its data it says so, which is no absence."""
        with self.fault(grace=2):
            self.redis.stop()
            time.sleep(0.7)
            self.redis.start()
        self.judge()

    def test_frozen_and_thawed(self):
        """What it says at last answers only those who still wait for it."""
        with self.fault():
            self.redis.daemon.kill(signal.SIGSTOP)
            time.sleep(1.2)
            self.redis.daemon.kill(signal.SIGCONT)
        self.judge()


class Level(FaultCase):
    """Redis as the second level of a cache: without it nginx is asked more often, and that is all."""

    def test_killed_and_frozen(self):
        redis = Redis(self, "")
        nginx = Nginx(self, {f"/k{number}": f"v{number}" for number in range(KEYS)})
        mux = serve(self, [url("t", nginx.url + "/{}", timeout="2s", cache={
            "ttl": "300ms", "negative_ttl": "300ms", "shared": f"redis://127.0.0.1:{redis.port}/0"})], threads=2)
        self.load(mux.paths["socketmap"], keys=KEYS)
        self.load(mux.paths["dict"], "dict", depth=8, connections=10, keys=KEYS)
        with self.fault(behind=0):
            self.assertGreater(redis.do("DBSIZE"), KEYS)
            redis.stop()
            time.sleep(0.7)
            redis.start()
        with self.fault():
            redis.daemon.kill(signal.SIGSTOP)
            time.sleep(1.2)
            redis.daemon.kill(signal.SIGCONT)
        for line in self.timelines():
            with self.subTest(line.name):
                self.assert_untouched(line)


if __name__ == "__main__":
    unittest.main()
