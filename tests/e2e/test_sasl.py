"""Dovecot's auth protocol: as bytes on a real socket, over each kind of table, and spoken by a private Postfix."""

import base64
import concurrent.futures
import ctypes
import os
import re
import smtplib
import socket
import threading
import time
import unittest

from harness import Backend, Case, Mapmux, Reply, Sasl, free_port, run, tempdir, url, wait_until
from harness.backend import as_json
from harness.http import Http
from harness.mapmux import document, mapmux
from harness.postfix import Postfix
from harness.userli import Userli
from harness.wire import Closed

FAST = {"failure_delay": 0, "max_failures_per_user": 0, "max_failures_per_address": 0}
SCRIPT = """
function authenticate(user, password, request)
	if user == 'down' then return mapmux.temp('down') end
	if user == 'yes' then return password == 'secret' end
	if request.token then return request.token == 'good.token' and user end
	if user == 'canon' then return password == 'secret' and 'canonical@example.org' end
	return password == 'secret' and request.rip == '192.0.2.1' and request.mechanism == 'PLAIN' and user
end
"""


def crypt(password, setting):
    """What crypt(3) makes."""
    library = ctypes.CDLL("libcrypt.so.1")
    library.crypt.restype = ctypes.c_char_p
    return library.crypt(password.encode(), setting.encode()).decode()


def write(path, content):
    with open(path, "w", encoding="utf-8") as file:
        file.write(content)


