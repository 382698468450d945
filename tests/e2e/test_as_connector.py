"""In place of postfix-rest-connector: its documented endpoints on an HTTP service, asked by postmap, a private
Postfix's smtpd and raw clients. What differs on purpose stands in docs/migrate.md."""

import concurrent.futures
import json
import os
import threading
import unittest
import urllib.parse

from harness import Backend, Case, Mapmux, Policy, Reply, Socketmap, Tcp, free_port, tempdir
from harness.backend import as_json
from harness.base import answers
from harness.postfix import Postfix, Postmap
from harness.wire import Stream

TOKEN, AGENT = "test123", "Postfix REST Connector"
FAILED = "451 4.3.0 REST server had an internal error!"     # the action

LOOKUPS = {     # what the service answers, by key
    "found": as_json(["a@example.org", "b@example.org"]), "one": as_json(["only one"]), "none": as_json([]),
    "object": as_json({"a": 1}), "nested": as_json([["a"]]), "text": Reply("oops", content_type="text/plain"),
    "cut": Reply('["a', cut=2), "nothing": Reply(""), "hangup": Reply(hangup=True),
    "absent": Reply(status=404), "bad": Reply(status=400), "token": Reply(status=401), "denied": Reply(status=403),
    "gone": Reply(status=410), "busy": Reply(status=429), "broken": Reply(status=500), "down": Reply('["a"]', 503),
    "created": Reply('["a"]', 201), "empty": Reply(status=204), "moved": Reply(status=302), "unchanged": Reply(status=304),
    "home": Reply(status=302, headers=[("Location", "/found")]),
    "string": as_json("value"), "number": as_json(5), "true": as_json(True), "false": as_json(False), "null": as_json(None),
    "blank": as_json([""]), "mixed": as_json(["a", 1]), "typed": Reply('["a"]', content_type="text/html"),
    "latin": as_json(["müller"]), "lines": as_json(["a\nb"]), "longer": as_json(["a" * 4000, "b" * 4000, "c" * 4000]),
    "huge": as_json(["a" * 100000]),
    "nobody@example.org": Reply(status=404), "unsure@example.org": Reply(status=503)}

# key, the word of socketmap and the code of tcp_table, as the connector had them
SAME = [("found", "OK", 200), ("one", "OK", 200), ("none", "NOTFOUND", 500), ("absent", "NOTFOUND", 500),
        ("object", "TEMP", 400), ("nested", "TEMP", 400), ("text", "TEMP", 400), ("cut", "TEMP", 400),
        ("nothing", "TEMP", 400), ("hangup", "TEMP", 400),
        ("bad", "PERM", 400), ("token", "PERM", 400), ("denied", "PERM", 400), ("gone", "PERM", 400),
        ("broken", "TEMP", 400), ("down", "TEMP", 400), ("created", "TEMP", 400), ("empty", "TEMP", 400),
        ("moved", "TEMP", 400), ("unchanged", "TEMP", 400), ("home", "OK", 200)]
DIFFERENT = [("busy", "TEMP", 400, ""), ("string", "OK", 200, "value"), ("number", "OK", 200, "5"), ("true", "OK", 200, "1"),
             ("false", "NOTFOUND", 500, ""), ("null", "NOTFOUND", 500, ""), ("blank", "NOTFOUND", 500, ""),
             ("mixed", "OK", 200, "a,1"), ("typed", "OK", 200, "a"), ("latin", "OK", 200, "müller")]

ACTIONS = {     # what the service answers to a policy request, by the recipient's name
    "ok": "OK", "dunno": "DUNNO", "trimmed": " \r\nREJECT not here \n", "defer": "451 4.7.1 Try later",
    "lines": "REJECT a\nb", "nothing": "", "code": "550",
    "absent": Reply(status=404), "token": Reply(status=401), "gone": Reply(status=410), "broken": Reply("OK", 500),
    "empty": Reply(status=204), "created": Reply("OK", 201), "moved": Reply(status=302, headers=[("Location", "/found")])}
