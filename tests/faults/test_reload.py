"""A hundred SIGHUPs under a steady load."""

import os
import signal
import time
import unittest

from harness import Mapmux, free_port, tempdir, url, wait_until
from harness.mapmux import document
from harness.nginx import Nginx
from harness.redis import Redis

from load import RATE, STALE, FaultCase, warm

KEYS = 211
RELOADS = 100


class Reload(FaultCase):
    """The file changes in each way that leaves the answers the same."""

    def setUp(self):
        super().setUp()
        self.nginx = Nginx(self, {f"/k{number}": f"v{number}" for number in range(KEYS)})
        self.redis = Redis(self, "")
        self.redis.do("MSET", *(word for number in range(KEYS) for word in (f"k{number}", f"v{number}")))
        where = tempdir(self)
        self.paths = {name: os.path.join(where, name) for name in ("socketmap", "dict")}
        self.more = f"127.0.0.1:{free_port()}"
        self.file = os.path.join(where, "mapmux.yaml")
        self.write(0)
        self.mux = Mapmux(self, "-c", self.file, extra=["unix:" + path for path in self.paths.values()])

    def write(self, number):
        """Odd ones have a table and a listener more, and other options; every tenth is wrong."""
        odd = number % 2
        config = {
            "threads": 2,
            "listeners": [{"protocol": name, "address": "unix:" + path, "mode": "0666"}
                          for name, path in self.paths.items()],
            "tables": [url("t", self.nginx.url + "/{}", timeout=f"{5 + odd}s"),
                       url("cached", self.nginx.url + "/{}", cache=STALE),
                       {"name": "redis", "type": "redis", "param": f"redis://127.0.0.1:{self.redis.port}/0"},
                       {"name": "chain", "type": "chain", "param": ["none", "t"][not odd:]}],
        }
        if odd:
            config["listeners"].append({"protocol": "socketmap", "address": self.more})
            config["tables"].append({"name": "none", "type": "static", "entries": {"nobody": "x"}})
        if number % 10 == 9:
            config["tables"].append({"name": "wrong", "type": "chain", "param": "nosuch"})
        with open(self.file + ".new", "w", encoding="utf-8") as file:
            file.write(document(config))
        os.rename(self.file + ".new", self.file)

    def hangup(self):
        before = self.done()
        self.mux.kill(signal.SIGHUP)
        wait_until(lambda: self.done() != before, lambda: "it reloads:\n" + self.mux.log(), pause=0.005)

    def done(self):
        log = self.mux.log()
        return log.count("reloaded: "), log.count("nothing was changed")

    def test_a_hundred(self):
        """Not one error, not one connection closed."""
        self.load(self.paths["socketmap"], keys=KEYS)
        self.load(self.paths["dict"], "dict", keys=KEYS, depth=8, connections=10, rate=RATE / 4)
        for table in ("cached", "redis", "chain"):
            self.load(self.paths["socketmap"], table=table, keys=KEYS, connections=10, rate=RATE / 4)
        time.sleep(0.5)
        for number in range(1, RELOADS + 1):
            self.write(number)
            self.hangup()
        time.sleep(0.5)
        self.assertEqual(self.done(), (RELOADS * 9 // 10, RELOADS // 10))
        for load, line in zip(self.loads, self.timelines()):
            with self.subTest(line.name):
                self.assert_untouched(line)
                self.assertEqual(line.connects, load.connections, str(line))

    def test_signals_faster_than_reloads(self):
        self.load(self.paths["socketmap"], keys=KEYS)
        time.sleep(0.3)
        for number in range(300):
            self.write(number % 9)
            self.mux.kill(signal.SIGHUP)
        self.write(0)
        self.hangup()
        time.sleep(0.3)
        line, = self.timelines()
        self.assert_untouched(line)

    def test_during_an_outage(self):
        """What a cache knows stays known, as its table stays the same."""
        warm(self.paths["socketmap"], "cached", KEYS)
        self.load(self.paths["socketmap"], table="cached", keys=KEYS)
        self.load(self.paths["socketmap"], keys=KEYS, connections=10, rate=RATE / 4)
        with self.fault():
            self.nginx.kill()
            for number in range(1, 9):
                self.write(number)
                self.hangup()
                time.sleep(0.1)
            self.nginx.start()
        cached, plain = self.timelines()
        self.assert_untouched(cached)
        self.assert_faulty(plain)


if __name__ == "__main__":
    unittest.main()
