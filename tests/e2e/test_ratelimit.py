"""Rate limits: asked as bytes, by a private Postfix's smtpd, with counters in memory and in a real Redis."""

import os
import signal
import time
import unittest
import urllib.parse

from harness import Case, Mapmux, Policy, Reply, free_port, run, tempdir, wait_until
from harness.http import Http
from harness.mapmux import binary, document
from harness.postfix import Postfix
from harness.redis import Redis
from harness.userli import Userli

REJECT = "REJECT Rate limit exceeded, please try again later"
KEY = "userli:ratelimit:sender:"


class Wire(Case):
    """Listeners with a table each, in memory."""

    @classmethod
    def setUpClass(cls):
        where = tempdir(cls)
        cls.paths = {name: os.path.join(where, name) for name in ("plain", "quota", "defer", "many")}
        cls.userli = Userli(cls)
        cls.userli.user("limited@example.org", per_hour=2, per_day=0)
        cls.userli.user("free@example.org", per_hour=0, per_day=0)
        listeners = [{"protocol": "policy", "address": "unix:" + path, "table": name}
                     for name, path in cls.paths.items()]
        cls.web = os.path.join(where, "http")
        listeners += [{"protocol": "http", "address": "unix:" + cls.web}]
        cls.mux = Mapmux(cls, config=document({"threads": 2, "listeners": listeners, "tables": [
            {"name": "plain", "type": "ratelimit", "param": "2/h 10/d", "recipient_delimiter": "+"},
            {"name": "limits", "type": "userli", "param": cls.userli.url, "token": "good-token", "endpoint": "quota"},
            {"name": "quota", "type": "ratelimit", "param": "limits"},
            {"name": "defer", "type": "ratelimit", "param": "5/h", "weight": "recipients",
             "on_exceed": "DEFER 4.7.1 Slow down"},
            {"name": "many", "type": "ratelimit", "param": "1/h", "max_identities": 1000}]}))

    def client(self, name):
        client = Policy(self.paths[name])
        self.addCleanup(client.close)
        return client

    def count(self, client, who, **attributes):
        return client.ask(request="smtpd_access_policy", **{
            "protocol_state": "END-OF-MESSAGE", "sender": who, "sasl_username": "", "recipient_count": "1", **attributes})

    def test_one_identity(self):
        """Over connections that other workers serve, in capitals and with extensions."""
        answers = [self.count(self.client("plain"), who) for who in (
            "one@x.test", "ONE@x.test", "one+tag@X.TEST", "one@x.test")]
        self.assertEqual(answers, ["DUNNO", "DUNNO", REJECT, REJECT])
        self.assertEqual(self.count(self.client("plain"), "other@x.test"), "DUNNO")
        self.assertEqual(self.count(self.client("plain"), "new@x.test", sasl_username="One@x.test"), REJECT)

    def test_other_states_and_nobody(self):
        client = self.client("plain")
        for _ in range(5):
            self.assertEqual(self.count(client, "state@x.test", protocol_state="RCPT"), "DUNNO")
            self.assertEqual(self.count(client, ""), "DUNNO")
        self.assertEqual(self.count(client, "state@x.test"), "DUNNO")

    def test_recipients(self):
        client = self.client("defer")
        self.assertEqual(self.count(client, "r@x.test", recipient_count="3"), "DUNNO")
        self.assertEqual(self.count(client, "r@x.test", recipient_count="3"), "DEFER 4.7.1 Slow down")
        self.assertEqual(self.count(client, "r@x.test", recipient_count="2"), "DUNNO")
        self.assertEqual(self.count(client, "r@x.test", recipient_count="x"), "DEFER 4.7.1 Slow down")

    def test_limits_of_userli(self):
        client = self.client("quota")
        answers = [self.count(client, "limited@example.org") for _ in range(3)]
        self.assertEqual(answers, ["DUNNO", "DUNNO", REJECT])
        for who in ("free@example.org", "nobody@example.org"):
            self.assertEqual({self.count(client, who) for _ in range(5)}, {"DUNNO"})
        self.userli.fault = lambda request: Reply(b"{}", 500)
        try:
            self.assertEqual(self.count(client, "limited@example.org"), "DUNNO")
        finally:
            self.userli.fault = None
        self.assertEqual(self.count(client, "limited@example.org"), REJECT)
        self.assertIn("rate limit unknown table=quota", self.mux.log())

    def test_view_and_reset(self):
        client = self.client("plain")
        with Http(self.web) as http:
            self.count(client, "view@x.test")
            value = http.get("/v1/ratelimit/plain", identity="VIEW+a@x.test").json()["value"]
            # What falls into a hundredth of the shortest window is counted at its end.
            for limit in value["limits"]:
                self.assertIn(limit.pop("next_free") - limit["seconds"], range(-30, 38))
            self.assertEqual(value, {"identity": "view@x.test", "limits": [
                {"most": 2, "seconds": 3600, "used": 1, "left": 1},
                {"most": 10, "seconds": 86400, "used": 1, "left": 9}]})
            self.count(client, "view@x.test")
            self.assertEqual(self.count(client, "view@x.test"), REJECT)
            self.assertEqual(http.ask("DELETE", "/v1/ratelimit/plain?identity=view%40x.test").status, 200)
            self.assertEqual(self.count(client, "view@x.test"), "DUNNO")
            self.assertEqual(http.get("/v1/ratelimit/limits", identity="a").status, 404)
            self.assertEqual(http.get("/v1/ratelimit/none", identity="a").status, 404)
            self.assertEqual(http.get("/v1/ratelimit/plain").status, 400)
            self.assertEqual(http.ask("POST", "/v1/ratelimit/plain?identity=a").status, 405)

    def test_memory_is_bounded(self):
        client = self.client("many")
        for n in range(5000):
            self.assertEqual(self.count(client, f"n{n}@x.test"), "DUNNO")
        with Http(self.web) as http:
            stats = http.get("/v1/stats").json()
        self.assertIn('"identities": 1000', str(stats).replace("'", '"'))
        self.assertEqual(self.count(client, "n4999@x.test"), REJECT)