JSON_ACTIONS = {    # the same as JSON, and what becomes of it
    "quoted": ('"REJECT not here"', "REJECT not here"), "null": ("null", "DUNNO"), "false": ("false", "DUNNO"),
    "list": ("[]", "DUNNO"), "object": ('{"action": "OK"}', FAILED), "half": ('["OK"', FAILED),
    "page": ("<html>OK</html>", FAILED)}


class Service:
    """The HTTP service, on the connector's contract: a wrong request is a 599, and seen by the test."""

    def __init__(self, case):
        self.gate = threading.Event()   # what is slow is never answered
        self.backend = Backend(case, self.answer)
        self.other = Backend(case, lambda request: as_json(["elsewhere"]))

    def answer(self, request):
        if request.header("X-Auth-Token") != TOKEN or request.header("User-Agent") != AGENT:
            return Reply(status=599)
        if request.path == "/policy-check-route":
            return self.policy(request)
        if request.method != "GET" or request.body:
            return Reply(status=599)
        if request.path == "/found":
            return LOOKUPS["found"]
        asked = dict(urllib.parse.parse_qsl(request.query, keep_blank_values=True, strict_parsing=True))
        if request.path == "/socketmap-lookup-route" and "name" not in asked:
            return Reply(status=599)
        if asked["key"] == "slow":
            return Reply(gate=self.gate)
        if asked["key"] == "away":
            return Reply(status=302, headers=[("Location", self.other.url + "/found")])
        return LOOKUPS.get(asked["key"], as_json([asked["key"]]))

    def policy(self, request):
        if request.method != "POST" or not request.header("Content-Type").startswith("application/x-www-form-urlencoded"):
            return Reply(status=599)
        name = dict(urllib.parse.parse_qsl(request.body.decode()))["recipient"].partition("@")[0]
        if name == "slow":
            return Reply(gate=self.gate)
        action = JSON_ACTIONS[name][0] if name in JSON_ACTIONS else ACTIONS.get(name, "OK")
        return action if isinstance(action, Reply) else Reply(action, content_type="text/plain; charset=UTF-8")


class Connector:
    """A mapmux with the documented endpoints, and each once more: with little time, and with no service behind it."""
    MODES = {"tcp-lookup": "tcp-lookup-route", "socketmap-lookup": "socketmap-lookup-route", "policy": "policy-check-route"}

    def __init__(self, case):
        self.service, self.ports = Service(case), {}
        endpoints = []
        for kind, url, timeout in (("good", self.service.backend.url, 20000), ("slow", self.service.backend.url, 300),
                                   ("dead", f"http://127.0.0.1:{free_port()}", 20000)):
            for mode, route in self.MODES.items():
                port = self.ports[kind, mode] = free_port()
                endpoints.append({"name": "domain-lookup", "mode": mode, "target": f"{url}/{route}",
                                  "bind-address": "127.0.0.1", "bind-port": port, "auth-token": TOKEN,
                                  "request-timeout": timeout})
        path = os.path.join(tempdir(case), "config.json")
        with open(path, "w", encoding="utf-8") as file:
            json.dump({"user-agent": AGENT, "endpoints": endpoints}, file, indent=2)
        self.mux = Mapmux(case, "serve", "--as", "rest-connector", path)
        for port in self.ports.values():
            self.mux.wait_ready(lambda port=port: answers(("127.0.0.1", port)))

    def at(self, kind, mode):
        return "127.0.0.1", self.ports[kind, mode]

    def socketmap(self, kind="good"):
        return Socketmap(self.at(kind, "socketmap-lookup"))

    def tcp(self, kind="good"):
        return Tcp(self.at(kind, "tcp-lookup"))

    def policy(self, kind="good"):
        return Policy(self.at(kind, "policy"))

    def maps(self, kind="good"):
        """(socketmap, tcp_table) as Postfix names them."""
        return (f"socketmap:inet:127.0.0.1:{self.ports[kind, 'socketmap-lookup']}:domain",
                f"tcp:127.0.0.1:{self.ports[kind, 'tcp-lookup']}")


