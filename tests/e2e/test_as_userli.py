"""In the place of userli-postfix-adapter: `--as userli` with the adapter's environment, between a private Postfix, a real
Redis, and a double of userli's API."""

import base64
import os
import signal
import threading
import time
import unittest
import urllib.parse

from harness import Case, Mapmux, Policy, Reply, Sasl, Socketmap, Tcp, free_port, tempdir, wait_until
from harness.backend import as_json
from harness.http import Http
from harness.postfix import Postfix, Postmap
from harness.redis import Redis
from harness.userli import Userli, exception
from harness.wire import Closed

COUNTERS = "userli:ratelimit:sender:"
MESSAGE = "You have sent enough for now"
LOGIN = {"protocol_state": "END-OF-MESSAGE", "sender": "bounce@elsewhere.test", "recipient_count": "1"}
KEYS = {"alias": "info@example.org", "domain": "example.org", "mailbox": "alice@example.org",
        "senders": "info@example.org"}
HTML = b"<html><body>It works!</body></html>"
# What userli says when it cannot answer, and what stands in front of it says.
FAILURES = {
    "no token": as_json({"error": "No API token provided"}, 401),
    "wrong token": as_json({"error": "Invalid API token"}, 401),
    "no scope": exception(403, "Token does not have required scope: postfix"),
    "no route": exception(404, "No route found"),
    "not valid": exception(422, "This value should not be blank."),
    "broken": exception(500, "Internal Server Error"),
    "bad gateway": Reply(HTML, 502, content_type="text/html"),
    "another site": Reply(HTML, content_type="text/html"),
    "moved": Reply(HTML, 301, headers=[("Location", "https://127.0.0.1:1/")]),
    "an object": Reply("{}"),
    "a string": Reply('"alice@example.org"'),
    "a number": Reply("1"),
    "nothing": Reply(""),
    "half of it": Reply('["alice@example.org","bob@example.org"]', cut=20),
    "hung up": Reply(hangup=True),
    # The adapter did not look at statuses: these were absences to it.
    "an absence that is none": Reply("[]", 500),
    "a false that is none": Reply("false", 500),
}


def fill(double):
    double.user("alice@example.org", per_hour=2, per_day=100)
    double.user("bob@example.org", per_hour=0, per_day=3)
    double.user("carol@example.org")
    double.user("spam@example.org", spam=True)
    double.alias("info@example.org", "alice@example.org")
    double.alias("info@example.org", "bob@example.org")


class Base(Case):
    """One userli, one Redis, and one mapmux in the adapter's place for all tests of a class."""
    ENV = {}

    @classmethod
    def setUpClass(cls):
        cls.double, cls.redis = Userli(cls), Redis(cls)
        fill(cls.double)
        cls.ports = {name: free_port() for name in ("SOCKETMAP", "POLICY", "SASL", "METRICS")}
        password = urllib.parse.quote(cls.redis.password, safe="")
        cls.env = {"USERLI_TOKEN": "good-token", "USERLI_BASE_URL": cls.double.url,
                   "REDIS_URL": f"redis://:{password}@127.0.0.1:{cls.redis.port}/0", "POSTFIX_RECIPIENT_DELIMITER": "+",
                   "RATE_LIMIT_MESSAGE": MESSAGE,
                   **{f"{name}_LISTEN_ADDR": f":{port}" for name, port in cls.ports.items()}, **cls.ENV}
        cls.start()

    @classmethod
    def start(cls):
        cls.mux = Mapmux(cls, "--as", "userli", env=cls.env, extra=[f"127.0.0.1:{port}" for port in cls.ports.values()])

    def setUp(self):
        self.double.backend.forget()

    def tearDown(self):
        self.double.fault = None

    def client(self, protocol, kind):
        client = kind(("127.0.0.1", self.ports[protocol]))
        self.addCleanup(client.close)
        return client

    def socketmap(self):
        return self.client("SOCKETMAP", Socketmap)

    def policy(self):
        return self.client("POLICY", Policy)

    def sasl(self, **kwargs):
        return self.client("SASL", lambda address: Sasl(address, **kwargs))

    def web(self):
        return self.client("METRICS", Http)

    def userli_says(self, reply):
        self.double.fault = lambda request: reply

    def counted(self, identity):
        """How many tries Redis holds of him, in the adapter's place."""
        return int(self.redis.do("ZCARD", COUNTERS + identity))