class Tables(Case):
    """One listener for each table that authenticates."""

    @classmethod
    def setUpClass(cls):
        cls.where = tempdir(cls)
        users = os.path.join(cls.where, "users")
        write(users, "\n".join((
            "plain {PLAIN}secret",
            "quoted {plain}two words",
            "sha512 " + crypt("secret", "$6$saltsalt$"),
            "sha256 {SHA256-CRYPT}" + crypt("secret", "$5$saltsalt$"),
            "bcrypt {BLF-CRYPT}" + crypt("secret", "$2b$05$abcdefghijklmnopqrstuu"),
            "yescrypt {CRYPT}" + crypt("secret", "$y$j75$abcdefgh"),
            "md5 {MD5-CRYPT}" + crypt("secret", "$1$saltsalt$"),
            "Capital@example.org {PLAIN}secret")) + "\n")
        write(os.path.join(cls.where, "auth.lua"), SCRIPT)
        cls.web = Backend(cls, cls.judge)
        cls.userli = Userli(cls)
        cls.userli.user("alice@example.org", "secret")
        cls.userli.user("spam@example.org", "secret", spam=True)
        cls.paths = {name: os.path.join(cls.where, name + ".sock")
                     for name in ("static", "url", "auth", "lua", "chain", "fail", "tokens", "lower", "held")}
        listeners = [{"protocol": "sasl", "address": "unix:" + path, "table": name, **FAST}
                     for name, path in cls.paths.items()]
        listeners[5].update(table="lua", on_outage="fail")
        listeners[6].update(table="lua", mechanisms=["PLAIN", "XOAUTH2", "OAUTHBEARER"])
        listeners[8].update(table="static", failure_delay="300ms")
        cls.http = ("127.0.0.1", free_port())
        cls.mux = Mapmux(cls, config=document({
            "listeners": [*listeners, {"protocol": "http", "address": "%s:%d" % cls.http}],
            "tables": [
                {"name": "static", "type": "static", "param": "file:" + users, "passwords": "yes"},
                {"name": "lower", "type": "static", "param": "file:" + users, "passwords": "yes", "lowercase": "yes"},
                {**url("url", cls.web.url + "/auth"), "method": "POST", "body": "json"},
                {"name": "auth", "type": "userli", "param": cls.userli.url, "token": "good-token"},
                {"name": "lua", "type": "lua", "param": os.path.join(cls.where, "auth.lua")},
                {"name": "chain", "type": "chain", "param": ["static", "url"], "retries": 2,
                 "breaker": {"failures": 1000}, "max_inflight": 100}]}))

    @staticmethod
    def judge(request):
        """The password says what is answered: a status, or `secret`."""
        asked = request.json()
        if asked["password"].isdigit():
            return Reply(b"", int(asked["password"]))
        if asked["password"] != "secret":
            return as_json({"reason": f"no, {asked['user']}\nno"}, 403)
        return as_json({"user": "Canon@example.org"} if asked["user"] == "canon" else {})

    def client(self, name, **kwargs):
        client = Sasl(self.paths[name], **kwargs)
        self.addCleanup(client.close)
        return client

    def test_greeting(self):
        text = self.client("static").greeting.decode()
        self.assertRegex(text, r"\AVERSION\t1\t2\nMECH\tPLAIN\tplaintext\nMECH\tLOGIN\tplaintext\n"
                               r"SPID\t\d+\nCUID\t\d+\nCOOKIE\t[0-9a-f]{32}\n\Z")
        self.assertIn(f"SPID\t{self.mux.pid}\n", text)
        other = self.client("tokens").greeting.decode()
        self.assertIn("MECH\tXOAUTH2\tplaintext\nMECH\tOAUTHBEARER\tplaintext\n", other)
        self.assertNotIn("LOGIN", other)
        cookie = re.compile(r"(?:CUID|COOKIE)\t(\w+)")
        self.assertFalse(set(cookie.findall(text)) & set(cookie.findall(other)))

    def test_static(self):
        client = self.client("static")
        for user in ("plain", "sha512", "sha256", "bcrypt", "yescrypt", "md5"):
            with self.subTest(user=user):
                self.assertEqual(client.plain(user, "secret"), ("OK", {"user": user}))
                self.assertEqual(client.login(user, "secret"), ("OK", {"user": user}))
                for wrong in ("Secret", "secret ", "secre", "x" * 9000):
                    self.assertEqual(client.plain(user, wrong), ("FAIL", {"user": user}))
        self.assertEqual(client.plain("quoted", "two words"), ("OK", {"user": "quoted"}))
        self.assertEqual(client.plain("nobody", "secret"), ("FAIL", {"user": "nobody"}))

    def test_names_are_as_the_table_has_them(self):
        self.assertEqual(self.client("static").plain("Plain", "secret")[0], "FAIL")
        self.assertEqual(self.client("lower").plain("Plain", "secret"), ("OK", {"user": "plain"}))

    def test_a_hash_is_worked_out_beside_the_loop(self):
        """While each worker has a long one under way, those with {PLAIN} do not wait."""
        slow = os.path.join(self.where, "slow")
        write(slow, "slow " + crypt("secret", "$6$rounds=1000000$saltsalt$") + "\nquick {PLAIN}secret\n")
        path = os.path.join(self.where, "slow.sock")
        mux = Mapmux(self, config=document({
            "threads": 1,
            "listeners": [{"protocol": "sasl", "address": "unix:" + path, "table": "slow", **FAST}],
            "tables": [{"name": "slow", "type": "static", "param": "file:" + slow, "passwords": "yes"}]}))
        one, two = Sasl(path), Sasl(path)
        self.addCleanup(one.close)
        self.addCleanup(two.close)
        one.auth("PLAIN", b"\0slow\0secret")
        for _ in range(20):
            self.assertEqual(two.plain("quick", "secret"), ("OK", {"user": "quick"}))
        self.assertTrue(one.silent(0.001), "the long one has been faster than 20 others")
        self.assertEqual(one.reply(), ("OK", 1, ["user=slow"]))
        # a client that leaves does not keep the helper, nor the end of the program
        many = [Sasl(path) for _ in range(10)]
        for client in many:
            client.auth("PLAIN", b"\0slow\0secret")
        self.assertEqual(two.plain("quick", "secret"), ("OK", {"user": "quick"}))
        for client in many:
            client.close()
        self.assertEqual(one.plain("slow", "secret"), ("OK", {"user": "slow"}))
        # at most 64 wait; who is one too many hears at once that it is no use to wait
        for _ in range(40):
            one.auth("PLAIN", b"\0slow\0secret")
        self.assertEqual(one.plain("quick", "secret")[0], "OK")
        for _ in range(40):
            two.auth("PLAIN", b"\0slow\0secret")
        wait_until(lambda: "too many passwords to check" in mux.log(), "one too many")
        mux.stop()

    def test_url(self):
        client = self.client("url")
        self.web.forget()
        self.assertEqual(client.plain("alice", "secret"), ("OK", {"user": "alice"}))
        seen = self.web.wait_for(path="/auth", method="POST")[-1]
        self.assertEqual(seen.json(), {
            "user": "alice", "password": "secret", "mechanism": "PLAIN", "service": "smtp", "lip": "192.0.2.25",
            "rip": "192.0.2.1"})
        self.assertEqual(client.login("canon", "secret"), ("OK", {"user": "Canon@example.org"}))
        self.assertEqual(client.plain("alice", "wrong"), ("FAIL", {"user": "alice", "reason": "no, alice no"}))
        for status in (401, 403, 404):
            self.assertEqual(client.plain("alice", str(status)), ("FAIL", {"user": "alice"}))
        self.assertEqual(client.plain("alice", "204"), ("OK", {"user": "alice"}))
        self.assertEqual(client.plain("alice", b"\xff"), ("FAIL", {"user": "alice"}))     # no JSON can say that
        for status in (400, 410, 429, 500, 503, 302, 201):
            with self.subTest(status=status), self.assertRaises(Closed):
                self.client("url").plain("alice", str(status))

    def test_userli(self):
        client = self.client("auth")
        self.assertEqual(client.plain("Alice@Example.org", "secret"), ("OK", {"user": "alice@example.org"}))
        self.assertEqual(client.plain("alice@example.org", "wrong"),
                         ("FAIL", {"user": "alice@example.org", "reason": "authentication failed"}))
        self.assertEqual(client.login("spam@example.org", "secret"),
                         ("FAIL", {"user": "spam@example.org", "reason": "user disabled due to spam role"}))

    def test_lua(self):
        client = self.client("lua")
        self.assertEqual(client.plain("anybody", "secret"), ("OK", {"user": "anybody"}))
        self.assertEqual(client.plain("canon", "secret"), ("OK", {"user": "canonical@example.org"}))
        self.assertEqual(client.plain("yes", "secret"), ("OK", {"user": "yes"}))
        self.assertEqual(client.plain("yes", "no"), ("FAIL", {"user": "yes"}))
        self.assertEqual(client.plain("anybody", "wrong"), ("FAIL", {"user": "anybody"}))
        self.assertEqual(self.client("lua", rip="192.0.2.9").plain("anybody", "secret")[0], "FAIL")

    def test_chains_pass_it_on(self):
        client = self.client("chain")
        self.assertEqual(client.plain("sha512", "secret"), ("OK", {"user": "sha512"}))
        self.assertEqual(client.plain("canon", "secret"), ("OK", {"user": "Canon@example.org"}))

    def test_tokens(self):
        client = self.client("tokens")
        client.auth("XOAUTH2", b"user=bob\1auth=Bearer good.token\1\1")
        self.assertEqual(client.reply(), ("OK", 1, ["user=bob"]))
        client.auth("OAUTHBEARER")
        self.assertEqual(client.reply(), ("CONT", 2, [""]))
        client.cont(b"n,a=bob,\1auth=Bearer bad\1\1")
        word, _, fields = client.reply()
        self.assertEqual((word, base64.b64decode(fields[0])), ("CONT", b'{"status":"invalid_token"}'))
        client.cont(b"\1")
        self.assertEqual(client.reply(), ("FAIL", 2, ["user=bob"]))

    def test_outage(self):
        with self.assertRaises(Closed):
            self.client("lua").plain("down", "x")
        self.assertEqual(self.client("fail").plain("down", "x"), ("FAIL", {
            "user": "down", "temp": "", "reason": "Temporary authentication failure"}))

    def test_answers_come_as_they_come(self):
        """A refusal is held back, and holds back nobody else."""
        client = self.client("held")
        client.auth("PLAIN", b"\0plain\0wrong")
        client.auth("PLAIN", b"\0plain\0secret")
        self.assertEqual([client.reply()[:2], client.reply()[:2]], [("OK", 2), ("FAIL", 1)])

    def test_fragments_at_every_position(self):
        line = b"AUTH\t1\tPLAIN\tservice=smtp\tresp=" + base64.b64encode(b"\0plain\0secret") + b"\n"
        for cut in range(len(line)):
            with self.subTest(cut=cut), Sasl(self.paths["static"]) as client:
                client.send(line[:cut])
                time.sleep(0.001)
                client.send(line[cut:])
                self.assertEqual(client.reply(), ("OK", 1, ["user=plain"]))

    def test_hostile_clients(self):
        """Each gets the end, or a refusal; others do not notice, and each is counted."""
        good, hello = self.client("static"), b"VERSION\t1\t0\nCPID\t1\n"
        for what, stream in (("no_handshake", b"AUTH\t1\tPLAIN\tservice=smtp\n"), ("bad_handshake", b"CPID\t1\n"),
                             ("unknown_version", b"VERSION\t2\t0\n"), ("unknown_command", hello + b"FOO\n"),
                             ("too_long", hello + b"AUTH\t1\tPLAIN\t" + b"x" * 20000),
                             ("id_reused", hello + b"AUTH\t1\tPLAIN\tservice=s\n" * 2),
                             ("bad_auth", hello + b"AUTH\t1\tPLAIN\n")):
            with self.subTest(what=what):
                raw = Sasl.__mro__[1](self.paths["static"])
                raw.send(stream)
                self.assertIn(b"DONE\n", raw.rest())
                raw.close()
        with self.client("static") as client:
            client.send(b"AUTH\t1\tPLAIN\tservice=smtp\tresp=!!!!\nAUTH\t2\tNTLM\tservice=smtp\nCONT\t9\t\n")
            self.assertEqual([client.reply()[:2] for _ in range(3)], [("FAIL", 1), ("FAIL", 2), ("FAIL", 9)])
        self.assertEqual(good.plain("plain", "secret")[0], "OK")
        with Http(self.http) as http:
            metrics = http.metrics()
        for reason in ("no_handshake", "bad_handshake", "unknown_version", "unknown_command", "too_long", "id_reused",
                       "bad_auth", "bad_base64", "unknown_mechanism", "unknown_id"):
            self.assertGreaterEqual(metrics.get("mapmux_protocol_errors_total", protocol="sasl", reason=reason), 1,
                                    reason)

    def test_a_silent_client_is_no_matter(self):
        silent = socket.socket(socket.AF_UNIX)
        silent.connect(self.paths["static"])
        self.addCleanup(silent.close)
        self.assertEqual(self.client("static").plain("plain", "secret")[0], "OK")

    def test_a_slow_table_is_an_outage_in_time(self):
        gate = threading.Event()
        self.addCleanup(gate.set)
        slow = Backend(self, lambda request: Reply(b"", 200, gate=gate))
        path = os.path.join(self.where, "late.sock")
        Mapmux(self, config=document({
            "listeners": [{"protocol": "sasl", "address": "unix:" + path, "table": "late", "timeout": "500ms",
                           **FAST}],
            "tables": [{**url("late", slow.url), "method": "POST", "body": "json"}]}))
        client, began = Sasl(path), time.monotonic()
        self.addCleanup(client.close)
        with self.assertRaises(Closed):
            client.plain("alice", "x")
        self.assertGreaterEqual(time.monotonic() - began, 0.45)


