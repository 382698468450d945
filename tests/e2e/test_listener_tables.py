"""A listener's `tables`: others do not exist for its clients."""

import os
import signal
import unittest

from harness import Case, Dict, Mapmux, Socketmap, tempdir, wait_until
from harness.http import Http
from harness.mapmux import document
from harness.wire import Closed

TABLES = [
    {"name": "hashes", "type": "static", "entries": {"k": "secret"}},
    {"name": "notes", "type": "memory"},
    {"name": "both", "type": "chain", "param": "notes hashes"},
]


class Listeners(Case):
    def setUp(self):
        self.dir = tempdir(self)
        self.write(["notes", "both"])
        self.mux = Mapmux(self, "-c", self.path("mapmux.yaml"),
                          extra=["unix:" + self.path(name) for name in ("all", "socketmap", "dict", "http")])

    def path(self, name):
        return os.path.join(self.dir, name)

    def write(self, tables):
        listeners = [{"protocol": "dict", "address": "unix:" + self.path("all"), "mode": "0600"}]
        listeners += [{"protocol": protocol, "address": "unix:" + self.path(protocol), "mode": "0666", "tables": tables}
                      for protocol in ("socketmap", "dict", "http")]
        with open(self.path("new"), "w", encoding="utf-8") as file:
            file.write(document({"threads": 2, "listeners": listeners, "tables": TABLES}))
        os.rename(self.path("new"), self.path("mapmux.yaml"))

    def dict(self, listener, table):
        client = Dict(self.path(listener), table)
        self.addCleanup(client.close)
        return client

    def ask(self, table, key="k"):
        with Socketmap(self.path("socketmap")) as client:
            return client.ask(table, key)

    def http(self):
        client = Http(self.path("http"))
        self.addCleanup(client.close)
        return client

    def test_each_protocol(self):
        self.assertEqual(self.dict("all", "hashes").lookup("shared/k").value, "secret")
        with self.assertRaises(Closed):
            self.dict("dict", "hashes").lookup("shared/k")
        self.assertEqual(self.dict("dict", "notes").lookup("shared/k").letter, "N")
        self.assertEqual(self.ask("hashes"), ("PERM", "unknown table"))
        self.assertEqual(self.ask("notes")[0], "NOTFOUND")

    def test_http(self):
        client = self.http()
        for answer in (client.lookup("hashes", "k"), client.ask("PUT", "/v1/lookup/hashes?key=k", b"x"),
                       client.get("/v1/iterate/hashes"), client.ask("POST", "/v1/cache/purge?table=hashes")):
            self.assertEqual((answer.status, answer.json()), (404, {"status": "error", "reason": "unknown table"}))
        self.assertEqual([table["name"] for table in client.get("/v1/tables").json()["tables"]], ["both", "notes"])
        self.assertEqual(client.ask("POST", "/v1/cache/purge").status, 200)

    def test_a_table_may_use_others(self):
        self.assertEqual(self.ask("both"), ("OK", "secret"))

    def test_a_reload_holds_for_open_connections(self):
        kept = self.dict("dict", "notes")
        self.assertEqual(kept.lookup("shared/k").letter, "N")
        with Socketmap(self.path("socketmap")) as client:
            self.assertEqual(client.ask("hashes", "k"), ("PERM", "unknown table"))
            self.write(["hashes"])
            os.kill(self.mux.pid, signal.SIGHUP)
            wait_until(lambda: client.ask("hashes", "k") == ("OK", "secret"), "the reload")
            self.assertEqual(client.ask("notes", "k"), ("PERM", "unknown table"))
        with self.assertRaises(Closed):
            kept.lookup("shared/k")


if __name__ == "__main__":
    unittest.main()