class Figures(Case):
    """What /metrics says of the tables, over all workers."""

    def test_figures(self):
        where = tempdir(self)
        paths = {name: os.path.join(where, name) for name in ("limit", "broken")}
        web, file = os.path.join(where, "http"), os.path.join(where, "mapmux.yaml")
        listeners = [{"protocol": "policy", "address": "unix:" + path, "table": name} for name, path in paths.items()]
        with open(file, "w", encoding="utf-8") as out:
            out.write(document({"threads": 2, "listeners": [*listeners, {"protocol": "http", "address": "unix:" + web}],
                                "tables": [
                {"name": "limit", "type": "ratelimit", "param": "2/h", "recipient_delimiter": "+"},
                {"name": "away", "type": "url", "param": f"http://127.0.0.1:{free_port()}/{{}}", "retries": 0},
                {"name": "broken", "type": "ratelimit", "param": "away"},
                {"name": "other", "type": "memory"}]}))
        mux = Mapmux(self, "-c", file, extra=["unix:" + path for path in (*paths.values(), web)])
        clients = [Policy(paths["limit"]) for _ in range(4)]    # held open: both workers have some
        for client in clients:
            self.addCleanup(client.close)

        def ask(client, who):
            return client.ask(protocol_state="END-OF-MESSAGE", sender=who)

        def figures(table):
            with Http(web) as http:
                metrics = http.metrics()
            total = metrics.all("mapmux_ratelimit_total", table=table)
            return ({dict(labels)["event"]: value for labels, value in total.items()},
                    metrics.get("mapmux_ratelimit_identities", table=table))
        self.assertEqual(figures("limit"), ({"allowed": 0, "exceeded": 0, "errors": 0}, 0))
        self.assertEqual(figures("other"), ({}, None))
        for _ in range(2):
            for number, client in enumerate(clients):
                self.assertEqual(ask(client, f"U{number}+x@x.test"), "DUNNO")
        for client in clients:
            self.assertEqual(ask(client, "u3@x.test"), REJECT)
        self.assertEqual(ask(clients[0], ""), "DUNNO")      # nobody: it is not counted
        counted = {"allowed": 8, "exceeded": 4, "errors": 0}
        self.assertEqual(figures("limit"), (counted, 4))
        with Policy(paths["broken"]) as client:
            self.assertEqual([ask(client, "a@x.test") for _ in range(3)], ["DUNNO"] * 3)
        self.assertEqual(figures("broken"), ({"allowed": 0, "exceeded": 0, "errors": 3}, 0))
        with Http(web) as http:
            self.assertEqual(http.ask("DELETE", "/v1/ratelimit/limit?identity=u0%40x.test").status, 200)
            self.assertNotIn(b"x.test", http.get("/metrics").body)
        self.assertEqual(figures("limit"), (counted, 3))
        mux.kill(signal.SIGHUP)
        wait_until(lambda: "reloaded: " in mux.log(), "the reload")
        self.assertEqual(figures("limit"), (counted, 3))
        mux.kill(signal.SIGUSR1)
        wait_until(lambda: "allowed 8, exceeded 4, errors 0, identities 3" in mux.log(), "the summary")


