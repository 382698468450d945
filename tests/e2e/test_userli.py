"""The userli table, asked by postmap and by Dovecot, against a double of userli's API."""

import json
import os
import re
import unittest

from harness import Case, Reply, free_port, serve, tempdir, wait_until
from harness.dovecot import Dovecot
from harness.mapmux import mapmux
from harness.postfix import Postmap
from harness.userli import Userli, encoded

LOOKUPS = ("alias", "domain", "mailbox", "senders", "quota")
PASSDB = "passdb {\n  driver = static\n  args = password=secret\n}\n"
USERDB = "userdb {\n  driver = dict\n  args = {dir}/auth.conf.ext\n  default_fields = uid=mail gid=mail home=/nonexistent\n}\n"
AUTH_CONF = "uri = proxy:{socket}:dovecot\nuser_key = userdb/%u\nvalue_format = json\n"


def userli(name, base, token="good-token", **options):
    return {"name": name, "type": "userli", "param": base, "token": token, **options}


def fill(double):
    double.user("alice@example.org", quota=500, per_hour=5, per_day=100)
    double.user("bob@example.org", per_hour=7)
    double.user("gone@example.org", deleted=True)
    double.user("list@example.org")
    double.user("crypt@example.org", crypt=True, public="PUBLIC+/=", private="PRIVATE")
    double.user("müller@example.org")
    double.user("owner-x@example.org")
    double.user("alice@exämple.org")
    double.alias("info@example.org", "alice@example.org")
    double.alias("info@example.org", "bob@example.org")
    double.alias("bob@example.org", "alice@example.org")
    double.alias("old@example.org", "alice@example.org", deleted=True)
    double.alias("limited@example.org", "x@elsewhere.example", per_day=3)
    double.settings.update(postmaster_address="admin@example.org", smtp_quota_limit_per_day=50)


class Base(Case):
    @classmethod
    def start(cls, tables, **options):
        cls.postmap = Postmap(cls)
        cls.mux = serve(cls, tables, **options)

    def query(self, table, key):
        done = self.postmap.query(key, f"socketmap:unix:{self.mux.paths['socketmap']}:{table}")
        return done.returncode, done.stdout.decode().rstrip("\n"), done.stderr.decode()

    def found(self, table, key, value):
        with self.subTest(table=table, key=key):
            self.assertEqual(self.query(table, key), (0, value, ""))

    def absent(self, table, *keys):
        for key in keys:
            with self.subTest(table=table, key=key):
                self.assertEqual(self.query(table, key), (1, "", ""))

    def fails(self, table, key, word=""):
        with self.subTest(table=table, key=key):
            status, reason = self.mux.ask(table, key)
            self.assertEqual(status, "TEMP", reason)
            self.assertIn(word, reason)
            code, value, complaint = self.query(table, key)
            self.assertEqual((code, value), (1, ""))
            self.assertTrue(complaint, "an absence is silent, an error is not")


