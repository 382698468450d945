"""lowercase, recipient_delimiter and try, as Postfix's own client and Dovecot's protocol see them."""

import json
import os
import unittest

from harness import Backend, Case, Mapmux, free_port, run, serve, tempdir, url
from harness.backend import as_json
from harness.mapmux import binary, document
from harness.nginx import Nginx
from harness.postfix import Postmap

ALL = ["key", "without_extension", "localpart", "@domain", "domain", "parent_domains"]
ENTRIES = {"bob@example.test": "bob", "root": "admin", "@example.test": "catch-all", "example.net": "whole domain",
           ".example.org": "subdomains", "*": "default", "<>": "null sender", '"a@b"@example.test': "quoted",
           "[192.0.2.1]": "literal", "owner-list@lists.test": "owner", "tls.test": "parent"}
# (key, value or None)
WALKS = [("bob@example.test", "bob"), ("Bob@Example.TEST", "bob"), ("bob+news@example.test", "bob"),
         ("bob-x+y@example.test", "bob"), ("eve@example.test", "catch-all"), ("root@elsewhere.test", "admin"),
         ("root+x@elsewhere.test", "admin"), ("eve@example.net", "whole domain"),
         ("eve@mail.example.net", "whole domain"), ("eve@mail.example.org", "subdomains"),
         ("mail.example.org", "subdomains"), ("eve@example.org", None), ("*", "default"), ("<>", "null sender"),
         ("example.test", None), ('"a@b"@example.test', "quoted"), ("[192.0.2.1]", "literal"),
         ("[192.0.2.2]", None), ("owner-list@lists.test", "owner"), ("nobody@lists.test", None),
         (".example.org", "subdomains"), (".tls.test", None), ("a.tls.test", "parent")]


class Walks(Case):
    """The same walk over a static table and over nginx, by postmap."""

    @classmethod
    def setUpClass(cls):
        cls.postmap = Postmap(cls)
        cls.nginx = Nginx(cls, {"/map/" + key: value for key, value in ENTRIES.items()})
        where = tempdir(cls)
        cls.path = os.path.join(where, "sm")
        with open(where + "/entries.json", "w", encoding="utf-8") as file:
            json.dump(ENTRIES, file)
        entries = {"type": "static", "param": f"file:{where}/entries.json"}
        options = {"lowercase": True, "recipient_delimiter": "+-", "try": ALL}
        cls.mux = Mapmux(cls, config=document({
            "listeners": [{"protocol": "socketmap", "address": "unix:" + cls.path, "mode": "0666"}],
            "tables": [{"name": "static", **entries, **options},
                       url("url", cls.nginx.url + "/map/{}", **options),
                       {"name": "plain", **entries}]}))

    def test_walks(self):
        for table in ("static", "url"):
            for key, value in WALKS:
                with self.subTest(table=table, key=key):
                    done = self.postmap.query(key, f"socketmap:unix:{self.path}:{table}")
                    self.assertEqual(done.stderr, b"")
                    self.assertEqual((done.returncode, done.stdout.decode()),
                                     (0, value + "\n") if value else (1, ""))

    def test_off_unless_asked_for(self):
        for key in ("Bob@example.test", "bob+x@example.test", "eve@example.test"):
            done = self.postmap.query(key, f"socketmap:unix:{self.path}:plain")
            self.assertEqual((done.returncode, done.stdout, done.stderr), (1, b"", b""))