class Guessing(Case):
    def setUp(self):
        where = tempdir(self)
        self.web = Backend(self, lambda request: Reply(b"", 200 if request.json()["password"] == "secret" else 401))
        self.path = os.path.join(where, "sock")
        self.mux = Mapmux(self, config=document({
            "listeners": [{"protocol": "sasl", "address": "unix:" + self.path, "table": "web", "failure_delay": "20ms",
                           "failure_window": "5s", "max_failures_per_user": 3, "max_failures_per_address": 6}],
            "tables": [{**url("web", self.web.url), "method": "POST", "body": "json"}]}))

    def client(self, rip):
        client = Sasl(self.path, rip=rip)
        self.addCleanup(client.close)
        return client

    def test_a_user(self):
        """From whatever address, on whatever worker, in whatever letters; and not for ever."""
        for n, user in enumerate(("alice", "Alice", "ALICE")):
            began = time.monotonic()
            self.assertEqual(self.client(f"192.0.2.{n}").plain(user, "wrong")[0], "FAIL")
            self.assertGreaterEqual(time.monotonic() - began, 0.018 * 2 ** n)
        asked = len(self.web.seen())
        last = self.client("192.0.2.77")
        self.assertEqual(last.plain("alice", "secret"),
                         ("FAIL", {"user": "alice", "reason": "too many failed attempts; try later"}))
        self.assertEqual(len(self.web.seen()), asked, "the table was asked")
        self.assertEqual(last.plain("bob", "secret"), ("OK", {"user": "bob"}))
        wait_until(lambda: last.plain("alice", "secret")[0] == "OK", "alice is let in again", pause=0.2)
        self.assertRegex(self.mux.log(), r'authentication failed user=alice rip=192\.0\.2\.0')
        self.assertIn("too many failures", self.mux.log())

    def test_an_address(self):
        guesser = self.client("198.51.100.1")
        for n in range(6):
            self.assertEqual(guesser.plain(f"user{n}", "wrong")[0], "FAIL")
        self.assertEqual(guesser.plain("alice", "secret")[1]["reason"], "too many failed attempts; try later")
        self.assertEqual(self.client("198.51.100.2").plain("alice", "secret")[0], "OK")

    def test_many_at_once_learn_no_more(self):
        """The right one is the last of 40 that are all asked before the first has failed."""
        client = self.client("203.0.113.1")
        for n in range(40):
            client.auth("PLAIN", b"\0alice\0wrong" if n < 39 else b"\0alice\0secret")
        self.assertEqual({client.reply()[0] for _ in range(40)}, {"FAIL"})

    def test_a_reload_forgets_nothing(self):
        client = self.client("192.0.2.1")
        for _ in range(3):
            client.plain("carol", "wrong")
        self.mux.kill(1)
        wait_until(lambda: "reloaded" in self.mux.log(), "the reload")
        self.assertEqual(self.client("192.0.2.2").plain("carol", "secret")[0], "FAIL")