class Lookups(Base):
    """Each endpoint, through postmap."""

    @classmethod
    def setUpClass(cls):
        cls.double = Userli(cls)
        fill(cls.double)
        cls.start([userli(name, cls.double.url) for name in LOOKUPS]
                  + [userli("dovecot", cls.double.url),
                     userli("other", cls.double.url + "//", endpoint="alias", list_separator=" "),
                     userli("plus", cls.double.url, endpoint="mailbox", recipient_delimiter="+"),
                     userli("set", cls.double.url, endpoint="mailbox", recipient_delimiter="+-="),
                     userli("quotaof", cls.double.url, endpoint="dovecot", value="/quota_rule")])

    def setUp(self):
        self.double.backend.forget()

    def test_alias(self):
        self.found("alias", "info@example.org", "alice@example.org,bob@example.org")
        self.found("alias", "bob@example.org", "alice@example.org")
        self.found("alias", "postmaster@example.org", "admin@example.org")
        self.found("other", "info@example.org", "alice@example.org bob@example.org")
        self.absent("alias", "old@example.org", "nobody@example.org", "abuse@example.org")

    def test_domain(self):
        self.found("domain", "example.org", "1")
        self.found("domain", "EXAMPLE.org", "1")
        self.absent("domain", "example.net")

    def test_mailbox(self):
        self.found("mailbox", "alice@example.org", "1")
        self.absent("mailbox", "gone@example.org", "nobody@example.org", "info@example.org")

    def test_senders(self):
        self.found("senders", "bob@example.org", "bob@example.org,alice@example.org")
        self.found("senders", "alice@example.org", "alice@example.org")
        self.found("senders", "info@example.org", "alice@example.org,bob@example.org")
        self.absent("senders", "nobody@example.org")

    def test_quota(self):
        self.found("quota", "alice@example.org", "5/h 100/d")
        self.found("quota", "bob@example.org", "7/h 50/d")
        self.found("quota", "limited@example.org", "0/h 3/d")
        self.absent("quota", "nobody@example.org")
        self.assertEqual(json.loads(self.mux.look("quota", "shared/alice@example.org").value),
                         {"per_hour": 5, "per_day": 100})

    def test_dict(self):
        self.assertEqual(json.loads(self.mux.look("alias", "shared/info@example.org").value),
                         ["alice@example.org", "bob@example.org"])
        self.assertEqual(self.mux.look("alias", "shared/nobody@example.org").letter, "N")
        self.assertEqual(self.mux.look("mailbox", "shared/alice@example.org").value, "true")
        self.assertEqual(self.mux.look("mailbox", "shared/nobody@example.org").letter, "N")
        self.assertEqual(self.mux.look("mailbox", "priv/alice@example.org", "alice").letter, "F")

    def test_userdb(self):
        def look(key):
            return json.loads(self.mux.look("dovecot", key).value)
        self.assertEqual(look("shared/userdb/alice@example.org"),
                         {"user": "alice@example.org", "quota_rule": "*:storage=500M"})
        self.assertEqual(look("shared/bob@example.org"), {"user": "bob@example.org"})
        self.assertEqual(look("shared/userdb/crypt@example.org"),
                         {"user": "crypt@example.org", "mail_crypt_save_version": "2",
                          "mail_crypt_global_public_key": "PUBLIC+/="})
        for key in ("gone@example.org", "nobody@example.org", "status", "userdb", ""):
            self.assertEqual(self.mux.look("dovecot", "shared/userdb/" + key).letter, "N", key)
        answer = self.mux.look("dovecot", "shared/passdb/alice@example.org")
        self.assertEqual(answer.letter, "F")
        self.assertIn("verifies passwords", answer.value)
        self.found("quotaof", "alice@example.org", "*:storage=500M")
        self.absent("quotaof", "bob@example.org")

    def test_request(self):
        self.found("mailbox", "alice@example.org", "1")
        request, = self.double.backend.seen()
        self.assertEqual(request.line, "GET /api/postfix/mailbox/alice%40example.org HTTP/1.1")
        self.assertEqual(request.header("Authorization"), "Bearer good-token")
        self.assertEqual(request.header("Accept"), "application/json")
        self.assertIn("mapmux", request.header("User-Agent"))
        self.assertEqual(request.body, b"")

    def test_keys_are_lowered_and_trimmed(self):
        for key in ("Alice@Example.ORG", " alice@example.org ", "\u200balice@example.org\ufeff",
                    "alice@example.org\x7f", "\t\u200c\u200d alice@example.org", "\u00a0\u2003alice@example.org\u3000\u0085",
                    "\u2028\u1680alice@example.org\u202f\u205f\u2029"):
            self.assertEqual(self.mux.ask("mailbox", key), ("OK", "1"), repr(key))
        self.assertEqual(set(self.double.asked()), {"/api/postfix/mailbox/alice@example.org"})

    def test_keys_that_userli_cannot_have_are_not_asked_for(self):
        for key in ("alice", "@example.org", "alice@", "a@b@example.org", "al ice@example.org",
                    "alice/x@example.org", "alice+x@example.org", "müller@example.org", "o'x@example.org",
                    '"alice"@example.org', "alice@[192.0.2.1]", "alice@exa mple.org", "alice@example.org/..",
                    "alice@example.org?x", "alice@../../x", "alice@..", "*@example.org", "%40@example.org",
                    "@", "x" * 300 + "@example.org", "a@" + "x" * 70 + ".org", b"\xff@example.org",
                    b"alice@\xff.org", "alice@example.org\n.x"):
            with self.subTest(key=key[:40]):
                self.assertEqual(self.mux.ask("mailbox", key)[0], "NOTFOUND")
        for key in ("..", ".", "a/b", "example.org/../x", ".example.org", "[192.0.2.1]", "*", "a b", "a@b"):
            with self.subTest(key=key):
                self.assertEqual(self.mux.ask("domain", key)[0], "NOTFOUND")
        self.assertEqual(self.double.asked(), [])

    def test_domains_are_encoded(self):
        self.found("mailbox", "alice@exämple.org", "1")
        request, = self.double.backend.seen()
        self.assertEqual(request.path, "/api/postfix/mailbox/" + encoded("alice@exämple.org"))

    def test_capitals_of_any_alphabet_in_a_domain(self):
        self.found("mailbox", "Alice@EX\u00c4MPLE.Org", "1")
        self.found("mailbox", "alice@exa\u0308mple.org", "1")
        self.assertEqual(set(self.double.asked()), {"/api/postfix/mailbox/alice@ex\u00e4mple.org"})

    def test_delimiter_is_a_set(self):
        for table, key in (("plus", "alice+x@example.org"), ("plus", "alice+x+y@example.org"),
                           ("set", "alice-x@example.org"), ("set", "alice=+-@example.org"),
                           ("set", "ALICE=x@example.org"), ("set", "owner-x@example.org")):
            self.found(table, key, "1")
        self.double.backend.forget()
        for table, key in (("plus", "+alice@example.org"), ("set", "=alice@example.org"),
                           ("mailbox", "alice+x@example.org"), ("plus", "alice=x@example.org")):
            self.absent(table, key)
        self.assertEqual(self.double.asked(), [])
        self.absent("plus", "alice-x@example.org")
        self.absent("set", "list-request@example.org")
        self.assertEqual(self.double.asked()[-1], "/api/postfix/mailbox/list-request@example.org")

    def test_unknown_operations(self):
        self.assertEqual(self.mux.look("alias", "shared/auth").letter, "N")
        with self.mux.dict("alias") as client:
            self.assertEqual(client.iterate("shared/").letter, "F")