class Maps(Base):
    """The four maps, by postmap and as bytes."""
    ENV = {"LOG_LEVEL": "WARN", "HTTP_PROXY": "http://127.0.0.1:1", "http_proxy": "http://127.0.0.1:1"}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.postmap = Postmap(cls)

    def query(self, name, key):
        done = self.postmap.query(key, f"socketmap:inet:127.0.0.1:{self.ports['SOCKETMAP']}:{name}")
        return done.returncode, done.stdout.decode().rstrip("\n"), done.stderr.decode()

    def test_what_postmap_finds(self):
        for name, key, value in (
                ("alias", "info@example.org", "alice@example.org,bob@example.org"),
                ("alias", "Info+list@example.org", "alice@example.org,bob@example.org"),
                ("domain", "example.org", "1"), ("mailbox", "alice@example.org", "1"),
                ("mailbox", "ALICE+box@Example.org", "1"), ("senders", "alice@example.org", "alice@example.org"),
                ("senders", "info@example.org", "alice@example.org,bob@example.org")):
            with self.subTest(name=name, key=key):
                self.assertEqual(self.query(name, key), (0, value, ""))
        for name, key in (("alias", "alice@example.org"), ("domain", "example.net"), ("mailbox", "info@example.org"),
                          ("senders", "nobody@example.org")):
            with self.subTest(name=name, key=key):
                self.assertEqual(self.query(name, key), (1, "", ""))
        self.assertEqual({request.header("Authorization") for request in self.double.backend.seen()},
                         {"Bearer good-token"})
        self.assertTrue(self.double.backend.seen()[0].header("User-Agent").startswith("mapmux/"))

    def test_many_keys_of_one_postmap(self):
        done = self.postmap.query("-", f"socketmap:inet:127.0.0.1:{self.ports['SOCKETMAP']}:mailbox",
                                  stdin="alice@example.org\nnobody@example.org\nbob+x@example.org\n")
        self.assertEqual(done.stdout, b"alice@example.org\t1\nbob+x@example.org\t1\n")

    def test_keys_become_what_userli_has(self):
        client = self.socketmap()
        for key in (" carol@example.org ", "\u200bcarol@example.org\ufeff", "\tCarol@EXAMPLE.org\x7f",
                    "\u00a0carol@example.org\u3000", "carol+a+b@example.org"):
            self.assertEqual(client.ask("mailbox", key), ("OK", "1"), repr(key))
        # The adapter sent a domain as it came: with capitals userli had none such.
        self.assertEqual(client.ask("domain", "EXAMPLE.org"), ("OK", "1"))
        self.assertLessEqual(set(self.double.asked()),
                             {"/api/postfix/mailbox/carol@example.org", "/api/postfix/domain/example.org"})

    def test_keys_that_userli_cannot_have(self):
        client = self.socketmap()
        for name in ("alias", "mailbox", "senders"):
            for key in ("alice", "@example.org", "a@b@example.org", "+x@example.org", '"a b"@example.org',
                        "o'neill@example.org", "SRS0=hash=tt=example.net=a@example.org", "m\u00fcller@example.org"):
                self.assertEqual(client.ask(name, key), ("NOTFOUND", ""), (name, key))
        self.assertEqual(self.double.asked(), [])

    def test_other_maps_and_no_map(self):
        client = self.socketmap()
        self.assertEqual(client.ask("forward", "alice@example.org")[0], "PERM")
        client.send(b"5:alias,")
        self.assertEqual(client.reply()[0], "PERM")
        self.assertEqual(client.ask("alias", ""), ("NOTFOUND", ""))
        self.assertEqual(client.ask("mailbox", "alice@example.org"), ("OK", "1"))
        self.assertEqual(client.ask("quota", "alice@example.org"), ("OK", "2/h 100/d"))
        code, value, complaint = self.query("forward", "alice@example.org")
        self.assertEqual((code, value), (1, ""))
        self.assertTrue(complaint, "an error is not silent")
        client.send(b"3:abc;")
        self.assertEqual(client.reply()[0], "PERM")
        with self.assertRaises(Closed):
            client.reply()

    def test_figures_and_health(self):
        self.socketmap().ask("alias", "info@example.org")
        with self.web() as http:
            self.assertEqual((http.get("/health").status, http.get("/ready").status), (200, 200))
            self.assertGreaterEqual(
                http.metrics().get("mapmux_requests_total", protocol="socketmap", table="alias", result="ok"), 1)

    def test_log_level(self):
        """The adapter took it in capitals too; nothing that is only for information is logged."""
        self.assertEqual(self.socketmap().ask("forward", "a@example.org")[0], "PERM")
        wait_until(lambda: " warn " in self.mux.log(), lambda: "a warning is logged: " + self.mux.log())
        self.assertNotIn(" info ", self.mux.log())