class GuessingAtUserli(Case):
    """userli takes a name without its extension and without what nobody sees: that gives no fresh tries."""

    def test_one_user(self):
        path = os.path.join(tempdir(self), "sock")
        userli = Userli(self)
        userli.user("alice@example.org", "secret")
        Mapmux(self, config=document({
            "listeners": [{"protocol": "sasl", "address": "unix:" + path, "table": "auth", "failure_delay": 0,
                           "max_failures_per_user": 3}],
            "tables": [{"name": "auth", "type": "userli", "param": userli.url, "token": "good-token",
                        "recipient_delimiter": "+"}]}))
        client = Sasl(path)
        self.addCleanup(client.close)
        # All of these are alice to userli.
        self.assertEqual(client.plain("\u200bALICE+x@example.org ", "secret"), ("OK", {"user": "alice@example.org"}))
        for user in ("alice+1@example.org", "ALICE+2@Example.org", " \u200balice+3@\uff45xample.org"):
            self.assertEqual(client.plain(user, "wrong")[1]["reason"], "authentication failed", user)
        for user in ("alice+4@example.org", "alice@example.org"):
            self.assertEqual(client.plain(user, "secret")[1]["reason"], "too many failed attempts; try later", user)


class Secrets(Case):
    """Nothing of a password stays in memory, nor in the log."""

    def test_memory(self):
        marker = "Zq7MarkerOfATest9x"
        where = tempdir(self)
        write(os.path.join(where, "users"), f"hash {crypt(marker, '$6$saltsalt$')}\nplain {{PLAIN}}other\n")
        web = Backend(self, lambda request: Reply(b"{}", 200 if request.json()["password"] == marker else 401))
        userli = Userli(self)
        userli.user("hash@example.org", marker)
        paths = {name: os.path.join(where, name) for name in ("static", "web", "auth", "chain")}
        mux = Mapmux(self, config=document({
            "log": {"level": "debug"},
            "listeners": [{"protocol": "sasl", "address": "unix:" + path, "table": name, **FAST}
                          for name, path in paths.items()],
            "tables": [
                {"name": "static", "type": "static", "param": "file:" + os.path.join(where, "users"),
                 "passwords": "yes"},
                {**url("web", web.url), "method": "POST", "body": "json"},
                {"name": "auth", "type": "userli", "param": userli.url, "token": "good-token"},
                {"name": "chain", "type": "chain", "param": ["static", "web"], "lowercase": "yes"}]}))
        seen = marker.encode()
        self.assertTrue(self.found(mux.pid, b"failure_delay"), "this reads no memory")
        for name, path in paths.items():
            client = Sasl(path)
            self.addCleanup(client.close)
            for user in ("hash@example.org", "hash", "plain", "nobody"):
                client.plain(user, marker)
                client.login(user, marker)
                client.plain(user, marker + "9" * 3000)
            client.auth("LOGIN")
            client.reply()
            client.cont(b"hash")
            client.reply()
            for byte in b"CONT\t%d\t%b" % (client.number, base64.b64encode(seen)):
                client.send(bytes([byte]))
                time.sleep(0.002)
            client.send(b"\n")
            self.assertIn(client.reply()[0], ("OK", "FAIL"))
            if name == "static":
                client.auth("PLAIN", b"no\0such\0" + seen)      # refused by ourselves
                self.assertEqual(client.reply()[0], "FAIL")
                client.send(b"CANCEL\t1\n")
        # what was decoded last is wiped when the next bytes come, and when the client leaves
        coded = {base64.b64encode(b"x" * pad + seen)[4:-4] for pad in range(3)}
        for what in (seen, *coded):
            places = wait_until(lambda what=what: [self.found(mux.pid, what)], "a look")[0]
            self.assertEqual(places, [], f"{what} is in memory")
        self.assertNotIn(marker, mux.log())

    @staticmethod
    def found(pid, what):
        """Where in the memory of the process that is."""
        places = []
        with open(f"/proc/{pid}/maps", encoding="ascii") as maps, open(f"/proc/{pid}/mem", "rb") as memory:
            for line in maps:
                begin, end = (int(part, 16) for part in line.split()[0].split("-"))
                shadow = end - begin > 1 << 32      # of AddressSanitizer: terabytes that hold no data
                if line.split()[1][0] != "r" or "[v" in line or shadow:
                    continue
                try:
                    memory.seek(begin)
                    content = memory.read(end - begin)
                except OSError:
                    continue
                at = content.find(what)
                if at >= 0:
                    places.append(f"{begin + at:x} {line.strip()} {content[max(0, at - 60):at + 80]}")
        return places

    def test_no_core_dump(self):
        where = tempdir(self)
        write(os.path.join(where, "users"), "a {PLAIN}b\n")
        path = os.path.join(where, "sock")
        mux = Mapmux(self, config=document({
            "listeners": [{"protocol": "sasl", "address": "unix:" + path, "table": "users"}],
            "tables": [{"name": "users", "type": "static", "param": "file:" + os.path.join(where, "users"),
                        "passwords": "yes"}]}))
        # What may not be dumped is root's in /proc; and the kernel dumps no such process.
        done = run(["setpriv", "--reuid=65534", "--clear-groups", "cat", f"/proc/{mux.pid}/environ"])
        self.assertNotEqual(done.returncode, 0)
        with open(f"/proc/{mux.pid}/auxv", "rb") as file:
            self.assertTrue(file.read(1))


