"""Policy delegation: as bytes on a real socket, and asked by a private Postfix's smtpd."""

import contextlib
import glob
import os
import smtplib
import threading
import time
import unittest
import urllib.parse

from harness import Backend, Case, Mapmux, Policy, Reply, free_port, tempdir, url, wait_until
from harness.mapmux import document, mapmux
from harness.postfix import Postfix

FAILED = "DEFER_IF_PERMIT 4.3.0 Service temporarily unavailable"
SCRIPT = """
function policy(attributes, request)
	local what = attributes.say or ''
	if what == 'nothing' then return nil end
	if what == 'temp' then return mapmux.temp('down') end
	if what == 'perm' then return mapmux.perm('wrong') end
	if what == 'lines' then return 'REJECT a\\nb' end
	if what == 'count' then
		local n = 0
		for _ in pairs(attributes) do n = n + 1 end
		return 'WARN ' .. n
	end
	return what
end
"""
BAD = {"empty": b"\n", "no equals sign": b"x\n\n", "no name": b"=x\n\n", "a NUL": b"a=\0\n\n",
       "twice": b"sender=a\nsender=b\n\n", "10,000 attributes": b"".join(b"n%d=\n" % n for n in range(6000)) + b"\n",
       "http": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"}


class Wire(Case):
    """lua and url tables that take policy requests, a static one with a key."""

    @classmethod
    def setUpClass(cls):
        cls.backend = Backend(cls, cls.answer)
        where = tempdir(cls)
        script = os.path.join(where, "policy.lua")
        with open(script, "w", encoding="utf-8") as file:
            file.write(SCRIPT)
        cls.paths = {name: os.path.join(where, name) for name in ("lua", "url", "json", "static", "chain", "own")}
        listeners = [{"protocol": "policy", "address": "unix:" + path, "table": name}
                     for name, path in cls.paths.items()]
        listeners[3]["key"] = "sasl_username"
        listeners[5].update(table="lua", fail_action="451 4.3.5 Ask later, please", perm_action="DUNNO")
        cls.mux = Mapmux(cls, config=document({"listeners": listeners, "tables": [
            {"name": "lua", "type": "lua", "param": script},
            {**url("url", cls.backend.url + "/policy"), "method": "POST"},
            {**url("json", cls.backend.url + "/policy"), "method": "POST", "body": "json"},
            {"name": "static", "type": "static", "lowercase": "yes", "entries": {
                "bob": "REJECT not you", "code": "550", "ok": "OK"}},
            {"name": "chain", "type": "chain", "param": ["lua", "url"], "lowercase": "yes", "retries": 2,
             "breaker": {"failures": 1000}}]}))

    @staticmethod
    def answer(request):
        """What the attribute `say` says, as text; slow-N waits N milliseconds; status-N is that status."""
        if request.header("Content-Type") == "application/json":
            return Reply(b'"WARN ' + request.body.replace(b'"', b"'") + b'"')
        what = dict(urllib.parse.parse_qsl(request.body.decode())).get("say", "")
        if what.startswith("status-"):
            return Reply(b"", int(what.split("-")[1]))
        reply = Reply(what.encode() + b"\n", content_type="text/plain")
        if what.startswith("slow-"):
            reply.delay = int(what.split("-")[1]) / 1000
        return reply

    def client(self, name):
        client = Policy(self.paths[name])
        self.addCleanup(client.close)
        return client

    def test_reply_bytes(self):
        client = self.client("lua")
        for request, reply in ((b"say=REJECT go away\n\n", b"action=REJECT go away\n\n"),
                               (b"say=nothing\n\n", b"action=DUNNO\n\n"),
                               (b"say=OK\r\nsender=\r\n\r\n", b"action=OK\n\n"),
                               (b"say=temp\n\n", b"action=" + FAILED.encode() + b"\n\n"),
                               (b"a=\nb=x=y\nc= z \nsay=count\n\n", b"action=WARN 4\n\n")):
            client.send(request)
            self.assertEqual(client.exactly(len(reply)), reply)
        self.assertTrue(client.silent(0.2))

    def test_all_attributes_reach_the_table(self):
        attributes = {"request": "smtpd_access_policy", "sender": "", "helo_name": "c=x & y", "say": "DUNNO",
                      "client_name": "müller"}
        self.assertEqual(self.client("url").ask(**attributes), "DUNNO")
        seen = self.backend.wait_for(path="/policy", method="POST")[-1]
        self.assertEqual(seen.header("Content-Type"), "application/x-www-form-urlencoded")
        self.assertEqual(urllib.parse.parse_qsl(seen.body.decode(), keep_blank_values=True), list(attributes.items()))
        self.assertEqual(self.client("json").ask(a="1", b=""), "WARN {'a':'1','b':''}")

    def test_failures(self):
        """Whatever fails is the listener's action, and a line in the log says why."""
        lua, own = self.client("lua"), self.client("own")
        for what, other in (("temp", "451 4.3.5 Ask later, please"), ("perm", "DUNNO"),
                            ("lines", "451 4.3.5 Ask later, please"), ("550", "451 4.3.5 Ask later, please"),
                            (" ", "451 4.3.5 Ask later, please")):
            with self.subTest(what=what):
                self.assertEqual(lua.ask(say=what), FAILED)
                self.assertEqual(own.ask(say=what), other)
        time.sleep(1.1)
        self.assertEqual(lua.ask(say="451"), FAILED)
        self.assertIn("code without a text", self.mux.log())

    def test_statuses(self):
        """4xx: the URL is wrong. Nothing of it rejects, and nothing permits."""
        client = self.client("url")
        for status in (400, 401, 403, 404, 410, 429, 500, 503, 204, 302):
            with self.subTest(status=status):
                self.assertEqual(client.ask(say=f"status-{status}"), FAILED)
        self.assertEqual(client.ask(say="DUNNO"), "DUNNO")

    def test_one_attribute_of_static(self):
        client = self.client("static")
        self.assertEqual(client.ask(sasl_username="BOB", sender="x"), "REJECT not you")
        self.assertEqual(client.ask(sasl_username="ok"), "OK")
        self.assertEqual(client.ask(sasl_username="alice"), "DUNNO")
        self.assertEqual(client.ask(sasl_username=""), "DUNNO")
        self.assertEqual(client.ask(sender="bob"), "DUNNO")
        self.assertEqual(client.ask(sasl_username="code"), FAILED)

    def test_chains_and_composites_pass_it_on(self):
        client = self.client("chain")
        self.assertEqual(client.ask(say="REJECT Aa"), "REJECT Aa")
        self.assertEqual(client.ask(say="nothing"), "nothing")     # lua does not know, the service repeats it
        self.assertEqual(client.ask(say="temp"), FAILED)

    def test_fragments_at_every_position(self):
        stream, client = b"sender=\nsay=OK\n\nbad\n\nsay=HOLD\r\n\r\n", self.client("lua")
        for cut in range(len(stream) + 1):
            with self.subTest(cut=cut):
                client.send(stream[:cut])
                time.sleep(0.001)
                client.send(stream[cut:])
                self.assertEqual([client.reply() for _ in range(3)], ["OK", FAILED, "HOLD"])

    def test_pipeline_keeps_its_order(self):
        client = self.client("url")
        client.send(b"say=slow-300\n\nsay=slow-100\n\nbad\n\nsay=fast\n\n")
        self.assertEqual([client.reply() for _ in range(4)], ["slow-300", "slow-100", FAILED, "fast"])

    def test_bad_requests(self):
        for name, request in BAD.items():
            with self.subTest(name):
                client = self.client("lua")
                client.send(b"say=OK\n\n" + request + b"say=HOLD\n\n")
                self.assertEqual([client.reply() for _ in range(3)], ["OK", FAILED, "HOLD"])
        time.sleep(1.1)     # a line a second
        self.client("lua").ask(**{"": "x"})
        self.assertIn("bad request", self.mux.log())

    def test_endless_requests_are_bounded(self):
        before = self.mux.memory()
        for piece in (b"a=b\n", b"a" * 100, b"a=" + b"b" * 5000 + b"\n", b"\0" * 64):
            for _ in range(5):
                client = self.client("lua")
                with contextlib.suppress(OSError):
                    client.send(piece * (2000000 // len(piece)))
                with contextlib.suppress(AssertionError):
                    self.assertEqual(client.reply(), FAILED)
                self.assertNotIn(b"action", client.rest())
        self.assertLess(self.mux.memory() - before, 16 << 20)
        self.assertEqual(self.client("lua").ask(say="OK"), "OK")

    def test_unfinished_requests_are_bounded(self):
        self.client("lua").ask(say="OK")
        before, clients = self.mux.memory(), [self.client("lua") for _ in range(100)]
        for client in clients:
            client.send(b"a=" + b"b" * 60000)
        self.assertEqual(self.client("lua").ask(say="OK"), "OK")
        self.assertLess(self.mux.memory() - before, 32 << 20)
        for client in clients:
            client.send(b"\nsay=OK\n\n")
        self.assertEqual({client.reply() for client in clients}, {"OK"})

    def test_a_client_too_many(self):
        path = tempdir(self) + "/s"
        Mapmux(self, "--listen", f"policy:unix:{path},table=t,key=sender,max_connections=1", "--name", "t", "--type",
               "static", "--param", "a=OK")

        def admitted():
            client = Policy(path)
            if client.ask(sender="a") == "OK":
                return client
            return client.close()
        with wait_until(admitted, "room for a client") as one:
            with Policy(path) as two:
                self.assertEqual(two.ask(sender="a"), FAILED)
                self.assertEqual(two.rest(), b"")
            self.assertEqual(one.ask(sender="a"), "OK")

    def test_settings_are_checked(self):
        for extra, word in (("", "table"), (",table=t", "key: recipient"), (",table=t,key=sender,fail_action=550", "fail_action"),
                            (",table=t,key=sender,max_request=10", "max_request")):
            with self.subTest(extra=extra):
                done = mapmux("check", "--listen", f"policy:127.0.0.1:1{extra}", "--name", "t", "--type", "static",
                              "--param", "a=b")
                self.assertEqual(done.returncode, 1)
                self.assertIn(word, done.stderr.decode())

    def test_reload_changes_the_action(self):
        where = tempdir(self)
        settings = {"listeners": [{"protocol": "policy", "address": f"unix:{where}/s", "table": "t", "key": "sender"}],
                    "tables": [{"name": "t", "type": "static", "entries": {"a": "550"}}]}
        mux = Mapmux(self, config=document(settings))
        with Policy(where + "/s") as client:
            self.assertEqual(client.ask(sender="a"), FAILED)
            settings["listeners"][0]["fail_action"] = "DUNNO"
            with open(os.path.join(mux.dir, "mapmux.yaml"), "w", encoding="utf-8") as file:
                file.write(document(settings))
            mux.kill(1)
            wait_until(lambda: client.ask(sender="a") == "DUNNO", "the new action")


class Smtpd(Case):
    """A private Postfix that asks at RCPT and at END-OF-MESSAGE.

    The recipient says what is to happen: rcpt-NAME or eod-NAME; NAME is an action, or how to fail."""

    ACTIONS = {
        "dunno": ("DUNNO", 250, ""),
        "ok": ("OK", 250, ""),
        "reject": ("REJECT go away", 554, "go away"),
        "code": ("550 5.7.9 No thanks", 550, "5.7.9"),
        "defer": ("DEFER come later", 450, "come later"),
        "ifpermit": ("DEFER_IF_PERMIT not now", 450, "not now"),
        "later": ("451 4.7.8 Try again", 451, "4.7.8"),
        "hold": ("HOLD look at it", 250, ""),
        "discard": ("DISCARD spam", 250, ""),
        "warn": ("WARN watch it", 250, ""),
        "prepend": ("PREPEND X-Policy: seen", 250, ""),
        "redirect": ("REDIRECT other@relay.test", 250, ""),
    }
    FAILURES = {
        "status": Reply(b"", 503), "missing": Reply(b"", 404), "hangup": Reply(hangup=True),
        "lines": Reply(b"REJECT a\nb", content_type="text/plain"), "bare": Reply(b"550"),
        "empty": Reply(b""), "page": Reply(b"<html>no</html>"), "slow": Reply(b"OK", delay=3),
    }

    @classmethod
    def setUpClass(cls):
        cls.backend = Backend(cls, cls.answer)
        cls.port, cls.second = free_port(), free_port()
        cls.mux = Mapmux(cls, config=document({
            "listeners": [{"protocol": "policy", "address": f"127.0.0.1:{cls.port}", "table": "service"},
                          {"protocol": "policy", "address": f"127.0.0.1:{cls.second}", "table": "last",
                           "key": "recipient"}],
            "tables": [{**url("service", cls.backend.url + "/policy"), "method": "POST", "timeout": "1s"},
                       {"name": "last", "type": "static", "lowercase": "yes", "entries": {
                           "rcpt-dunno@relay.test": "REJECT nobody objected", "rcpt-ok@relay.test": "REJECT never asked",
                           "rcpt-prepend@relay.test": "HOLD to look into it"}}]}))
        service = f"check_policy_service inet:127.0.0.1:{cls.port}"
        cls.postfix = Postfix(cls, {
            "relay_domains": "relay.test",
            "smtpd_recipient_restrictions": f"{service}, check_policy_service inet:127.0.0.1:{cls.second}",
            "smtpd_end_of_data_restrictions": service})

    @classmethod
    def answer(cls, request):
        ask = dict(urllib.parse.parse_qsl(request.body.decode(), keep_blank_values=True))
        state, _, name = ask["recipient"].partition("@")[0].lower().partition("-")
        if {"RCPT": "rcpt", "END-OF-MESSAGE": "eod"}[ask["protocol_state"]] != state:
            return Reply(b"DUNNO", content_type="text/plain")
        if name in cls.FAILURES:
            return cls.FAILURES[name]
        return Reply(cls.ACTIONS[name][0].encode(), content_type="text/plain")

    def held(self):
        """The queue files of messages on hold."""
        for path in glob.glob(os.path.join(self.postfix.dir, "q", "hold", "**"), recursive=True):
            if os.path.isfile(path):
                with open(path, "rb") as file:
                    yield file.read()

    def send(self, recipient):
        code, text = self.postfix.send(recipient)
        return code, text

    def test_actions(self):
        for state in ("rcpt", "eod"):
            for name, (_, code, word) in self.ACTIONS.items():
                if (state, name) == ("rcpt", "dunno"):
                    code, word = 554, "nobody objected"     # the next restriction decides
                with self.subTest(state=state, name=name):
                    got, text = self.send(f"{state}-{name}@relay.test")
                    self.assertEqual(got, code, f"{text}\n{self.postfix.log()[-2000:]}")
                    self.assertIn(word, text)
        log = self.postfix.log()
        for state, line in (("rcpt", "RCPT"), ("eod", "END-OF-MESSAGE")):
            for name, word in (("hold", "hold: "), ("discard", "discard: "), ("warn", "warn: "),
                               ("redirect", "redirect: ")):
                with self.subTest(state=state, effect=name):
                    self.assertRegex(log, rf"{word}{line} from .*{state}-{name}@relay\.test")
        wait_until(lambda: any(b"X-Policy: seen" in mail for mail in self.held()), "the header in a held message")
        self.assertRegex(log, r"to=<other@relay\.test>")

    def test_failures_defer(self):
        """4xx with an enhanced code, whatever goes wrong; never 5xx, never accepted."""
        for state in ("rcpt", "eod"):
            for name in self.FAILURES:
                with self.subTest(state=state, name=name):
                    code, text = self.send(f"{state}-{name}@relay.test")
                    self.assertEqual(code, 450, text)
                    self.assertIn("4.3.0", text)
                    self.assertIn("Service temporarily unavailable", text)

    def test_dead_backend_defers_and_comes_back(self):
        self.backend.kill()
        try:
            for state in ("rcpt", "eod"):
                code, text = self.send(f"{state}-warn@relay.test")
                self.assertEqual((code, text[:5]), (450, "4.3.0"))
        finally:
            self.backend.start()
        self.assertEqual(self.send("eod-ok@relay.test")[0], 250)
        self.assertEqual(self.send("rcpt-reject@relay.test")[0], 554)

    def test_what_is_asked(self):
        self.backend.forget()
        self.assertEqual(self.send("Eod-OK@relay.test")[0], 250)
        asked = [dict(urllib.parse.parse_qsl(request.body.decode(), keep_blank_values=True))
                 for request in self.backend.wait_for(2, path="/policy")]
        self.assertEqual([ask["protocol_state"] for ask in asked], ["RCPT", "END-OF-MESSAGE"])
        for ask in asked:
            self.assertEqual(ask["request"], "smtpd_access_policy")
            self.assertEqual(ask["sender"], "sender@elsewhere.test")
            self.assertEqual(ask["recipient"], "Eod-OK@relay.test")
            self.assertEqual(ask["client_address"], "127.0.0.1")
            self.assertEqual(ask["helo_name"], "client.example.test")
            self.assertGreaterEqual(len(ask), 28)
        self.assertEqual(asked[0]["instance"], asked[1]["instance"])
        self.assertEqual(asked[1]["recipient_count"], "1")

    def test_many_sessions_at_once(self):
        """Four smtpd processes, each with its connection; none gets another's answer."""
        wrong = []

        def session(number):
            for count in range(10):
                name, code = (("ok", 250), ("reject", 554), ("defer", 450), ("warn", 250))[(number + count) % 4]
                try:
                    got, text = self.postfix.rcpt(f"rcpt-{name}@relay.test")
                except (OSError, smtplib.SMTPException) as error:
                    got, text = error, ""
                if got != code:
                    wrong.append((name, got, text))

        threads = [threading.Thread(target=session, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(wrong, [])


if __name__ == "__main__":
    unittest.main()