class Requests(Case):
    """What the service is asked, in order."""

    def test_order_and_errors(self):
        def answer(request):
            return as_json("x", 503) if request.plain_path == "/@down.test" else None
        backend = Backend(self, answer)
        mux = serve(self, [url("t", backend.url + "/{}", recipient_delimiter="+",
                               **{"try": ["key", "without_extension", "@domain", "domain"]})])
        self.assertEqual(mux.ask("t", "A+b@c.test")[0], "NOTFOUND")
        self.assertEqual([request.plain_path for request in backend.seen()],
                         ["/A+b@c.test", "/A@c.test", "/@c.test", "/c.test"])
        backend.forget()
        self.assertEqual(mux.ask("t", "u@down.test")[0], "TEMP")
        self.assertEqual([request.plain_path for request in backend.seen()], ["/u@down.test", "/@down.test"])

    def test_dict(self):
        backend = Backend(self, lambda request: "v" if request.plain_path == "/bob@c.test" else None)
        mux = serve(self, [url("t", backend.url + "/{}", lowercase=True, recipient_delimiter="+"),
                           {"name": "m", "type": "memory", "lowercase": True}])
        self.assertEqual(mux.look("t", "shared/Bob+x@C.test").value, "v")
        with mux.dict("m") as client:
            client.line("B1", "alice")
            client.line("S1", "shared/Dir/Key", "Value")
            self.assertEqual(client.commit(1).letter, "O")
            self.assertEqual(client.lookup("shared/dIR/kEY").value, "Value")
            self.assertEqual(client.iterate("shared/DIR/", flags=1).rows, [("shared/DIR/key", "Value")])

    def test_userli_keeps_its_own_delimiter(self):
        """The setting of the type goes before the one of every table."""
        where = tempdir(self)
        with open(where + "/token", "w", encoding="ascii") as file:
            file.write("secret")
        done = run([binary(), "check", "--listen", f"socketmap:127.0.0.1:{free_port()}", "--name", "alias", "--type",
                    "userli", "--param", "http://127.0.0.1:9/", "--option", f"token_file={where}/token",
                    "--option", "recipient_delimiter=+"])
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        self.assertIn(b'recipient_delimiter: "+"', done.stdout)


class Check(Case):
    """What is wrong is said with its place."""

    def check(self, options):
        path = os.path.join(tempdir(self), "c.yaml")
        with open(path, "w", encoding="utf-8") as file:
            file.write('listeners:\n  - {protocol: socketmap, address: "127.0.0.1:1"}\ntables:\n'
                       "  - name: t\n    type: memory\n" + "".join(f"    {line}\n" for line in options))
        done = run([binary(), "check", "-c", path])
        return done.returncode, done.stderr.decode().replace(path, "FILE"), done.stdout.decode()

    def test_errors(self):
        for options, place in ((["try: [key, nonsense]"], "FILE:6: try: \"nonsense\""),
                               (["lowercase: yes", 'try: "key  key"'], "FILE:7: try: \"key\" comes twice"),
                               (['recipient_delimiter: "+ -"'], "FILE:6: recipient_delimiter: white space"),
                               (["lowercase: perhaps"], "FILE:6: lowercase: "),
                               (["retries: 6"], "FILE:6: retries: "),
                               (["breaker: {failures: -1}"], "FILE:6: breaker.failures: "),
                               (["breaker: {coldown: 5s}"], "FILE:6: breaker.coldown: "),
                               (["breaker: 5"], "FILE:6: breaker: ")):
            with self.subTest(options):
                code, errors, _ = self.check(options)
                self.assertEqual(code, 1)
                self.assertIn(place, errors)

    def test_warnings(self):
        for options, word in ((["try: [key, without_extension]"], "try: without_extension needs recipient_delimiter"),
                              (['recipient_delimiter: "+"', "try: [key, domain]"], "recipient_delimiter: try has no")):
            code, errors, _ = self.check(options)
            self.assertEqual(code, 0)
            self.assertIn("FILE:", errors)
            self.assertIn(word, errors)

    def test_what_would_run_loads_again(self):
        code, errors, shown = self.check(['try: [key, "@domain"]', "lowercase: yes", "breaker: {failures: 3}"])
        self.assertEqual((code, errors), (0, ""))
        path = os.path.join(tempdir(self), "again.yaml")
        with open(path, "w", encoding="utf-8") as file:
            file.write(shown)
        again = run([binary(), "check", "-c", path])
        self.assertEqual((again.returncode, again.stderr), (0, b""))
        for line in ('try: [key, "@domain"]', "lowercase: yes", "breaker.failures: 3"):
            self.assertIn(line, again.stdout.decode())


if __name__ == "__main__":
    unittest.main()