class Refusals(Base):
    """A token that is wrong, or has not the scope, is nobody's absence."""

    @classmethod
    def setUpClass(cls):
        cls.double = Userli(cls, {"good-token": {"postfix"}, "mail-token": {"dovecot"}})
        fill(cls.double)
        where = tempdir(cls)
        cls.token_file = os.path.join(where, "token")
        with open(cls.token_file, "w", encoding="ascii") as file:
            file.write("good-token\n")
        tables = [userli("bad-" + name, cls.double.url, "wrong-token", endpoint=name)
                  for name in (*LOOKUPS, "dovecot")]
        tables += [userli("scope-" + name, cls.double.url, "mail-token", endpoint=name) for name in LOOKUPS]
        tables.append(userli("scope-dovecot", cls.double.url, endpoint="dovecot"))
        by_file = userli("mailbox", cls.double.url)
        del by_file["token"]
        tables.append({**by_file, "token_file": cls.token_file})
        cls.start(tables)

    def key(self, name):
        return "example.org" if name == "domain" else "alice@example.org"

    def test_wrong_token(self):
        for name in (*LOOKUPS, "dovecot"):
            self.fails("bad-" + name, self.key(name), "token is refused")

    def test_missing_scope(self):
        for name in (*LOOKUPS, "dovecot"):
            self.fails("scope-" + name, self.key(name), "token is refused")
        self.assertRegex(self.mux.log(), r'table scope-dovecot: .*has it the scope "dovecot"')

    def test_warned_of_once_a_minute(self):
        for _ in range(3):
            self.fails("bad-alias", "alice@example.org")
        lines = [line for line in self.mux.log().splitlines() if "table bad-alias:" in line]
        self.assertEqual(len(lines), 1, lines)
        self.assertNotIn("wrong-token", self.mux.log())

    def test_token_file(self):
        self.found("mailbox", "alice@example.org", "1")