class Reload(Case):
    def test_counts_go_on(self):
        """Over a reload that changes the limits."""
        where = tempdir(self)
        path, file = os.path.join(where, "policy"), os.path.join(where, "mapmux.yaml")

        def write(limits):
            with open(file, "w", encoding="utf-8") as out:
                out.write(document({"listeners": [{"protocol": "policy", "address": "unix:" + path, "table": "r"}],
                                    "tables": [{"name": "r", "type": "ratelimit", "param": limits}]}))

        write("2/h")
        mux = Mapmux(self, "-c", file, extra=["unix:" + path])
        with Policy(path) as client:
            def ask():
                return client.ask(protocol_state="END-OF-MESSAGE", sender="a@x.test")
            self.assertEqual([ask() for _ in range(3)], ["DUNNO", "DUNNO", REJECT])
            write("3/h")
            mux.kill(signal.SIGHUP)
            wait_until(lambda: "reloaded: " in mux.log(), "the reload")
            self.assertEqual([ask() for _ in range(2)], ["DUNNO", REJECT])


class InRedis(Case):
    """Counters that last, and that others share."""

    @classmethod
    def setUpClass(cls):
        cls.redis = Redis(cls)
        where = tempdir(cls)
        cls.path, cls.web = os.path.join(where, "policy"), os.path.join(where, "http")
        password = urllib.parse.quote(cls.redis.password, safe="")
        cls.config = document({"listeners": [
            {"protocol": "policy", "address": "unix:" + cls.path, "table": "r"},
            {"protocol": "http", "address": "unix:" + cls.web}],
            "tables": [{"name": "r", "type": "ratelimit", "param": "2/3s 100/d", "timeout": "2s",
                        "store": f"redis+unix://:{password}@{cls.redis.path}"}]})
        cls.mux = Mapmux(cls, config=cls.config)

    def ask(self, who):
        with Policy(self.path) as client:
            return client.ask(protocol_state="END-OF-MESSAGE", sender=who)

    def test_counts(self):
        self.assertEqual([self.ask("a@x.test") for _ in range(3)], ["DUNNO", "DUNNO", REJECT])
        self.assertEqual(int(self.redis.do("ZCARD", KEY + "a@x.test")), 2)
        self.assertIn(int(self.redis.do("TTL", KEY + "a@x.test")), range(89900, 90001))
        wait_until(lambda: self.ask("a@x.test") == "DUNNO", "the window ends", pause=0.2)
        with Http(self.web) as http:
            value = http.get("/v1/ratelimit/r", identity="A@x.test").json()["value"]
            self.assertEqual(value["limits"][1]["used"], 3)
            self.assertIn(value["limits"][1]["next_free"], range(86300, 86401))
            self.assertEqual(http.ask("DELETE", "/v1/ratelimit/r?identity=a%40x.test").status, 200)
        self.assertEqual(int(self.redis.do("EXISTS", KEY + "a@x.test")), 0)

    def test_what_the_adapter_has_counted(self):
        """Its members and scores: nanoseconds since 1970."""
        now = time.time_ns()
        for n in range(2):
            self.redis.do("ZADD", KEY + "old@x.test", str(now - n), f"{now - n}:abc{n}")
        self.assertEqual(self.ask("old@x.test"), REJECT)

    def test_keys_stay_keys(self):
        for who in ("a b@x.test", "{user}@x.test", "a*@x.test", "\u00fc@x.test", '"; FLUSHALL"@x.test'):
            self.assertEqual(self.ask(who), "DUNNO")
            self.assertEqual(int(self.redis.do("EXISTS", KEY + who.lower())), 1, who)

    def test_restart(self):
        self.assertEqual([self.ask("keep@x.test") for _ in range(2)], ["DUNNO", "DUNNO"])
        self.redis.do("ZINCRBY", KEY + "keep@x.test", "60000000000", self.redis.do(
            "ZRANGE", KEY + "keep@x.test", "0", "0")[0])
        self.redis.do("ZINCRBY", KEY + "keep@x.test", "60000000000", self.redis.do(
            "ZRANGE", KEY + "keep@x.test", "0", "0")[0])
        self.mux.stop()
        type(self).mux = Mapmux(type(self), config=self.config)
        self.assertEqual(self.ask("keep@x.test"), REJECT)

    def test_redis_dies_and_comes_back(self):
        self.redis.stop()
        try:
            self.assertEqual({self.ask("dead@x.test") for _ in range(3)}, {"DUNNO"})
            with Http(self.web) as http:
                self.assertEqual(http.get("/v1/ratelimit/r", identity="dead@x.test").status, 503)
        finally:
            self.redis.start()
        self.assertIn("rate limit unknown table=r", self.mux.log())
        self.assertNotIn(self.redis.password, self.mux.log())
        # Connecting is tried again after a pause; from then on it counts.
        wait_until(lambda: self.ask("dead@x.test") == REJECT, "counters are kept again", pause=0.1)

    def test_check_shows_no_password(self):
        path = os.path.join(tempdir(self), "mapmux.yaml")
        with open(path, "w", encoding="utf-8") as file:
            file.write(self.config)
        shown = run([binary(), "check", "-c", path])
        self.assertEqual(shown.returncode, 0, shown.stderr)
        self.assertIn(b"redis+unix:", shown.stdout)
        self.assertNotIn(self.redis.password.encode(), shown.stdout + shown.stderr)


