"""What a hostile review found: clients, backends and neighbours at their worst."""

import unittest

from harness import Case, serve
from harness.wire import netstring


class Clients(Case):
    """Clients that leave, stall or shout."""

    def test_answers_of_a_vanished_client_reach_nobody(self):
        """His output buffer is used again: it once came with his answers in it."""
        mux = serve(self, [{"name": "t", "type": "static", "param": "his=secret mine=value"}],
                    ("socketmap",), threads=1)
        for _ in range(20):
            with mux.socketmap() as client:
                client.send(netstring("t his") * 3)
            self.assertEqual(mux.ask("t", "mine"), ("OK", "value"))


if __name__ == "__main__":
    unittest.main()