class Configuration(Case):
    def check(self, users, listener=None, table=None):
        where = tempdir(self)
        write(os.path.join(where, "users"), users)
        config = os.path.join(where, "mapmux.yaml")
        write(config, document({
            "listeners": [{"protocol": "sasl", "address": "127.0.0.1:1", "table": "users", **(listener or {})}],
            "tables": [{"name": "users", "type": "static", "param": "file:" + os.path.join(where, "users"),
                        "passwords": "yes", **(table or {})}]}))
        done = mapmux("check", "-c", config)
        return done.returncode, (done.stdout + done.stderr).decode()

    def test_bad_passwords_name_their_line(self):
        for value, wrong in (("SECRET", "the password has no scheme"), ("{SSHA}SECRET", "scheme is unknown"), ("{PLAIN}", "the password is empty"),
                             ("$9$SECRET", "none that crypt(3) knows"), ("{SHA512-CRYPT}$5$salt$SECRET", "scheme says"),
                             ("{PLAIN", "scheme")):
            with self.subTest(value=value):
                code, text = self.check(f"# users\nbob {{PLAIN}}x\nalice {value}\n")
                self.assertEqual(code, 1)
                self.assertIn(wrong, text)
                self.assertIn("users:3:", text)
                self.assertNotIn("SECRET", text)
        code, text = self.check('{"bob": "{PLAIN}x",\n"alice": "secret"}')
        self.assertEqual(code, 1)
        self.assertIn("users:2:", text)

    def test_rules(self):
        good = "bob {PLAIN}x\n"
        self.assertEqual(self.check(good)[0], 0)
        for listener, table, wrong in (({"mechanisms": "PLAIN CRAM-MD5"}, None, "CRAM-MD5"),
                                       ({"failure_delay": "9s"}, None, "failure_delay"),
                                       ({"timeout": "10s"}, None, "timeout"),
                                       ({"on_outage": "wait"}, None, "close, fail"),
                                       (None, {"passwords": "no"}, "does not authenticate"),
                                       (None, {"param": "bob={PLAIN}x"}, "passwords stand in a file")):
            with self.subTest(wrong=wrong):
                code, text = self.check(good, listener, table)
                self.assertEqual(code, 1, text)
                self.assertIn(wrong, text)


