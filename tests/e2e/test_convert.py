"""Other programs' configurations: what is printed, and how it answers beside what they did."""

import json
import os
import unittest

from harness import Backend, Case, Mapmux, Reply, free_port, tempdir
from harness.base import answers
from harness.mapmux import mapmux
from harness.wire import Policy, Socketmap, Tcp

PLAIN = {name: value for name, value in os.environ.items()
         if not name.endswith("_LISTEN_ADDR") and name not in (
             "USERLI_TOKEN", "REDIS_URL", "LOG_LEVEL", "RATE_LIMIT_MESSAGE", "LOOKUP_CACHE_TTL", "POSTFIX_RECIPIENT_DELIMITER")}


def write(case, text):
    path = os.path.join(tempdir(case), "file")
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    return path


class Converts(Case):
    def loads(self, text, **env):
        done = mapmux("check", "-c", write(self, text), env={**PLAIN, **env})
        self.assertEqual((done.returncode, done.stderr), (0, b""), done.stderr)

    def convert(self, *args, **env):
        done = mapmux("convert", *args, env={**PLAIN, **env})
        self.assertEqual((done.returncode, done.stderr), (0, b""), done.stderr)
        self.loads(done.stdout.decode(), **env)
        return done.stdout.decode()

    def refuses(self, said, *args, **env):
        done = mapmux("convert", *args, env={**PLAIN, **env})
        self.assertEqual((done.returncode, done.stdout), (1, b""))
        self.assertIn(said, done.stderr.decode())

    def test_refused(self):
        self.refuses("USERLI_TOKEN is not set", "userli")
        self.refuses("LOOKUP_CACHE_TTL", "userli", USERLI_TOKEN="t", LOOKUP_CACHE_TTL="soon")
        self.refuses("write mapmux convert", "postsrsd")
        self.refuses("is missing", "podop", "--socket", "/x", "--mode", "postfix", "--name", "a", "--type", "url")
        for option in (["--threads", "2"], ["--log-level", "warn"], ["--listen", "tcp::1"], ["-c", "/nowhere"],
                       ["--option", "token=hidden"], ["--as", "userli"]):
            self.refuses("is no option of podop's", "podop", "--socket", "/x", "--mode", "postfix", *option)
        self.refuses("cannot read", "rest-connector", "/nowhere")
        for said, text in ((":2: is not JSON", "{\n]"), (":1: endpoints[0].name2: unknown key", '{"endpoints": [{"name2": 1}]}'),
                           (":1: endpoints[0].name: is missing", '{"endpoints": [{}]}'),
                           (":1: x: unknown key", '{"x": 1}'), (":1: endpoints: must be", "{}")):
            self.refuses(said, "rest-connector", write(self, text))

    def test_the_adapter_s_version(self):
        """1.x by its variables, unless there is one that it did not know."""
        old = {"USERLI_TOKEN": "t", "ALIAS_LISTEN_ADDR": ":1", "MAILBOX_LISTEN_ADDR": ":3"}
        text = self.convert("userli", **old)
        self.assertIn("userli-postfix-adapter 1.x", text)
        self.assertEqual((text.count("protocol: tcp"), text.count("protocol: socketmap")), (4, 0))
        for name, value in (("SOCKETMAP_LISTEN_ADDR", ":5"), ("POLICY_LISTEN_ADDR", ":5"), ("SASL_LISTEN_ADDR", ":5"),
                            ("RATE_LIMIT_MESSAGE", "no"), ("REDIS_URL", "redis://127.0.0.1:1"),
                            ("LOOKUP_CACHE_TTL", "1m"), ("POSTFIX_RECIPIENT_DELIMITER", "+")):
            text = self.convert("userli", **old, **{name: value})
            self.assertEqual((text.count("protocol: tcp"), text.count("protocol: socketmap")), (0, 1), name)
        self.assertIn("userli-postfix-adapter 3.x", self.convert("userli", USERLI_TOKEN="t"))

    def test_levels_of_the_adapter(self):
        """In any letters; and those above an error."""
        for level, ours in (("DEBUG", "debug"), ("Warn", "warn"), ("error", "error"), ("dpanic", "error"), ("FATAL", "error")):
            self.assertIn(f"log:\n  level: {ours}\n", self.convert("userli", USERLI_TOKEN="t", LOG_LEVEL=level).replace('"', ""))
        done = mapmux("check", "-c", write(self, mapmux("convert", "userli", env={
            **PLAIN, "USERLI_TOKEN": "t", "LOG_LEVEL": "loud"}).stdout.decode()), env={**PLAIN, "USERLI_TOKEN": "t"})
        self.assertEqual(done.returncode, 1)
        self.assertIn(b'log.level: "loud" is not known', done.stderr)

    def test_podop(self):
        args = ["--socket", "/tmp/podop.socket", "--mode", "postfix"]
        for name in ("transport", "alias", "domain", "mailbox", "senderlogin", "senderrate"):
            args += ["--name", name, "--type", "url", "--param", f"http://127.0.0.1:1/internal/postfix/{name}/§"]
        text = self.convert("podop", *args)
        self.assertEqual(text.count("status: {4xx: temp, 410: temp}"), 6)

    def test_podop_answers(self):
        statuses = {"ok": Reply('"v"'), "gone": Reply("", 410), "bad": Reply("", 400), "token": Reply("", 401),
                    "empty": Reply("", 204), "broken": Reply("", 500)}
        backend = Backend(self, lambda request: statuses.get(request.plain_path[1:]))
        path = os.path.join(tempdir(self), "s")
        text = self.convert("podop", "--socket", path, "--mode", "postfix", "--name", "t", "--type", "url",
                            "--param", backend.url + "/§")
        Mapmux(self, config=text)
        with Socketmap(path) as client:
            self.assertEqual(client.ask("t", "ok"), ("OK", "v"))
            self.assertEqual(client.ask("t", "none")[0], "NOTFOUND")
            for key in ("gone", "bad", "token", "empty", "broken"):
                self.assertEqual(client.ask("t", key)[0], "TEMP", key)