class Failures(Base):
    """A userli that cannot answer: never an absence, never a wrong password, never a limit."""
    ENV = {"LOOKUP_CACHE_TTL": "0"}

    def temporary(self, what):
        client = self.socketmap()
        for name, key in KEYS.items():
            self.assertEqual(client.ask(name, key)[0], "TEMP", (what, name))

    def no_verdict(self, what):
        self.assertEqual(self.policy().ask(sasl_username="alice@example.org", **LOGIN), "DUNNO", what)
        with self.assertRaises(Closed, msg=what):      # Postfix says 454
            self.sasl().plain("alice@example.org", "secret")

    def test_replies_that_are_no_answers(self):
        for what, reply in FAILURES.items():
            with self.subTest(what):
                self.userli_says(reply)
                self.temporary(what)
                self.no_verdict(what)
        self.double.fault = None
        self.assertEqual(self.counted("alice@example.org"), 0)
        for name, key in KEYS.items():
            self.assertEqual(self.socketmap().ask(name, key)[0], "OK", name)
        self.assertEqual(self.sasl().plain("alice@example.org", "secret")[0], "OK")

    def test_a_type_that_another_map_has(self):
        client = self.socketmap()
        for body, names in (("true", ("alias", "senders")), ("[1]", ("alias", "senders")),
                            ('["example.org"]', ("domain", "mailbox")), ("[]", ("domain", "mailbox"))):
            self.userli_says(Reply(body))
            for name in names:
                self.assertEqual(client.ask(name, KEYS[name])[0], "TEMP", (name, body))
        for body in ('["a@example.org\\nb@example.org"]', '["a@example.org"] and more'):
            self.userli_says(Reply(body))
            self.assertEqual(client.ask("alias", KEYS["alias"])[0], "TEMP", body)
        for body, names in (("null", tuple(KEYS)), ("[]", ("alias", "senders")), ('[""]', ("alias", "senders")),
                            ("false", ("domain", "mailbox"))):
            self.userli_says(Reply(body))
            for name in names:
                self.assertEqual(client.ask(name, KEYS[name]), ("NOTFOUND", ""), (name, body))

    def test_a_lost_connection(self):
        """A lookup is asked once more, a password is not."""
        self.userli_says(Reply(hangup=True))
        self.assertEqual(self.socketmap().ask("alias", KEYS["alias"])[0], "TEMP")
        self.assertEqual(len(self.double.asked()), 2)
        self.double.backend.forget()
        with self.assertRaises(Closed):
            self.sasl().plain("alice@example.org", "secret")
        self.assertEqual(len(self.double.asked()), 1)

    def test_postmap_is_told(self):
        postmap = Postmap(self)
        for what in ("another site", "an absence that is none"):
            self.userli_says(FAILURES[what])
            done = postmap.query(KEYS["alias"], f"socketmap:inet:127.0.0.1:{self.ports['SOCKETMAP']}:alias")
            self.assertEqual((done.returncode, done.stdout), (1, b""), what)
            self.assertTrue(done.stderr, what)

    def test_slower_than_the_deadline(self):
        """All at once; each hears of it after the adapter's five seconds."""
        gate, heard = threading.Event(), {}
        self.addCleanup(gate.set)
        self.userli_says(Reply("true", gate=gate))
        policy, sasl, began = self.policy(), self.sasl(), time.monotonic()

        def ask(name):
            with Socketmap(("127.0.0.1", self.ports["SOCKETMAP"])) as client:
                heard[name] = (client.ask(name, KEYS[name])[0], time.monotonic() - began)
        threads = [threading.Thread(target=ask, args=(name,)) for name in KEYS]
        for thread in threads:
            thread.start()
        policy.request(sasl_username="alice@example.org", **LOGIN)
        sasl.auth("PLAIN", b"\0alice@example.org\0secret")
        self.assertEqual(policy.reply(), "DUNNO")
        self.assertGreater(time.monotonic() - began, 4.5)
        with self.assertRaises(Closed):
            sasl.reply()
        self.assertGreater(time.monotonic() - began, 4.5)
        for thread in threads:
            thread.join()
        self.assertEqual({name: word for name, (word, _) in heard.items()}, dict.fromkeys(KEYS, "TEMP"))
        self.assertGreater(min(after for _, after in heard.values()), 4.5)
        self.assertEqual(self.counted("alice@example.org"), 0)

    def test_nobody_listens(self):
        self.double.backend.kill()
        try:
            self.temporary("refused")
            self.no_verdict("refused")
            client = self.socketmap()
            for _ in range(5):
                client.ask("alias", KEYS["alias"])
            with self.web() as http:
                self.assertEqual(http.get("/health").status, 200)
                ready = http.get("/ready")
                self.assertEqual(ready.status, 503)
                self.assertIn("alias", ready.json()["tables"])
        finally:
            self.double.backend.start()
        self.assertEqual(client.ask("alias", KEYS["alias"])[0], "OK")
        self.assertEqual(self.sasl().plain("alice@example.org", "secret")[0], "OK")


