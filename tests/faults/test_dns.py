"""DNS that falls silent, while a steady load asks whose mail is ours."""

import signal
import time
import unittest

from harness import serve
from harness.dns import Knot

from load import STALE, FaultCase, warm

KEYS = 211
DOMAINS = {"found": "d#.test", "missing": "x#.test"}


class Server(FaultCase):
    """One Knot; dns-mx without its own memory, without anything around it and with a cache that hides
    faults."""

    def setUp(self):
        super().setUp()
        self.knot = Knot(self, {"test.": "".join(f"d{number} MX 10 mx.ours.test.\n" for number in range(KEYS))})
        table = {"type": "dns-mx", "param": "mx.ours.test", "servers": self.knot.address, "cache_entries": 0,
                 "timeout": "500ms"}
        self.mux = serve(self, [{"name": "t", **table}, {"name": "stale", "cache": STALE, **table}], threads=2)
        warm(self.mux.paths["socketmap"], "stale", KEYS, **DOMAINS)

    def test_frozen_and_thawed(self):
        """No answer of DNS is no answer of ours: TEMP, never "not ours"."""
        for table in ("t", "stale"):
            self.load(self.mux.paths["socketmap"], table=table, keys=KEYS, value=DOMAINS["found"], **DOMAINS)
        with self.fault():
            self.knot.daemon.kill(signal.SIGSTOP)
            self.addCleanup(self.knot.daemon.kill, signal.SIGCONT)
            time.sleep(1.2)
            self.knot.daemon.kill(signal.SIGCONT)
        line, stale = self.timelines()
        self.assert_faulty(line)
        self.assert_untouched(stale)


if __name__ == "__main__":
    unittest.main()