class Connector(Case):
    STATUSES = {"two": Reply('["a","b"]'), "none": Reply("[]"), "absent": Reply("", 404), "gone": Reply("", 410),
                "denied": Reply("", 403), "broken": Reply("", 500), "created": Reply("[]", 201),
                "number": Reply('{"a": 1}')}

    def setUp(self):
        super().setUp()
        self.backend = Backend(self, self.answer)
        self.ports = {mode: free_port() for mode in ("tcp-lookup", "socketmap-lookup", "policy")}
        endpoints = [{"name": mode, "mode": mode, "target": self.backend.url + "/q?own=1", "bind-address": "127.0.0.1",
                      "bind-port": port, "auth-token": "s${ecret}", "list-separator": ";"} for mode, port in self.ports.items()]
        mux = Mapmux(self, "--as", "rest-connector", write(self, json.dumps({"user-agent": "agent", "endpoints": endpoints})),
                     "--threads", "1")
        for port in self.ports.values():
            mux.wait_ready(lambda port=port: answers(("127.0.0.1", port)))

    def answer(self, request):
        if request.header("X-Auth-Token") != "s${ecret}" or request.header("User-Agent") != "agent":
            return Reply("", 599)
        if request.method == "POST":
            return self.policy
        return self.STATUSES[request.query.rpartition("key=")[2]]

    def test_socketmap(self):
        with Socketmap(("127.0.0.1", self.ports["socketmap-lookup"])) as client:
            self.assertEqual(client.ask("any", "two"), ("OK", "a;b"))
            self.assertEqual(self.backend.seen()[0].target, "/q?own=1&name=any&key=two")
            for key, word in (("none", "NOTFOUND"), ("absent", "NOTFOUND"), ("gone", "PERM"), ("denied", "PERM"),
                              ("broken", "TEMP"), ("created", "TEMP"), ("number", "TEMP")):
                self.assertEqual(client.ask("other", key)[0], word, key)

    def test_tcp(self):
        with Tcp(("127.0.0.1", self.ports["tcp-lookup"])) as client:
            self.assertEqual(client.ask("two"), (200, "a;b"))
            self.assertEqual(self.backend.seen()[0].target, "/q?own=1&key=two")
            for key, code in (("none", 500), ("absent", 500), ("gone", 400), ("denied", 400), ("broken", 400)):
                self.assertEqual(client.ask(key)[0], code, key)

    def test_policy(self):
        fails = "451 4.3.0 REST server had an internal error!"
        with Policy(("127.0.0.1", self.ports["policy"])) as client:
            for reply, action in ((Reply("REJECT no\n", content_type="text/plain"), "REJECT no"), (Reply("", 500), fails),
                                  (Reply("", 404), fails), (Reply("", 401), fails), (Reply("", 204), fails)):
                self.policy = reply
                self.assertEqual(client.ask(request="smtpd_access_policy", sender="a b"), action)
        self.assertIn(b"sender=a%20b", self.backend.seen()[0].body)


if __name__ == "__main__":
    unittest.main()