class Requests(Case):
    """What the service hears."""

    def setUp(self):
        self.connector = Connector(self)
        self.seen = self.connector.service.backend.seen

    def test_lookups(self):
        key = "a b+c/d%&=§@example.org"
        with self.connector.socketmap() as client:
            self.assertEqual(client.ask("two", key), ("OK", key))
        with self.connector.tcp() as client:
            self.assertEqual(client.ask(key), (200, key))
        first, second = self.seen()
        with self.connector.socketmap() as client:
            client.ask("two", b"a\xff")
        self.assertEqual(self.seen()[2].query, "name=two&key=a%FF")
        self.assertEqual(urllib.parse.parse_qsl(first.query), [("name", "two"), ("key", key)])
        self.assertEqual(urllib.parse.parse_qsl(second.query), [("key", key)])
        for request in (first, second):
            self.assertEqual(request.header("X-Auth-Token"), TOKEN)
            self.assertEqual(request.header("User-Agent"), AGENT)
            self.assertIn("application/json", request.header("Accept"))

    def test_any_name_of_a_map(self):
        with self.connector.socketmap() as client:
            for name in ("alias", "no.such", "§", ""):
                self.assertEqual(client.ask(name, "one"), ("OK", "only one"))
        self.assertEqual([urllib.parse.parse_qs(request.query, keep_blank_values=True)["name"] for request in self.seen()],
                         [["alias"], ["no.such"], ["§"], [""]])

    def test_policy_request_of_a_real_smtpd(self):
        """All of Postfix's attributes, in its order, each once."""
        postfix = Postfix(self, {"relay_domains": "example.org", "smtpd_relay_restrictions":
                                 f"check_policy_service inet:127.0.0.1:{self.connector.ports['good', 'policy']}, reject"})
        self.assertEqual(postfix.rcpt("ok@example.org", sender="a=b+c@sender.test")[0], 250)
        form = urllib.parse.parse_qsl(self.seen()[0].body.decode(), keep_blank_values=True, strict_parsing=True)
        self.assertEqual([name for name, _ in form][:5],
                         ["request", "protocol_state", "protocol_name", "client_address", "client_name"])
        sent = dict(form)
        self.assertEqual(len(sent), len(form))
        self.assertGreater(len(form), 25)
        self.assertEqual((sent["request"], sent["protocol_state"], sent["sender"], sent["recipient"], sent["sasl_username"]),
                         ("smtpd_access_policy", "RCPT", "a=b+c@sender.test", "ok@example.org", ""))
        self.assertEqual(self.seen()[0].header("X-Auth-Token"), TOKEN)
        self.assertEqual(self.seen()[0].header("User-Agent"), AGENT)