class Cache(Base):
    """LOOKUP_CACHE_TTL, in the Redis of REDIS_URL."""

    def setUp(self):
        super().setUp()
        self.redis.do("FLUSHALL")

    def keep_all(self):
        """Asks until Redis has all answers and no others. On a busy machine a second level that is slow for a moment is
        left out, and an answer of the test before may reach it after its keys were deleted."""
        for _ in range(10):
            client = self.socketmap()
            for name, key in KEYS.items():
                self.assertEqual(client.ask(name, key)[0], "OK")
            try:
                wait_until(lambda: len(self.redis.do("KEYS", "mapmux:cache:*")) == len(KEYS), "all are in Redis", 2)
                return client
            except AssertionError:
                self.mux.stop()
                self.redis.do("FLUSHALL")
                self.start()
        return self.fail("Redis never got all answers")

    def test_answers_outlive_userli_and_mapmux(self):
        client = self.keep_all()
        self.double.backend.kill()
        try:
            self.assertEqual(client.ask("alias", "info@example.org"), ("OK", "alice@example.org,bob@example.org"))
            for key in self.redis.do("KEYS", "mapmux:cache:*"):
                self.assertIn(int(self.redis.do("TTL", key)), range(200, 301), "300 s unless it is told")
            self.mux.stop()
            self.start()
            client = self.socketmap()
            for name, key in KEYS.items():
                self.assertEqual(client.ask(name, key)[0], "OK", name)
            self.assertEqual(client.ask("mailbox", "carol@example.org")[0], "TEMP")     # was not asked before
        finally:
            self.double.backend.start()

    def test_absence_is_not_kept(self):
        client = self.socketmap()
        self.assertEqual(client.ask("mailbox", "new@example.org"), ("NOTFOUND", ""))
        self.double.user("new@example.org")
        self.assertEqual(client.ask("mailbox", "new@example.org"), ("OK", "1"))

    def test_passwords_and_limits_are_not_kept(self):
        client = self.sasl()
        self.double.user("change@example.org", "before")
        self.assertEqual(client.plain("change@example.org", "before")[0], "OK")
        self.double.user("change@example.org", "after", per_hour=1)
        self.assertEqual(client.plain("change@example.org", "after")[0], "OK")
        policy = self.policy()
        self.assertEqual(policy.ask(sasl_username="change@example.org", **LOGIN), "DUNNO")
        self.double.users["change@example.org"]["per_hour"] = 2
        self.assertEqual(policy.ask(sasl_username="change@example.org", **LOGIN), "DUNNO")

    def test_without_redis(self):
        """It is there to help: lookups are answered, and mail is not limited."""
        self.redis.stop()
        try:
            client = self.socketmap()
            self.assertEqual(client.ask("mailbox", "bob@example.org"), ("OK", "1"))
            self.assertEqual(client.ask("mailbox", "absent@example.org"), ("NOTFOUND", ""))
            for _ in range(4):
                self.assertEqual(self.policy().ask(sasl_username="bob@example.org", **LOGIN), "DUNNO")
        finally:
            self.redis.start()


