"""Postfix's own client, `postmap -q`, asks url (nginx), static and chain tables."""

import os
import unittest

from harness import Case, Mapmux, free_port, tempdir
from harness.mapmux import document
from harness.nginx import Nginx
from harness.postfix import Postmap

LISTED = ["with space", "two  spaces", 'quo"ted', "it's", '"first last"@example.test', "müller@exämple.test",
          "日本", "100%", "%41", "what?", "what?x=1&y=2", "a#b", "a+b@example.test", "a&b=c", "{}", "{key}",
          "§",
          "a;b", "back\\slash", "<>", "*", "[192.0.2.1]", ".example.test", "a,b", "dot.", "...", "a..b", "-q"]
REFUSED = ["..", "../alias/with space", "x/../with space", "x/..", ".", "./with space", "/with space"]


class Lookups(Case):
    """The same questions over a unix socket and over TCP."""

    @classmethod
    def setUpClass(cls):
        cls.postmap = Postmap(cls)
        cls.nginx = Nginx(cls, {"/alias/" + key: "found: " + key for key in LISTED})
        cls.nginx.put("/list/two", ["a@example.test", "b@example.test"])
        where = tempdir(cls)
        cls.path, cls.port = os.path.join(where, "sm"), free_port()
        names = os.path.join(where, "names")
        with open(names, "w", encoding="utf-8") as file:
            file.write("# as postmap reads it\nplain value\nspaced  two words\nmüller maß\n")
        cls.mux = Mapmux(cls, config=document({
            "listeners": [{"protocol": "socketmap", "address": "unix:" + cls.path, "mode": "0666"},
                          {"protocol": "socketmap", "address": f"127.0.0.1:{cls.port}"}],
            "tables": [{"name": "alias", "type": "url", "param": cls.nginx.url + "/alias/{}"},
                       {"name": "list", "type": "url", "param": cls.nginx.url + "/list/{}"},
                       {"name": "static", "type": "static", "param": "key=value other=x=y"},
                       {"name": "file", "type": "static", "param": "file:" + names},
                       {"name": "dead", "type": "url", "param": f"http://127.0.0.1:{free_port()}/{{}}"},
                       {"name": "both", "type": "chain", "param": "static file alias"},
                       {"name": "broken", "type": "chain", "param": "static dead alias"}]}))

    def maps(self, table):
        """The table as Postfix names it, by each of its ways."""
        return [f"socketmap:unix:{self.path}:{table}", f"socketmap:inet:127.0.0.1:{self.port}:{table}"]

    def found(self, table, key, value):
        for name in self.maps(table):
            with self.subTest(map=name, key=key):
                done = self.postmap.query(key, name)
                self.assertEqual((done.stdout.decode(), done.stderr, done.returncode), (value + "\n", b"", 0))

    def not_found(self, table, key):
        for name in self.maps(table):
            with self.subTest(map=name, key=key[:60]):
                done = self.postmap.query(key, name)
                self.assertEqual((done.stdout, done.stderr, done.returncode), (b"", b"", 1))

    def fails(self, table, key, word):
        for name in self.maps(table):
            with self.subTest(map=name, key=key):
                done = self.postmap.query(key, name)
                self.assertEqual((done.stdout, done.returncode), (b"", 1))
                self.assertIn(word, done.stderr)

    def test_found_in_each_type(self):
        self.found("static", "key", "value")
        self.found("static", "other", "x=y")
        self.found("file", "plain", "value")
        self.found("file", "spaced", "two words")
        self.found("file", "müller", "maß")
        self.found("alias", "with space", "found: with space")
        self.found("list", "two", "a@example.test,b@example.test")

    def test_not_found_is_silent(self):
        for table in ("static", "file", "alias", "list", "both"):
            self.not_found(table, "nobody@example.test")

    def test_keys_arrive_whole(self):
        for key in LISTED:
            self.found("alias", key, "found: " + key)

    def test_keys_that_would_leave_their_place(self):
        for key in REFUSED:
            self.not_found("alias", key)

    def test_long_keys(self):
        for size in (200, 1022, 1024, 4000, 9000):
            self.found("alias", "long-" + "k" * size, "found")
        self.not_found("static", "k" * 9000)

    def test_case_is_kept(self):
        self.not_found("static", "KEY")

    def test_chain_takes_the_first(self):
        self.found("both", "key", "value")
        self.found("both", "plain", "value")
        self.found("both", "what?", "found: what?")

    def test_chain_stops_at_a_failure(self):
        self.found("broken", "key", "value")
        self.fails("broken", "with space", b"temporary error")

    def test_dead_backend_is_temporary(self):
        self.fails("dead", "x", b"temporary error")

    def test_unknown_table_is_permanent(self):
        self.fails("nosuch", "x", b"permanent error")

    def test_many_keys_on_one_connection(self):
        keys = [key for key in LISTED for _ in range(10)]
        text = "".join(f"{key}\nmissing {key}\n" for key in keys)
        for name in self.maps("alias"):
            with self.subTest(map=name):
                done = self.postmap.query("-", name, stdin=text)
                self.assertEqual(done.stderr, b"")
                self.assertEqual(done.stdout.decode().splitlines(), [f"{key}\tfound: {key}" for key in keys])
                self.assertEqual(done.returncode, 0)

    def test_many_keys_none_found(self):
        for name in self.maps("static"):
            done = self.postmap.query("-", name, stdin="a\nb\nc\n")
            self.assertEqual((done.stdout, done.stderr, done.returncode), (b"", b"", 1))

    def test_two_maps_in_order(self):
        """postmap asks the second where the first says NOTFOUND, on the same connection."""
        for first, second in zip(self.maps("static"), self.maps("alias")):
            done = self.postmap.query("100%", first, second)
            self.assertEqual((done.stdout, done.stderr, done.returncode), ("found: 100%\n".encode(), b"", 0))


class Outage(Case):
    """nginx fails, goes, and comes back."""

    def test_outage_and_return(self):
        nginx = Nginx(self, {"/alias/key": "value"})
        path = os.path.join(tempdir(self), "sm")
        Mapmux(self, "--listen", f"socketmap:unix:{path}", "--name", "alias", "--type", "url", "--param",
               nginx.url + "/alias/{}")
        postmap = Postmap(self)

        def ask():
            done = postmap.query("key", f"socketmap:unix:{path}:alias")
            return done.stdout, done.returncode, b"temporary error" in done.stderr

        self.assertEqual(ask(), (b"value\n", 0, False))
        nginx.down(True)
        self.assertEqual(ask(), (b"", 1, True))
        nginx.down(False)
        self.assertEqual(ask(), (b"value\n", 0, False))
        nginx.stop()
        self.assertEqual(ask(), (b"", 1, True))
        nginx.start()
        self.assertEqual(ask(), (b"value\n", 0, False))


if __name__ == "__main__":
    unittest.main()