HTML = b"<html><body>It works!</body></html>"
NONSENSE = [HTML, b"", b"tru", b"1", b'"true"', b"{}", b'{"error":"x"}', b'{"message":"success"}', b"[[]]", b"[1]",
            b'["a@b", null]', b'[{"a":1}]', b'["a"', b'["a\\u0000"]', b"\xff", b"[" * 10000,
            b'{"per_hour":5}', b'{"per_hour":-1,"per_day":"x"}', b'{"per_hour":1.5,"per_day":1}',
            b'{"message":"success","body":{"user":"x"}}', b'{"message":"success","body":[]}',
            b'{"message":"success","body":{"user":"x","quota":"","mailCrypt":1,"mailCryptPublicKey":""}}',
            b'{"message":"success","body":{"user":"x","quota":"","mailCrypt":2}}']


class Faults(Base):
    """A userli, or something in its place, that answers otherwise: TEMP, and nothing else suffers."""

    @classmethod
    def setUpClass(cls):
        cls.double = Userli(cls)
        fill(cls.double)
        tables = [userli(name, cls.double.url, timeout="1s") for name in (*LOOKUPS, "dovecot")]
        tables.append(userli("nobody", f"http://127.0.0.1:{free_port()}", endpoint="alias"))
        tables.append(userli("lost", cls.double.url + "/elsewhere", endpoint="quota"))
        cls.start(tables)

    def tearDown(self):
        self.double.fault = None

    def everywhere(self, reply):
        self.double.fault = lambda request: reply
        for name in (*LOOKUPS, "dovecot"):
            key = "example.org" if name == "domain" else "alice@example.org"
            status, reason = self.mux.ask(name, key)
            self.assertEqual(status, "TEMP", (name, reply.status, reply.body[:60], reason))
            self.assertTrue(reason.startswith("userli at http://127.0.0.1:"), reason)
            letter = self.mux.look(name, "shared/" + key).letter
            self.assertEqual(letter, "F", (name, reply.status, reply.body[:60]))

    def test_statuses(self):
        for status in (201, 204, 301, 302, 400, 401, 403, 405, 415, 422, 429, 500, 502, 503):
            for body in (HTML, b"false", b"[]", b'{"error":{"message":"x","code":0}}'):
                self.everywhere(Reply(body, status))

    def test_404(self):
        """It means an absent user only where the API says so, and only when it is userli that says it."""
        self.everywhere(Reply(HTML, 404, content_type="text/html"))
        self.double.fault = lambda request: Reply(b'{"error":{"message":"No route found","code":0}}', 404)
        for name in ("alias", "domain", "mailbox", "senders"):
            self.fails(name, "example.org" if name == "domain" else "alice@example.org", "404")
        for body in (b'{"error":{"message":"No route found","code":0}}', b'{"message":"Not Found"}', b"{}", b"[]"):
            self.double.fault = lambda request: Reply(body, 404)
            for name in ("quota", "dovecot"):
                self.fails(name, "alice@example.org", "404")
        self.double.fault = None
        self.fails("lost", "alice@example.org", "404")

    def test_nonsense(self):
        for body in NONSENSE:
            for name in (*LOOKUPS, "dovecot"):
                with self.subTest(name=name, body=body[:60]):
                    self.double.fault = lambda request: Reply(body)
                    key = "example.org" if name == "domain" else "alice@example.org"
                    self.assertEqual(self.mux.ask(name, key)[0], "TEMP")

    def test_null_is_absent(self):
        self.double.fault = lambda request: Reply(b" null ")
        self.absent("alias", "alice@example.org")
        self.absent("mailbox", "alice@example.org")

    def test_broken_connections(self):
        for reply in (Reply(b'["a@example.org"]', cut=5), Reply(hangup=True), Reply(raw=b"garbage\r\n\r\n"),
                      Reply(b"true", delay=3)):
            self.double.fault = lambda request: reply
            for name in ("alias", "mailbox"):
                self.assertEqual(self.mux.ask(name, "alice@example.org")[0], "TEMP")
        self.fails("nobody", "alice@example.org")

    def test_others_go_on(self):
        self.double.fault = lambda request: Reply(b"true", delay=5) if "/bob" in request.plain_path else None
        with self.mux.socketmap() as slow:
            slow.request("mailbox", "bob@example.org")
            wait_until(lambda: any("/bob" in path for path in self.double.asked()), "the slow one is asked")
            self.found("mailbox", "alice@example.org", "1")
            self.assertEqual(slow.reply()[0], "TEMP")

    def test_logged_and_counted_with_the_table(self):
        self.double.fault = lambda request: Reply(HTML)
        before = self.mux.counts("senders", "userli")["temp"]
        self.mux.ask("senders", "alice@example.org")
        self.assertEqual(self.mux.counts("senders", "userli")["temp"], before + 1)
        self.assertRegex(self.mux.log(), r"question failed table=senders op=lookup status=temp")