class ShortCache(Base):
    ENV = {"LOOKUP_CACHE_TTL": "1s"}

    def test_until_its_time_is_over(self):
        client = self.socketmap()
        self.assertEqual(client.ask("alias", KEYS["alias"])[0], "OK")
        self.userli_says(FAILURES["broken"])
        wait_until(lambda: client.ask("alias", KEYS["alias"])[0] == "TEMP", "the answer is forgotten", pause=0.1)
        self.double.fault = None
        self.assertEqual(client.ask("alias", KEYS["alias"])[0], "OK")


class Limits(Base):
    """What the adapter counted, and when it rejected."""

    def send(self, client, who, **attributes):
        return client.ask(**{**LOGIN, "sasl_username": who, **attributes})

    def test_a_day_and_an_hour(self):
        client, reject = self.policy(), "REJECT " + MESSAGE
        self.assertEqual([self.send(client, "alice@example.org") for _ in range(4)], ["DUNNO"] * 2 + [reject] * 2)
        self.assertEqual([self.send(client, "bob@example.org") for _ in range(4)], ["DUNNO"] * 3 + [reject])
        # What is rejected counts as well.
        self.assertEqual((self.counted("alice@example.org"), self.counted("bob@example.org")), (4, 4))
        self.assertIn(int(self.redis.do("TTL", COUNTERS + "alice@example.org")), range(89800, 90001))
        score = float(self.redis.do("ZRANGE", COUNTERS + "alice@example.org", 0, 0, "WITHSCORES")[1])
        self.assertAlmostEqual(score / 1e9, time.time(), delta=60)

    def test_who_has_no_limit(self):
        client = self.policy()
        for who in ("carol@example.org", "nobody@example.org", "no address"):
            self.assertEqual({self.send(client, who) for _ in range(5)}, {"DUNNO"}, who)
            self.assertEqual(self.counted(who), 0, who)

    def test_who_is_counted(self):
        self.double.user("dave@example.org", per_hour=1)
        client = self.policy()
        self.assertEqual(self.send(client, "dave@example.org", protocol_state="RCPT"), "DUNNO")
        self.assertEqual(self.send(client, "", sender=""), "DUNNO")
        self.assertEqual(self.counted("dave@example.org"), 0)
        self.assertEqual(self.send(client, "", sender="Dave+x@example.org", recipient_count="7"), "DUNNO")
        self.assertEqual(self.counted("dave@example.org"), 1)
        self.assertIn(int(self.redis.do("TTL", COUNTERS + "dave@example.org")), range(7000, 7201))   # 25 h with a day's
        self.assertEqual(self.send(client, "DAVE@example.org"), "REJECT " + MESSAGE)

    def test_what_the_adapter_has_counted(self):
        self.double.user("erin@example.org", per_hour=2)
        now = time.time_ns()
        for n, ago in enumerate((7200, 60)):
            when = now - ago * 10**9
            self.redis.do("ZADD", COUNTERS + "erin@example.org", when, f"{when}:{n}")
        client = self.policy()
        self.assertEqual([self.send(client, "erin@example.org") for _ in range(2)], ["DUNNO", "REJECT " + MESSAGE])

    def test_a_slow_userli_still_limits(self):
        """It had five seconds for that."""
        self.double.user("slow@example.org", per_hour=1)
        client = self.policy()
        self.assertEqual(self.send(client, "slow@example.org"), "DUNNO")
        self.userli_says(as_json({"per_hour": 1, "per_day": 0}, delay=3))
        self.assertEqual(self.send(client, "slow@example.org"), "REJECT " + MESSAGE)


