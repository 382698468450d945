"""Clients of Postfix and Dovecot that vanish in mid-request, beside a steady load of others."""

import signal
import subprocess
import threading
import time
import unittest

from harness import Backend, Reply, Store, serve, url, wait_until
from harness.backend import as_json
from harness.base import program
from harness.dovecot import Doveadm
from harness.nginx import Nginx
from harness.postfix import Postmap
from harness.wire import netstring

from load import FaultCase

KEYS = 211
CLIENTS = 10    # of each kind
LOADED = 60     # connections of the loads


class Vanishing(FaultCase):
    """Table `t` is nginx and carries the load, `slow` is a service that waits for a gate."""

    def setUp(self):
        super().setUp()
        self.gate, self.store = threading.Event(), Store({f"/k{number}": f"v{number}" for number in range(KEYS)})
        self.addCleanup(self.gate.set)
        self.backend = Backend(self, self.answer)
        self.nginx = Nginx(self, {f"/k{number}": f"v{number}" for number in range(KEYS)})
        self.mux = serve(self, [url("t", self.nginx.url + "/{}"), url("slow", self.backend.url + "/{}")], threads=2)
        self.postmap, self.doveadm = Postmap(self), Doveadm(self)
        self.load(self.mux.paths["socketmap"], keys=KEYS)
        self.load(self.mux.paths["dict"], "dict", keys=KEYS, depth=8, connections=10)

    def answer(self, request):
        reply = self.store(request) or as_json("unknown", 404)
        return Reply(reply.body, reply.status, gate=self.gate) if isinstance(reply, Reply) else \
            as_json(reply, gate=self.gate)

    def start(self, *argv):
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def postfix(self, key):
        return self.start(program("postmap", "postfix"), "-c", self.postmap.dir, "-q", key,
                          f"socketmap:unix:{self.mux.paths['socketmap']}:slow")

    def dovecot(self, *words):
        return self.start(program("doveadm", "dovecot-core"), "-c", self.doveadm.conf, "dict", words[0], "-u", "alice",
                          f"proxy:{self.mux.paths['dict']}:slow", *words[1:])

    def connected(self):
        """How many clients mapmux has a connection to."""
        with open("/proc/net/unix", encoding="ascii", errors="replace") as file:
            rows = [line.split() for line in file]
        return sum(row[5] == "03" and row[7:] in ([path] for path in self.mux.paths.values()) for row in rows)

    def assert_nothing_left(self):
        wait_until(lambda: self.connected() == LOADED, lambda: f"{self.connected()} clients, not {LOADED}")
        for line in self.timelines():
            with self.subTest(line.name):
                self.assert_untouched(line)

    def test_readers(self):
        """postmap and doveadm are killed while they wait. Nobody else is given their answers."""
        time.sleep(0.5)
        clients = [start(*words, f"{scope}k{number}") for number in range(CLIENTS)
                   for start, words, scope in ((self.postfix, (), ""), (self.dovecot, ("get",), "shared/"))]
        self.backend.wait_for(CLIENTS)
        wait_until(lambda: self.connected() == LOADED + 2 * CLIENTS, "all clients are connected")
        time.sleep(0.2)
        for client in clients:
            client.send_signal(signal.SIGKILL)
            client.wait()
        time.sleep(0.2)
        self.gate.set()
        for number in range(CLIENTS):
            self.assertEqual(self.mux.ask("slow", f"k{number}"), ("OK", f"v{number}"))
            self.assertEqual(self.mux.look("slow", f"shared/k{number}").value, f"v{number}")
        self.assert_nothing_left()

    def test_writers(self):
        """A change that was asked for is made, whoever left meanwhile."""
        time.sleep(0.5)
        clients = [self.dovecot("set", f"shared/new{number}", f"w{number}") for number in range(CLIENTS)]
        self.backend.wait_for(CLIENTS, method="POST")
        for client in clients:
            client.send_signal(signal.SIGKILL)
            client.wait()
        time.sleep(0.2)
        self.gate.set()
        for number in range(CLIENTS):
            self.assertEqual(self.mux.ask("slow", f"new{number}"), ("OK", f"w{number}"))
        self.assertEqual(len(self.backend.seen(method="POST")), CLIENTS)
        self.assert_nothing_left()

    def test_hundreds_at_once(self):
        """They send a part of a question, or more questions than are answered, and are gone."""
        time.sleep(0.5)
        for round in range(100):
            clients = [self.mux.socketmap(), self.mux.socketmap(), self.mux.dict("slow")]
            clients[0].send(netstring(f"slow k{round}")[:-3])
            clients[1].send(netstring(f"slow k{round}") * 5)
            for number in range(5):
                clients[2].start_lookup(f"shared/k{number}")
            for client in clients:
                client.close()
        self.gate.set()
        self.assertEqual(self.mux.ask("slow", "k1"), ("OK", "v1"))
        self.assert_nothing_left()

    def test_those_who_do_not_listen(self):
        """They ask on and on and take no answer: mapmux reads no more of them than it can answer."""
        time.sleep(0.5)
        clients = [self.mux.socketmap() for _ in range(20)]
        for client in clients:
            self.addCleanup(client.close)
            client.sock.setblocking(False)
        before, sent = self.mux.memory(), 0
        end = time.monotonic() + 1
        while time.monotonic() < end:
            for client in clients:
                try:
                    sent += client.sock.send(netstring("t k1") * 1000)
                except BlockingIOError:
                    time.sleep(0.001)
        self.assertLess(self.mux.memory() - before, 20 << 20, f"of {sent} bytes that were sent")
        for client in clients:
            client.close()
        self.assert_nothing_left()


if __name__ == "__main__":
    unittest.main()