class RealDovecot(Case):
    """Dovecot 2.3 takes its users from userli."""

    def test_userdb(self):
        double = Userli(self)
        fill(double)
        mux = serve(self, [userli("dovecot", double.url)], ("dict",))
        dovecot = Dovecot(self, PASSDB + USERDB,
                          {"auth.conf.ext": AUTH_CONF.format(socket=mux.paths["dict"])})
        done = dovecot.doveadm("user", "alice@example.org")
        self.assertEqual(done.returncode, 0, done.stderr.decode() + dovecot.log())
        self.assertIn("*:storage=500M", done.stdout.decode())
        self.assertEqual(dovecot.doveadm("user", "nobody@example.org").returncode, 67)
        self.assertEqual(dovecot.login("alice@example.org", "secret")[0], "OK", dovecot.log()[-2000:])
        double.fault = lambda request: Reply(b"<html>", 502)
        self.assertEqual(dovecot.doveadm("user", "bob@example.org").returncode, 75)


class Configuration(Case):
    """What `mapmux check` says."""

    def check(self, name, param, *options):
        args = ["--name", name, "--type", "userli", "--param", param]
        for option in options:
            args += ["--option", option]
        done = mapmux("check", "--listen", "socketmap:127.0.0.1:1", *args)
        return done.returncode, done.stdout.decode() + done.stderr.decode()

    def test_good(self):
        for name, param, *options in (
                ("alias", "https://users.example.org"), ("alias", "https://users.example.org/userli/"),
                ("x", "http://127.0.0.1:8000", "endpoint=mailbox"),
                ("senders", "https://[::1]", "recipient_delimiter=+-")):
            with self.subTest(name=name, param=param):
                code, text = self.check(name, param, "token=hidden", *options)
                self.assertEqual(code, 0, text)
                self.assertNotIn("hidden", text)

    def test_bad(self):
        for word, name, param, *options in (
                ("endpoint", "x", "https://users.example.org", "token=t"),
                ("endpoint", "x", "https://users.example.org", "token=t", "endpoint=users"),
                ("token", "alias", "https://users.example.org"),
                ("token", "alias", "https://users.example.org", "token=a b"),
                ("param", "alias", "users.example.org", "token=t"),
                ("param", "alias", "ftp://users.example.org", "token=t"),
                ("param", "alias", "https://users.example.org?x=1", "token=t"),
                ("param", "alias", "https://users.example.org/{}", "token=t"),
                ("ca_file: cannot read /none: No such file", "alias", "https://users.example.org", "token=t", "ca_file=/none"),
                ("param", "alias", "", "token=t")):
            with self.subTest(name=name, param=param, options=options):
                code, text = self.check(name, param, *options)
                self.assertEqual(code, 1, text)
                self.assertIn(word, text)


if __name__ == "__main__":
    unittest.main()