class Smtpd(Case):
    """A private Postfix, by a unix socket and by TCP."""

    @classmethod
    def setUpClass(cls):
        where = tempdir(cls)
        write(os.path.join(where, "users"), f"alice {crypt('secret', '$6$saltsalt$')}\nbob {{PLAIN}}hunter2\n")
        cls.web = Backend(cls, lambda request: Reply(b"", 200 if request.json()["password"] == "secret" else 401))
        cls.path, port, web = os.path.join(where, "auth"), free_port(), free_port()
        quick = {"failure_delay": "100ms"}
        cls.mux = Mapmux(cls, config=document({
            "listeners": [
                {"protocol": "sasl", "address": "unix:" + cls.path, "mode": "0666", "table": "users", **quick},
                {"protocol": "sasl", "address": f"127.0.0.1:{port}", "table": "users", **quick},
                {"protocol": "sasl", "address": f"127.0.0.1:{web}", "table": "web", "max_failures_per_user": 3,
                 **quick}],
            "tables": [
                {"name": "users", "type": "static", "param": "file:" + os.path.join(where, "users"),
                 "passwords": "yes"},
                {**url("web", cls.web.url), "method": "POST", "body": "json"}]}))
        cls.postfix = {way: Postfix(cls, {
            "smtpd_sasl_auth_enable": "yes", "smtpd_sasl_type": "dovecot", "smtpd_sasl_path": path,
            "smtpd_error_sleep_time": "0", "smtpd_hard_error_limit": "1000"})
            for way, path in {"unix": "unix:" + cls.path, "inet": f"inet:127.0.0.1:{port}",
                              "web": f"inet:127.0.0.1:{web}"}.items()}

    @staticmethod
    def auth(session, mech, user, password):
        """The last reply."""
        code = lambda text: base64.b64encode(text.encode()).decode()
        if mech == "PLAIN":
            return session.docmd("AUTH PLAIN " + code(f"\0{user}\0{password}"))
        if mech == "plain without a response":
            reply = session.docmd("AUTH PLAIN")
            assert reply == (334, b""), reply
            return session.docmd(code(f"\0{user}\0{password}"))
        if mech == "login with a response":
            reply = session.docmd("AUTH LOGIN " + code(user))
        else:
            reply = session.docmd("AUTH LOGIN")
            if reply[0] == 334:
                reply = session.docmd(code(user))
        if reply[0] != 334:
            return reply
        assert reply == (334, code("Password:").encode()), reply
        return session.docmd(code(password))

    def try_auth(self, way, mech, user, password):
        with self.postfix[way].smtp() as session:
            self.assertIn("auth", session.esmtp_features)
            return self.auth(session, mech, user, password)[0]

    def test_right_and_wrong(self):
        for way in ("unix", "inet"):
            for mech in ("PLAIN", "plain without a response", "LOGIN", "login with a response"):
                for user, password in (("alice", "secret"), ("bob", "hunter2")):
                    with self.subTest(way=way, mech=mech, user=user):
                        self.assertEqual(self.try_auth(way, mech, user, password), 235)
                with self.subTest(way=way, mech=mech):
                    self.assertEqual(self.try_auth(way, mech, f"nobody-{way}", "x"), 535)

    def test_who_has_logged_in_may_send(self):
        with self.postfix["unix"].smtp() as session:
            self.assertEqual(self.auth(session, "PLAIN", "alice", "secret")[0], 235)
            session.mail("alice@example.test")
            self.assertEqual(session.rcpt("someone@elsewhere.test")[0], 250)
        wait_until(lambda: "sasl_username=alice" in self.postfix["unix"].log(), "Postfix logs the name")

    def test_given_up_and_tried_again(self):
        """`*` ends an exchange of which Postfix says nothing; the next one goes by the same connection."""
        with self.postfix["unix"].smtp() as session:
            session.docmd("AUTH LOGIN")
            self.assertEqual(session.docmd("*")[0], 501)
            session.docmd("AUTH PLAIN")
            session.docmd("!!!")
            self.assertEqual(self.auth(session, "LOGIN", "alice", "secret")[0], 235)

    def test_ten_at_once(self):
        with concurrent.futures.ThreadPoolExecutor(10) as pool:
            codes = list(pool.map(lambda n: self.try_auth("inet", "PLAIN" if n % 2 else "LOGIN", "alice", "secret"),
                                  range(20)))
        self.assertEqual(codes, [235] * 20)

    def test_an_outage_is_temporary(self):
        self.assertEqual(self.try_auth("web", "PLAIN", "carol", "secret"), 235)
        self.web.kill()
        try:                                # the 3.7 of Debian 12 says 454 once more when a connection has ended
            self.assertEqual(self.try_auth("web", "PLAIN", "carol", "secret"), 454)
            self.assertEqual(self.try_auth("web", "LOGIN", "carol", "secret"), 454)
        finally:
            self.web.start()
        wait_until(lambda: self.try_auth("web", "PLAIN", "carol", "secret") == 235, "it works again", pause=0.2)

    def test_guessing_ends(self):
        self.assertEqual([self.try_auth("web", "PLAIN", "dave", "guess") for _ in range(3)], [535] * 3)
        with self.postfix["web"].smtp() as session:
            code, text = self.auth(session, "PLAIN", "dave", "secret")
        self.assertEqual(code, 535)
        self.assertIn(b"too many failed attempts", text)
        self.assertEqual(self.try_auth("web", "PLAIN", "erin", "secret"), 235)

    def test_connections_are_kept(self):
        """Postfix has one for each smtpd, and 40 sessions make no new ones."""
        def connections():
            found = re.findall(r"sasl:unix:\S+: connections \d+, accepted (\d+)", self.mux.log())
            return int(found[-1]) if found else None

        def accepted():
            before = self.mux.log().count("sasl:unix:")
            self.mux.kill(10)       # SIGUSR1
            wait_until(lambda: self.mux.log().count("sasl:unix:") > before, "the summary")
            return connections()

        self.assertEqual(self.try_auth("unix", "PLAIN", "alice", "secret"), 235)
        before = accepted()
        for _ in range(40):
            self.assertEqual(self.try_auth("unix", "PLAIN", "bob", "hunter2"), 235)
        self.assertLessEqual(accepted() - before, 4)


if __name__ == "__main__":
    unittest.main()