class Wire(Case):
    """Each row of the connector's table of statuses, and what is different on purpose."""

    @classmethod
    def setUpClass(cls):
        cls.connector = Connector(cls)

    def test_lookups_as_they_were(self):
        with self.connector.socketmap() as socketmap, self.connector.tcp() as tcp:
            for key, word, code in SAME:
                with self.subTest(key=key):
                    said, text = socketmap.ask("domain", key)
                    self.assertEqual(said, word, text)
                    number, line = tcp.ask(key)
                    self.assertEqual(number, code, line)
                    value = {"one": "only one"}.get(key, "a@example.org,b@example.org")
                    self.assertEqual((text, line), {"OK": (value, value), "NOTFOUND": ("", "not found")}.get(said, (text, line)))
                    self.assertTrue(said in ("OK", "NOTFOUND") or text, "a failure says why")
                    self.assertNotIn(TOKEN, text + line)

    def test_lookups_that_differ(self):
        with self.connector.socketmap() as socketmap, self.connector.tcp() as tcp:
            for key, word, code, value in DIFFERENT:
                with self.subTest(key=key):
                    said = socketmap.ask("domain", key)
                    self.assertEqual(said if word != "TEMP" else said[0], (word, value) if word != "TEMP" else word)
                    number, line = tcp.ask(key)
                    self.assertEqual((number, line if number == 200 else ""), (code, value))
            asked = len(self.connector.service.backend.seen())
            for key in ("", ".", "..", "../found"):
                self.assertEqual(socketmap.ask("domain", key)[0], "NOTFOUND", key)
            self.assertEqual(len(self.connector.service.backend.seen()), asked)

    def test_redirects_stay_with_the_service(self):
        with self.connector.socketmap() as client:
            self.assertEqual(client.ask("domain", "home"), ("OK", "a@example.org,b@example.org"))
            self.assertEqual(client.ask("domain", "away")[0], "TEMP")
        self.assertEqual(self.connector.service.other.seen(), [])

    def test_long_replies(self):
        """The connector dropped the connection of more than 10,000 characters, or 4,096 bytes."""
        with self.connector.socketmap() as socketmap, self.connector.tcp() as tcp:
            word, value = socketmap.ask("domain", "longer")
            self.assertEqual((word, len(value)), ("OK", 12002))
            self.assertEqual(socketmap.ask("domain", "huge")[0], "TEMP")
            self.assertEqual(socketmap.ask("domain", "lines")[0], "TEMP")
            self.assertEqual(socketmap.ask("domain", "one"), ("OK", "only one"))
            self.assertEqual(tcp.ask("longer")[0], 400)
            self.assertEqual(tcp.ask("lines"), (200, "a\nb"))
            self.assertEqual(tcp.ask("one"), (200, "only one"))

    def test_no_answer_and_no_service(self):
        for kind, key in (("slow", "slow"), ("dead", "found")):
            with self.subTest(kind=kind), self.connector.socketmap(kind) as socketmap, self.connector.tcp(kind) as tcp, \
                    self.connector.policy(kind) as policy:
                self.assertEqual(socketmap.ask("domain", key)[0], "TEMP")
                self.assertEqual(tcp.ask(key)[0], 400)
                self.assertEqual(policy.ask(request="smtpd_access_policy", recipient=f"{key}@example.org"), FAILED)

    def test_broken_requests(self):
        """A request that can be told from the next is refused alone; behind any other the connection ends."""
        with self.connector.socketmap() as client:
            for request in (b"5:alias,", b"0:,"):
                client.send(request)
                self.assertEqual(client.reply()[0], "PERM")
            self.assertEqual(client.ask("domain", "one"), ("OK", "only one"))
        for request in (b"x:alias key,", b"9:alias keyx", b"-1:,"):
            with self.subTest(request=request), self.connector.socketmap() as client:
                client.send(request)
                self.assertEqual(client.reply()[0], "PERM")
                self.assertEqual(client.rest(), b"")
        with self.connector.tcp() as client:
            for request in (b"get\n", b"fetch one\n", b"get %4\n", b"\n"):
                client.send(request)
                self.assertEqual(client.reply()[0], 400)
            self.assertEqual(client.ask("one"), (200, "only one"))
        with self.connector.policy() as client:
            client.send(b"no attribute\n\n")
            self.assertEqual(client.reply(), FAILED)
            self.assertEqual(client.ask(request="smtpd_access_policy", recipient="ok@example.org"), "OK")

    def test_blanks_around_a_key(self):
        """The connector trimmed keys of tcp_table, not those of socketmap; here a key is what was sent."""
        with Stream(self.connector.at("good", "tcp-lookup")) as client:
            client.send(b"get  one\n")
            self.assertEqual(client.until(b"\n"), b"200 %20one")

    def test_actions(self):
        wanted = {"ok": "OK", "dunno": "DUNNO", "trimmed": "REJECT not here", "defer": "451 4.7.1 Try later"}
        with self.connector.policy() as client:
            for name in ACTIONS:
                with self.subTest(name=name):
                    action = client.ask(request="smtpd_access_policy", recipient=f"{name}@example.org")
                    self.assertEqual(action, wanted.get(name, FAILED))
            for name, (_, wanted_action) in JSON_ACTIONS.items():
                with self.subTest(name=name):
                    self.assertEqual(client.ask(request="smtpd_access_policy", recipient=f"{name}@example.org"), wanted_action)


