"""What a hostile review found: clients, backends and neighbours at their worst."""

import unittest

from harness import Case, Mapmux, Socketmap, free_port, serve
from harness.mapmux import place
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

    def test_large_answers_do_not_strand_what_was_asked_behind_them(self):
        """More than the output may hold, taken by the socket at once: the decoder goes on."""
        address = f"127.0.0.1:{free_port()}"
        Mapmux(self, "--listen", f"socketmap:{address}", "--name", "t", "--type", "static",
               "--param", "k=" + "x" * 20000)
        for ends in (False, True):
            with self.subTest(ends=ends), Socketmap(place(address)) as client:
                client.send(netstring("t k") * 200)
                if ends:
                    client.half_close()
                self.assertEqual({client.reply() for _ in range(200)}, {("OK", "x" * 20000)})


if __name__ == "__main__":
    unittest.main()