class Passwords(Base):
    """SASL, as bytes."""

    def test_words(self):
        client = self.sasl()
        self.assertEqual(client.plain("alice@example.org", "secret"), ("OK", {"user": "alice@example.org"}))
        # The adapter gave the name back as it was typed.
        for typed in ("Alice@Example.org", "alice+box@example.org", "\u00a0alice@example.org "):
            self.assertEqual(client.plain(typed, "secret"), ("OK", {"user": "alice@example.org"}), typed)
        self.assertEqual(client.login("alice@example.org", "secret"), ("OK", {"user": "alice@example.org"}))
        client.auth("CRAM-MD5")
        self.assertEqual(client.reply()[:2], ("FAIL", client.number))

    def test_wrong(self):
        """From an address each: further refusals of the same one are held back for longer."""
        clients = []
        for user, password in (("alice@example.org", "wrong"), ("nobody@example.org", "secret"), ("no address", "secret"),
                               ("spam@example.org", "secret")):
            client = self.sasl(rip=f"198.51.100.{len(clients)}")
            client.auth("PLAIN", f"\0{user}\0{password}".encode())
            clients.append((client, user))
        for client, user in clients:
            word, _, fields = client.reply()
            reason = "user disabled due to spam role" if user.startswith("spam") else "authentication failed"
            self.assertEqual((word, fields), ("FAIL", [f"user={user}", f"reason={reason}"]))
        self.assertEqual(len(self.double.asked()), 3, "what is no address is not asked for")

    def test_who_acts_for_whom(self):
        """The adapter did not look at the first name."""
        client = self.sasl()
        client.auth("PLAIN", b"alice@example.org\0alice@example.org\0secret")
        self.assertEqual(client.reply()[0], "OK")
        client.auth("PLAIN", b"bob@example.org\0alice@example.org\0secret")
        self.assertEqual(client.reply()[0], "FAIL")


def coded(*parts):
    return base64.b64encode("\0".join(parts).encode()).decode()