class Postfixes(Case):
    """Its documented lines of main.cf, in a private Postfix; and postmap."""

    @classmethod
    def setUpClass(cls):
        cls.connector, cls.postmap = Connector(cls), Postmap(cls)
        ports = {kind: cls.connector.ports[kind, "policy"] for kind in ("good", "slow", "dead")}
        socketmap, tcp = cls.connector.maps()
        cls.postfix = Postfix(cls, {
            "virtual_mailbox_domains": tcp, "virtual_alias_domains": "",
            "virtual_mailbox_maps": socketmap,
            "smtpd_restriction_classes": "slow, dead",
            "slow": f"check_policy_service inet:127.0.0.1:{ports['slow']}",
            "dead": f"check_policy_service inet:127.0.0.1:{ports['dead']}",
            "smtpd_relay_restrictions": "permit_mynetworks, check_recipient_access inline:{slow@example.org=slow "
                                        f"dead@example.org=dead}}, check_policy_service inet:127.0.0.1:{ports['good']}, reject"})

    def test_actions(self):
        """The service's answer, and what the SMTP client hears."""
        later = (451, "4.3.0 <%s@example.org>: Recipient address rejected: REST server had an internal error!")
        wanted = {"ok": (250, "2.1.5 Ok"),
                  "dunno": (554, "5.7.1 <%s@example.org>: Recipient address rejected: Access denied"),
                  "trimmed": (554, "5.7.1 <%s@example.org>: Recipient address rejected: not here"),
                  "defer": (451, "4.7.1 <%s@example.org>: Recipient address rejected: Try later")}
        for name in [*ACTIONS, "slow", "dead"]:
            with self.subTest(name=name):
                code, text = wanted.get(name, later)
                self.assertEqual(self.postfix.rcpt(f"{name}@example.org"), (code, text.replace("%s", name)),
                                 self.postfix.log()[-2000:])

    def test_maps(self):
        """Domains by tcp_table, mailboxes by socketmap. What is not there is refused, whatever fails defers."""
        self.assertEqual(self.postfix.rcpt("alice@example.org")[0], 250)
        code, text = self.postfix.rcpt("nobody@example.org")
        self.assertEqual((code, text[:5]), (550, "5.1.1"))
        self.assertEqual(self.postfix.rcpt("unsure@example.org")[0], 451)
        self.assertEqual(self.postfix.rcpt("dunno@none")[0], 554)
        for domain in ("object", "token", "gone", "down", "empty", "text"):
            with self.subTest(domain=domain):
                self.assertEqual(self.postfix.rcpt(f"ok@{domain}")[0], 451)

    def test_postmap(self):
        rows = [(key, word, "good") for key, word, _ in SAME] + [("slow", "TEMP", "slow"), ("found", "TEMP", "dead")]
        asked = [(key, word, name) for key, word, kind in rows for name in self.connector.maps(kind)]
        with concurrent.futures.ThreadPoolExecutor(12) as pool:     # postmap takes a second over an error
            done = list(pool.map(lambda row: self.postmap.query(row[0], row[2]), asked))
        for (key, word, name), result in zip(asked, done):
            with self.subTest(key=key, map=name):
                value = {"one": b"only one\n"}.get(key, b"a@example.org,b@example.org\n") if word == "OK" else b""
                self.assertEqual((result.returncode, result.stdout), (0 if word == "OK" else 1, value), result.stderr)
                self.assertEqual(b"error" in result.stderr, word in ("TEMP", "PERM"), result.stderr)


if __name__ == "__main__":
    unittest.main()