class Smtpd(Case):
    """A private Postfix whose senders have a short window."""

    @classmethod
    def setUpClass(cls):
        cls.port = free_port()
        cls.mux = Mapmux(cls, config=document({"listeners": [
            {"protocol": "policy", "address": f"127.0.0.1:{cls.port}", "table": "quota"}], "tables": [
            {"name": "steady", "type": "ratelimit", "param": "2/4s", "recipient_delimiter": "+",
             "on_exceed": "DEFER 4.7.1 Slow down"},
            {"name": "daily", "type": "ratelimit", "param": "3/d", "recipient_delimiter": "+"},
            {"name": "quota", "type": "chain", "param": ["steady", "daily"], "side_effects": "yes"}]}))
        cls.postfix = Postfix(cls, {
            "relay_domains": "relay.test", "smtpd_recipient_restrictions": "permit",
            "smtpd_end_of_data_restrictions": f"check_policy_service inet:127.0.0.1:{cls.port}"})

    def test_stopped_and_let_through(self):
        codes = [self.postfix.send("r@relay.test", sender) for sender in (
            "bob@elsewhere.test", "Bob@Elsewhere.test", "bob+list@elsewhere.test")]
        self.assertEqual([code for code, _ in codes], [250, 250, 450])
        self.assertIn("4.7.1", codes[2][1])
        self.assertIn("Slow down", codes[2][1])
        self.assertEqual(self.postfix.send("r@relay.test", "eve@elsewhere.test")[0], 250)
        # What the first table of the chain rejects does not count in the second.
        wait_until(lambda: self.postfix.send("r@relay.test", "bob@elsewhere.test")[0] != 450,
                   "the window ends", pause=0.5)
        code, text = self.postfix.send("r@relay.test", "bob@elsewhere.test")
        self.assertEqual(code, 554, text)
        self.assertIn("Rate limit exceeded, please try again later", text)


if __name__ == "__main__":
    unittest.main()