class Smtpd(Base):
    """A private Postfix that asks all of it, as the adapter's documents have it."""
    ENV = {"LOOKUP_CACHE_TTL": "0"}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        maps = f"socketmap:inet:127.0.0.1:{cls.ports['SOCKETMAP']}:"
        cls.postfix = Postfix(cls, {
            "virtual_mailbox_domains": maps + "domain", "virtual_mailbox_maps": maps + "mailbox",
            "virtual_alias_maps": maps + "alias", "virtual_alias_domains": "", "recipient_delimiter": "+",
            "smtpd_sender_login_maps": maps + "senders", "smtpd_sender_restrictions": "reject_sender_login_mismatch",
            "smtpd_sasl_auth_enable": "yes", "smtpd_sasl_type": "dovecot",
            "smtpd_sasl_path": f"inet:127.0.0.1:{cls.ports['SASL']}",
            "smtpd_end_of_data_restrictions": f"check_policy_service inet:127.0.0.1:{cls.ports['POLICY']}"})

    def login(self, user, password="secret"):
        """The code of the answer to AUTH PLAIN, in a session of its own."""
        with self.postfix.smtp() as session:
            return session.docmd("AUTH", "PLAIN " + coded("", user, password))[0]

    def logged_in(self, user):
        """A session of that user. A connection that has ended while nobody looked costs each smtpd a 454."""
        def login():
            session = self.postfix.smtp()
            if session.docmd("AUTH", "PLAIN " + coded("", user, "secret"))[0] == 235:
                return session
            session.close()
            return None
        session = wait_until(login, lambda: f"{user} logs in:\n" + self.postfix.log())
        self.addCleanup(session.close)
        return session

    def tearDown(self):
        super().tearDown()
        self.postfix.reload()       # no test meets the connections of another

    @staticmethod
    def send(session, sender, recipient="somebody@elsewhere.test"):
        """The first reply that is not 250, else that to the end of DATA."""
        code, text = session.mail(sender)
        if code == 250:
            code, text = session.rcpt(recipient)
        if code == 250:
            code, text = session.data(f"From: {sender}\r\nSubject: x\r\n\r\nx\r\n")
        session.rset()
        return code, text.decode()

    def test_recipients(self):
        for recipient in ("alice@example.org", "Alice+box@example.org", "alice@EXAMPLE.org", "info@example.org"):
            self.assertEqual(self.postfix.rcpt(recipient)[0], 250, recipient)
        self.assertEqual(self.postfix.rcpt("nobody@example.org")[0], 550)
        self.assertEqual(self.postfix.rcpt("nobody@example.net")[0], 554)

    def test_recipients_while_userli_is_down(self):
        for what in ("wrong token", "an absence that is none", "another site"):
            self.userli_says(FAILURES[what])
            self.assertEqual(self.postfix.rcpt("alice@example.org")[0], 451, what)
        self.double.fault = None
        self.double.backend.kill()
        try:
            self.assertEqual(self.postfix.rcpt("nobody@example.org")[0], 451)
        finally:
            self.double.backend.start()

    def test_passwords(self):
        with self.postfix.smtp() as session:
            self.assertIn("PLAIN LOGIN", session.esmtp_features["auth"])
            self.assertEqual(session.docmd("AUTH", "PLAIN " + coded("", "alice@example.org", "wrong")),
                             (535, b"5.7.8 Error: authentication failed: authentication failed"))
            self.assertEqual(session.docmd("AUTH", "PLAIN"), (334, b""))     # a 535 with the adapter
            self.assertEqual(session.docmd(coded("", "Alice+box@example.org", "secret"))[0], 235)
        with self.postfix.smtp() as session:
            self.assertEqual(session.docmd("AUTH", "LOGIN"), (334, coded("Username:").encode()))
            self.assertEqual(session.docmd(coded("alice@example.org")), (334, coded("Password:").encode()))
            self.assertEqual(session.docmd(coded("secret"))[0], 235)

    def test_passwords_while_userli_is_down(self):
        """454: the program tries again, and asks nobody for another password. The adapter's FAIL was a 535."""
        for what in ("wrong token", "broken"):
            self.userli_says(FAILURES[what])
            self.assertEqual(self.login("alice@example.org"), 454, what)
            self.double.fault = None
            self.logged_in("alice@example.org").close()
        self.double.backend.kill()
        try:
            self.assertEqual(self.login("alice@example.org"), 454)
        finally:
            self.double.backend.start()

    def test_whose_senders(self):
        session = self.logged_in("carol+box@example.org")
        self.assertEqual(self.send(session, "carol@example.org")[0], 250)
        code, text = self.send(session, "info@example.org")
        self.assertEqual(code, 553, text)
        self.assertIn("not owned by user carol@example.org", text)
        self.userli_says(FAILURES["broken"])
        self.assertEqual(self.send(session, "carol@example.org")[0], 451)

    def test_a_quota(self):
        """Whatever name he logs in by; and over a restart, even a hard one."""
        session = self.logged_in("alice@example.org")
        self.assertEqual([self.send(session, "alice@example.org")[0] for _ in range(2)], [250, 250])
        code, text = self.send(session, "info@example.org")
        self.assertEqual((code, MESSAGE in text), (554, True), text)
        session = self.logged_in("Alice+box@example.org")
        self.assertEqual(self.send(session, "alice@example.org")[0], 554)
        self.assertEqual(self.counted("alice@example.org"), 4)
        self.mux.kill(signal.SIGKILL)
        self.mux.ended()
        self.start()
        session = self.logged_in("alice@example.org")
        self.assertEqual(self.send(session, "alice@example.org")[0], 554)
        self.assertEqual(self.counted("alice@example.org"), 5)
        self.assertEqual(self.redis.do("KEYS", "userli:*"), [b"userli:ratelimit:sender:alice@example.org"])
        # userli lets him send more.
        self.double.users["alice@example.org"]["per_hour"] = 9
        try:
            self.assertEqual(self.send(session, "alice@example.org")[0], 250)
        finally:
            self.double.users["alice@example.org"]["per_hour"] = 2


class UnixSockets(Base):
    """Addresses that are paths, for the adapter whatever begins with a slash."""

    @classmethod
    def setUpClass(cls):
        where = tempdir(cls)
        cls.paths = {name: os.path.join(where, name.lower()) for name in ("SOCKETMAP", "POLICY", "SASL")}
        cls.ENV = {f"{name}_LISTEN_ADDR": path for name, path in cls.paths.items()}
        super().setUpClass()

    @classmethod
    def start(cls):
        cls.mux = Mapmux(cls, "--as", "userli", env=cls.env,
                         extra=[*("unix:" + path for path in cls.paths.values()), f"127.0.0.1:{cls.ports['METRICS']}"])

    def test_sockets(self):
        for path in self.paths.values():
            self.assertEqual(os.stat(path).st_mode & 0o777, 0o666, path)
        done = Postmap(self).query("info@example.org", f"socketmap:unix:{self.paths['SOCKETMAP']}:alias")
        self.assertEqual(done.stdout, b"alice@example.org,bob@example.org\n", done.stderr)
        with Policy(self.paths["POLICY"]) as client:
            self.assertEqual(client.ask(sasl_username="carol@example.org", **LOGIN), "DUNNO")
        with Sasl(self.paths["SASL"]) as client:
            self.assertEqual(client.plain("alice@example.org", "secret")[0], "OK")
        self.mux.kill(signal.SIGKILL)       # leaves them behind
        self.mux.ended()
        self.start()
        with Socketmap(self.paths["SOCKETMAP"]) as client:
            self.assertEqual(client.ask("mailbox", "alice@example.org"), ("OK", "1"))
        self.mux.stop()
        self.assertEqual([os.path.exists(path) for path in self.paths.values()], [False] * 3)


class FirstVersion(Case):
    """The adapter 1.x: tcp_table, with a port for each map, no cache and no Redis."""

    @classmethod
    def setUpClass(cls):
        cls.double = Userli(cls)
        fill(cls.double)
        cls.ports = {name: free_port() for name in ("ALIAS", "DOMAIN", "MAILBOX", "SENDERS", "METRICS")}
        cls.mux = Mapmux(cls, "--as", "userli", extra=[f"127.0.0.1:{port}" for port in cls.ports.values()],
                         env={"USERLI_TOKEN": "good-token", "USERLI_BASE_URL": cls.double.url,
                              **{f"{name}_LISTEN_ADDR": f":{port}" for name, port in cls.ports.items()}})

    def tearDown(self):
        self.double.fault = None

    def map(self, name):
        return f"tcp:127.0.0.1:{self.ports[name]}"

    def test_postmap(self):
        postmap = Postmap(self)
        for name, key, value in (("ALIAS", "Info@example.org", b"alice@example.org,bob@example.org"),
                                 ("DOMAIN", "example.org", b"1"), ("MAILBOX", "alice@example.org", b"1"),
                                 ("SENDERS", "alice@example.org", b"alice@example.org")):
            done = postmap.query(key, self.map(name))
            self.assertEqual((done.returncode, done.stdout, done.stderr), (0, value + b"\n", b""), name)
        done = postmap.query("nobody@example.org", self.map("MAILBOX"))
        self.assertEqual((done.returncode, done.stdout, done.stderr), (1, b"", b""))

    def test_failures(self):
        for what, reply in FAILURES.items():
            self.double.fault = lambda request, reply=reply: reply
            for name, key in KEYS.items():
                with Tcp(("127.0.0.1", self.ports[name.upper()])) as client:
                    self.assertEqual(client.ask(key)[0], 400, (what, name))
                    self.assertEqual(client.ask("no address")[0], 500)      # the adapter had ended it

    def test_smtpd(self):
        postfix = Postfix(self, {
            "virtual_mailbox_domains": self.map("DOMAIN"), "virtual_mailbox_maps": self.map("MAILBOX"),
            "virtual_alias_maps": self.map("ALIAS"), "virtual_alias_domains": ""})
        self.assertEqual(postfix.rcpt("info@example.org")[0], 250)
        self.assertEqual(postfix.rcpt("nobody@example.org")[0], 550)
        self.double.fault = lambda request: Reply("[]", 500)
        self.assertEqual(postfix.rcpt("nobody@example.org")[0], 451)


if __name__ == "__main__":
    unittest.main()
