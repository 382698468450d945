"""The lua table: scripts asked by real clients, the examples of lua/examples, and scripts gone wrong."""

import json
import os
import pathlib
import threading
import time
import unittest

from harness import Backend, Case, Mapmux, Reply, Socketmap, free_port, serve, tempdir, wait_until
from harness.backend import as_json
from harness.dns import Knot
from harness.dovecot import Dovecot
from harness.mapmux import document, mapmux
from harness.postfix import Postfix, Postmap
from harness.redis import Redis
from test_dovecot_auth import NEW_FORM, DRIVERS
from test_dovecot_metadata import SETTINGS, Metadata as MemoryMetadata
from test_redis import by_unix

SANITIZED = "san" in os.environ.get("MAPMUX", "")
EXAMPLES = pathlib.Path(__file__).resolve().parents[2] / "lua" / "examples"


def script(case, text, name="script.lua", directory=None):
    """A script file, by its path."""
    path = os.path.join(directory or tempdir(case), name)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    return path


def lua(name, param, **options):
    return {"name": name, "type": "lua", "param": str(param), **options}


def example(name, table=None, **options):
    return lua(table or name, EXAMPLES / f"{name}.lua", **options)


# ---- the examples ----

class Alias(Case):
    """alias.lua: a service, and a table for when it fails."""

    def setUp(self):
        self.aliases = {"one@x.test": {"goto": ["a@x.test"], "active": True},
                        "two@x.test": {"goto": ["a@x.test", "b@x.test"], "active": True},
                        "off@x.test": {"goto": ["a@x.test"], "active": False}}
        self.backend = Backend(self, lambda request: self.aliases.get(request.plain_path[3:]))
        self.mux = serve(self, [
            {"name": "emergency", "type": "static", "entries": {"one@x.test": "rescue@x.test"}},
            example("alias", functions=["lookup"], uses=["emergency"], config={
                "url": self.backend.url + "/a/", "token": "secret"})])
        self.postmap = Postmap(self)

    def query(self, key):
        done = self.postmap.query(key, f"socketmap:unix:{self.mux.paths['socketmap']}:alias")
        return done.returncode, done.stdout.decode().strip()

    def test_aliases(self):
        self.assertEqual(self.query("one@x.test"), (0, "a@x.test"))
        self.assertEqual(self.query("two@x.test"), (0, "a@x.test,b@x.test"))
        self.assertEqual(self.query("off@x.test"), (1, ""))
        self.assertEqual(self.query("nobody@x.test"), (1, ""))
        self.assertEqual({request.header("Authorization") for request in self.backend.seen()},
                         {"Bearer secret"})

    def test_the_service_fails(self):
        self.backend.handler = lambda request: Reply(b"oops", 500)
        self.assertEqual(self.query("one@x.test"), (0, "rescue@x.test"))
        self.assertEqual(self.mux.ask("alias", "two@x.test"), ("TEMP", "the alias service fails"))
        self.backend.kill()
        self.assertEqual(self.query("one@x.test"), (0, "rescue@x.test"))
        self.assertEqual(self.mux.ask("alias", "two@x.test")[0], "TEMP")

    def test_the_service_is_slow(self):
        gate = threading.Event()
        self.addCleanup(gate.set)
        self.backend.handler = lambda request: Reply(b"null", gate=gate)
        start = time.monotonic()
        self.assertEqual(self.mux.ask("alias", "one@x.test"), ("OK", "rescue@x.test"))
        self.assertLess(time.monotonic() - start, 8)


class Access(Case):
    """access.lua as check_recipient_access of a real smtpd, with a real DNS server."""

    def test_blocklist(self):
        knot = Knot(self, {"dbl.test.": "bad.example 60 A 127.0.1.2\n", "zen.test.": ""})
        path = os.path.join(tempdir(self), "sm")
        Mapmux(self, config=document({
            "listeners": [{"protocol": "socketmap", "address": "unix:" + path, "mode": "0666"}],
            "tables": [example("access", servers=knot.address, timeout="3s",
                               config={"domains": "dbl.test", "addresses": "zen.test"})]}))
        postfix = Postfix(self, {
            "virtual_mailbox_domains": "inline:{bad.example=x, good.example=x}",
            "virtual_mailbox_maps": "static:x",
            "smtpd_recipient_restrictions": f"check_recipient_access socketmap:unix:{path}:access, permit"})
        self.assertEqual(postfix.rcpt("user@good.example")[0], 250, postfix.log()[-2000:])
        code, text = postfix.rcpt("user@bad.example")
        self.assertEqual(code, 554, text)
        self.assertIn("5.7.1 <user@bad.example>: Recipient address rejected: We send nothing to bad.example",
                      text)
        knot.stop()
        code, text = postfix.rcpt("other@good.example")
        self.assertEqual(code, 451, text)


    def test_policy(self):
        """No listener speaks policy yet: a script hands the addresses over."""
        knot = Knot(self, {"zen.test.": '1.2.0.192 60 A 127.0.0.2\n1.2.0.192 60 TXT "listed: see x"\n'
                                        "2.2.0.192 60 A 127.0.0.3\n"
                                        "1" + ".0" * 23 + ".8.b.d.0.1.0.0.2 60 A 127.0.0.2\n"})
        mux = serve(self, [lua("t", script(self, f"""
            package.path = "{EXAMPLES}/?.lua"
            require("access")
            function lookup(address) return policy {{client_address = address}} end"""),
            servers=knot.address, timeout="3s", config={"domains": "none.test", "addresses": "zen.test"})])
        for address, action in (("192.0.2.1", "REJECT 5.7.1 listed: see x"),
                                ("192.0.2.2", "REJECT 5.7.1 Your address is on a blocklist"),
                                ("2001:db8::1", "REJECT 5.7.1 Your address is on a blocklist"),
                                ("192.0.2.3", "DUNNO"), ("unknown", "DUNNO")):
            self.assertEqual(mux.ask("t", address), ("OK", action))
        knot.stop()
        self.assertEqual(mux.ask("t", "192.0.2.1")[0], "TEMP")


class Userdb(Case):
    """userdb.lua under a real Dovecot: logins, and the list of users."""

    def setUp(self):
        fields = Dovecot.user_fields()
        accounts = {"alice@x.test": {"password": "{PLAIN}secret", "quota": "5M"},
                    "*": ["alice@x.test"]}
        path = script(self, json.dumps(accounts), "accounts.json")
        self.mux = serve(self, [
            {"name": "accounts", "type": "static", "param": "file:" + path},
            example("userdb", "auth", functions=["lookup", "iterate"], uses=["accounts"], config={
                "home": "/nonexistent/%d/%n", "uid": str(fields["uid"]), "gid": str(fields["gid"])})],
            ("dict", "socketmap"))
        self.dovecot = Dovecot(self, DRIVERS,
                               {"auth.conf.ext": NEW_FORM.format(socket=self.mux.paths["dict"])})

    def test_logins(self):
        self.assertEqual(self.dovecot.login("alice@x.test", "secret")[0], "OK", self.dovecot.log()[-2000:])
        self.assertEqual(self.dovecot.login("alice@x.test", "wrong")[0], "NO")
        self.assertEqual(self.dovecot.login("bob@x.test", "secret")[0], "NO")

    def test_users(self):
        done = self.dovecot.doveadm("user", "*")
        self.assertEqual(done.stdout.decode().split(), ["alice@x.test"], done.stderr)
        done = self.dovecot.doveadm("user", "-f", "home", "alice@x.test")
        self.assertEqual(done.stdout.decode().strip(), "/nonexistent/x.test/alice", done.stderr)


class Plus(Case):
    """plus.lua, asked by postmap."""

    def test_routing(self):
        mux = serve(self, [
            {"name": "aliases", "type": "static", "entries": {
                "joe@x.test": "joe@store.test", "joe+exact@x.test": "list@x.test",
                "two@x.test": "a@x.test, b+kept@x.test"}},
            example("plus", uses=["aliases"], config={"delimiters": "+-"})])
        postmap = Postmap(self)
        for key, value in (("joe@x.test", "joe@store.test"), ("Joe+Box@X.test", "joe+box@store.test"),
                           ("joe-box@x.test", "joe+box@store.test"), ("joe+exact@x.test", "list@x.test"),
                           ("two+q@x.test", "a+q@x.test,b+kept@x.test"), ("nobody+box@x.test", ""),
                           ("nobody@x.test", "")):
            done = postmap.query(key, f"socketmap:unix:{mux.paths['socketmap']}:plus")
            self.assertEqual((done.returncode, done.stdout.decode().strip()), (0 if value else 1, value),
                             key)


class Metadata(MemoryMetadata):
    """metadata.lua as a real Dovecot's mail_attribute_dict: all of what the memory table passes."""

    def setUp(self):
        self.redis = Redis(self)
        self.mux = serve(self, [example("metadata", "attr", redis=by_unix(self.redis))], ("dict",))
        self.dovecot = Dovecot(self, SETTINGS.format(socket=self.mux.paths["dict"], **Dovecot.user_fields()))

    def test_hashes_in_redis(self):
        client = self.login("alice")
        self.good(client, 'SETMETADATA INBOX (/private/comment "x")')
        self.assertEqual(self.redis.do("KEYS", "*"), [b"meta:user:alice"])


# ---- what a script may do ----

RECORDS = """\
a 30 A 192.0.2.1
a 30 A 192.0.2.2
a 60 AAAA 2001:db8::1
alias CNAME a
@ MX 20 mx2
@ MX 10 mx1
text TXT "one " "string"
_25._tcp TLSA 3 1 1 00ff10
back PTR a
"""


class Api(Case):
    """Calls that need more than one process to be seen."""

    def test_http_request(self):
        def answer(request):
            return Reply(json.dumps({"method": request.method, "body": request.body.decode(),
                                     "type": request.header("Content-Type"), "x": request.header("X-One")}),
                         headers=[("X-Two", "2"), ("x-two", "zwei"), ("X-Key", request.query)])
        backend = Backend(self, answer)
        mux = serve(self, [lua("t", script(self, """
            function lookup(key)
                local base = mapmux.config.base
                if key == "get" then
                    local r = mapmux.http.get(base .. "/?" .. mapmux.urlencode("a b/ü"))
                    return r.headers["x-two"] .. " " .. r.headers["x-key"] .. " " .. r.status
                elseif key == "post" then
                    return mapmux.http.post(base, {b = 1, a = {true, mapmux.null}}, {headers = {["X-One"] = "1"}}).body
                elseif key == "put" then
                    return mapmux.http.request("PUT", base, {body = "text", headers = {["Content-Type"] = "text/x"}}).body
                elseif key == "inject" then
                    return mapmux.http.get(base, {headers = {["X-One"] = "1\\r\\nX-Evil: 2"}}).body
                elseif key == "blank" then
                    return mapmux.http.get(base .. "/a b").body
                elseif key == "file" then
                    return mapmux.http.get("file:///etc/passwd").body
                end
            end"""), config={"base": backend.url})], threads=1)
        self.assertEqual(mux.ask("t", "get"), ("OK", "2, zwei a%20b%2F%C3%BC 200"))
        self.assertEqual(json.loads(mux.ask("t", "post")[1]),
                         {"method": "POST", "body": '{"a":[true,null],"b":1}', "type": "application/json", "x": "1"})
        self.assertEqual(json.loads(mux.ask("t", "put")[1]),
                         {"method": "PUT", "body": "text", "type": "text/x", "x": None})
        seen = len(backend.seen())
        for key in ("inject", "blank", "file"):
            self.assertEqual(mux.ask("t", key)[0], "TEMP", key)
        self.assertEqual(len(backend.seen()), seen)
        self.assertEqual(mux.ask("t", "none")[0], "NOTFOUND")

    def test_connections_are_kept(self):
        backend = Backend(self, lambda request: as_json("x"))
        mux = serve(self, [lua("t", script(self, """
            function lookup() return mapmux.http.json(mapmux.config.base) end"""),
            config={"base": backend.url})], threads=1)
        with mux.socketmap() as client:
            for _ in range(50):
                self.assertEqual(client.ask("t", "k"), ("OK", "x"))
        self.assertLessEqual(backend.connections, 2)

    def test_a_thousand_slow_lookups_at_once(self):
        mux = serve(self, [lua("t", script(self, """
            function lookup(key) mapmux.sleep(1) return key .. "!" end""")),
            {"name": "fast", "type": "static", "entries": {"k": "v"}}], threads=1)
        clients = [mux.socketmap() for _ in range(1000)]
        try:
            start = time.monotonic()
            for number, client in enumerate(clients):
                client.request("t", f"k{number}")
            self.assertEqual(mux.ask("fast", "k"), ("OK", "v"))
            self.assertLess(time.monotonic() - start, 0.95, "nothing waits for the sleepers")
            for number, client in enumerate(clients):
                self.assertEqual(client.reply(), ("OK", f"k{number}!"))
            self.assertLess(time.monotonic() - start, 5)
        finally:
            for client in clients:
                client.close()

    def test_hundreds_of_slow_requests_at_once(self):
        backend = Backend(self, lambda request: Reply(json.dumps(request.path), delay=1))
        mux = serve(self, [lua("t", script(self, """
            function lookup(key) return mapmux.http.json(mapmux.config.base .. key) end"""),
            config={"base": backend.url + "/"}, max_connections=300, timeout="20s")], threads=1)
        clients = [mux.socketmap() for _ in range(300)]
        try:
            start = time.monotonic()
            for number, client in enumerate(clients):
                client.request("t", f"k{number}")
            for number, client in enumerate(clients):
                self.assertEqual(client.reply(), ("OK", f"/k{number}"))
            self.assertLess(time.monotonic() - start, 15)
        finally:
            for client in clients:
                client.close()

    def test_timeouts_and_the_end_while_scripts_wait(self):
        mux = serve(self, [
            lua("t", script(self, """
                function lookup(key) mapmux.sleep(100) end
                function set(key) mapmux.sleep(100) end"""), timeout="700ms"),
            lua("long", script(self, """
                function lookup(key) mapmux.sleep(100) end
                function set(key) mapmux.sleep(100) end"""), timeout="25s")], shutdown_timeout="1s")
        start = time.monotonic()
        self.assertEqual(mux.ask("t", "k"), ("TEMP", "no answer within 700 ms"))
        with mux.dict("t") as client:
            self.assertEqual(client.change(1, ("set", "shared/a", "1")).letter, "W")
        self.assertLess(time.monotonic() - start, 5)
        with mux.socketmap() as client, mux.dict("long") as other:
            client.request("long", "k")
            other.begin(1)
            other.set(1, "shared/a", "1")
            other.start_commit(1)
            time.sleep(0.3)
            mux.stop()

    def test_dns(self):
        knot = Knot(self, {"x.test.": RECORDS, "2.0.192.in-addr.arpa.": "1 PTR host.x.test.\n",
                           "broken.test.": None})
        mux = serve(self, [lua("t", script(self, """
            function lookup(key)
                local kind, name = key:match("(%S+) (.*)")
                local records, ttl = mapmux.dns[kind](name)
                table.sort(records or {}, function(a, b)
                    return (a.preference or a) < (b.preference or b)
                end)
                return {records or mapmux.null, ttl}
            end"""), servers=knot.address, timeout="5s")])

        def ask(key):
            return json.loads(mux.look("t", "shared/" + key).value)
        self.assertEqual(ask("a a.x.test"), [["192.0.2.1", "192.0.2.2"], 30])
        self.assertEqual(ask("a ALIAS.x.test."), [["192.0.2.1", "192.0.2.2"], 30])
        self.assertEqual(ask("aaaa a.x.test"), [["2001:db8::1"], 60])
        self.assertEqual(ask("mx x.test")[0], [{"host": "mx1.x.test", "preference": 10},
                                               {"host": "mx2.x.test", "preference": 20}])
        self.assertEqual(ask("txt text.x.test")[0], ["one string"])
        self.assertEqual(ask("ptr 192.0.2.1")[0], ["host.x.test"])
        self.assertEqual(ask("ptr back.x.test")[0], ["a.x.test"])
        for nothing in ("a none.x.test", "aaaa text.x.test", "ptr 192.0.2.9", "a two words", "a -.x.test"):
            self.assertIsNone(ask(nothing)[0], nothing)
        answer = mux.look("t", "shared/a x.broken.test")
        self.assertEqual(answer.letter, "F")
        self.assertIn("DNS: ", answer.value)

    def test_dns_tlsa(self):
        knot = Knot(self, {"x.test.": RECORDS})
        mux = serve(self, [lua("t", script(self, """
            function lookup(name)
                local r = mapmux.dns.tlsa(name)[1]
                return r.usage .. " " .. r.selector .. " " .. r.matching .. " " .. mapmux.base64.encode(r.data)
            end"""), servers=knot.address)])
        self.assertEqual(mux.ask("t", "_25._tcp.x.test"), ("OK", "3 1 1 AP8Q"))

    def test_redis(self):
        redis = Redis(self)
        redis.do("RPUSH", "list", "a", "b")
        redis.do("SET", "safe", "1")
        mux = serve(self, [lua("t", script(self, """
            function lookup(key)
                local what, key = key:match("(%S+) (.*)")
                if what == "words" then
                    return mapmux.redis("SET", key, 2.5) .. " " .. mapmux.redis("GET", key)
                elseif what == "numbers" then
                    return mapmux.redis("INCRBY", key, 41) + 1
                elseif what == "list" then
                    return mapmux.redis("LRANGE", "list", 0, -1)
                elseif what == "null" then
                    return mapmux.redis("MGET", "safe", key)[2] == mapmux.null
                elseif what == "transaction" then
                    return mapmux.redis {{"SET", key, "x"}, {"INCR", key .. "n"}, {"GET", key}}
                elseif what == "caught" then
                    local good, why = pcall(mapmux.redis, "INCR", "list")
                    return tostring(good) .. " " .. why.status .. " " .. why.reason
                end
                return mapmux.redis("GET", key)
            end"""), redis=by_unix(redis), timeout="3s")])
        evil = "k\tDEL safe \"'*3\\"
        for question, answer in (("words " + evil, "OK 2.5"), ("numbers n", "42"), ("list .", "a,b"),
                                 ("null none", "1"), ("transaction t", "OK,1,x"), ("get safe", "1"),
                                 ("caught .", "false temp Redis: WRONGTYPE")):
            self.assertEqual(mux.ask("t", question), ("OK", answer), question)
        self.assertEqual(mux.ask("t", "get none")[0], "NOTFOUND")
        self.assertEqual(mux.ask("t", "get list"), ("TEMP", "Redis: WRONGTYPE"))
        with mux.dict("t") as client:
            inject = "k\r\n*2\r\n$3\r\nDEL\r\n$4\r\nsafe\r\n"
            self.assertEqual(client.lookup("shared/words " + inject).value, "OK 2.5")
        self.assertEqual(redis.do("GET", inject), b"2.5")
        self.assertEqual(redis.do("GET", evil), b"2.5")
        self.assertEqual(redis.do("GET", "safe"), b"1")
        redis.stop()
        self.assertEqual(mux.ask("t", "get safe")[0], "TEMP")

    def test_redis_shared_connection(self):
        """What would leave it to those behind in another state, or make them wait, is not sent."""
        redis = Redis(self)
        mux = serve(self, [lua("t", script(self, """
            function lookup(key)
                local words = {}
                for word in key:gmatch("%S+") do words[#words + 1] = word end
                local good, why = pcall(mapmux.redis, table.unpack(words))
                return good and "sent" or why:match("not for shared connections")
            end"""), redis=by_unix(redis))], threads=1)
        for words in ("SUBSCRIBE x", "select 5", "MULTI", "BLPOP x 0", "Sync", "PSYNC ? -1", "XREAD BLOCK 0 STREAMS x $",
                      "xreadgroup GROUP g c block 0 STREAMS x >"):
            self.assertEqual(mux.ask("t", words), ("OK", "not for shared connections"), words)
        self.assertEqual(mux.ask("t", "XREAD COUNT 1 STREAMS x 0"), ("OK", "sent"))
        self.assertEqual(mux.ask("t", "PING"), ("OK", "sent"))

    def test_log(self):
        mux = serve(self, [lua("t", script(self, """
            function lookup(key)
                mapmux.log("error", "an error with " .. key)
                mapmux.log("warn", "a warning")
                mapmux.log("no level")
                print("printed", 1, nil)
                mapmux.log("debug", "hidden")
                return "done"
            end"""))])
        self.assertEqual(mux.ask("t", "k"), ("OK", "done"))
        for level, text in (("error", "an error with k"), ("warn", "a warning"), ("info", "no level"),
                            ("info", r"printed\\t1\\tnil")):
            self.assertRegex(mux.log(), rf"(?m) {level} table t: {text}$")
        self.assertNotIn("hidden", mux.log())

    def test_sleep(self):
        mux = serve(self, [lua("t", script(self, """
            function lookup(key)
                local start = mapmux.time()
                mapmux.sleep(tonumber(key))
                return mapmux.time() - start
            end"""))])
        for seconds in ("0", "0.05", "0.5"):
            slept = float(mux.ask("t", seconds)[1])
            self.assertTrue(float(seconds) - 0.005 <= slept < float(seconds) + 0.45, (seconds, slept))

    def test_modules_beside_the_script(self):
        where = tempdir(self)
        os.mkdir(os.path.join(where, "sub"))
        script(self, "local n = ... return {name = n, f = function() return 'from b' end}", "b.lua", where)
        script(self, "return require('b').f() .. ' by sub.c'", "c.lua", os.path.join(where, "sub"))
        mux = serve(self, [lua("t", script(self, """
            local c = require("sub.c")
            function lookup(key)
                if key == "path" then return package.path end
                return c .. " " .. tostring(require("b") == require("b"))
            end""",
            directory=where))])
        self.assertEqual(mux.ask("t", "k"), ("OK", "from b by sub.c true"))
        self.assertEqual(mux.ask("t", "path"), ("OK", f"{where}/?.lua;{where}/?/init.lua"))

    def test_policy_and_writes_by_dict(self):
        mux = serve(self, [lua("t", script(self, """
            local store = {}
            function lookup(key, request) return store[request.scope .. key] end
            function set(key, value, request) store[request.scope .. key] = value end
            function unset(key, request) store[request.scope .. key] = nil end
            function increment(key, diff, request)
                local name = request.scope .. key
                if not store[name] then return nil end
                store[name] = store[name] + diff
            end
            function iterate(prefix, request)
                local names = {}
                for name in pairs(store) do
                    local key = name:sub(#request.scope + 1)
                    if name:sub(1, #request.scope) == request.scope and key:sub(1, #prefix) == prefix then
                        names[#names + 1] = key:sub(#prefix + 1)
                    end
                end
                return names
            end"""))], threads=1)
        with mux.dict("t", major=4) as client:
            self.assertEqual(client.change(1, ("set", "shared/a/x", "1"), ("set", "shared/a/y", "2"),
                                           ("set", "priv/a/z", "3"), user="u").letter, "O")
            self.assertEqual(client.change(2, ("inc", "shared/a/x", 41)).letter, "O")
            self.assertEqual(client.lookup("shared/a/x").value, "42")
            self.assertEqual(client.change(3, ("inc", "shared/none", 1)).letter, "N")
            self.assertEqual(client.change(4, ("set", "shared/b", "1"), ("inc", "shared/none", 1)).letter, "W")
            self.assertEqual(client.iterate("shared/a/").rows, [("shared/a/x", "42"), ("shared/a/y", "2")])
            self.assertEqual(client.change(5, ("unset", "shared/a/x")).letter, "O")
            self.assertEqual(client.lookup("shared/a/x").letter, "N")
            client.begin(6, expire=60)
            client.set(6, "shared/e", "1")
            self.assertEqual(client.commit(6).letter, "F")


# ---- scripts gone wrong ----

class Limits(Case):
    """Loops, bombs and errors: TEMP, soon, and nobody else suffers."""

    def setUp(self):
        self.mux = serve(self, [lua("t", script(self, """
            local kept = {}
            function lookup(key)
                if key == "loop" then while true do end
                elseif key == "caught" then
                    while true do pcall(function() while true do end end) end
                elseif key == "coroutine" then
                    while true do coroutine.wrap(function() while true do end end)() end
                elseif key == "rep" then return #("x"):rep(1 << 40)
                elseif key == "nothing" then return #(""):rep(1 << 40)
                elseif key == "move" then return table.move({}, 1, 1 << 40, 2)
                elseif key == "insert" then
                    table.insert(setmetatable({}, {__len = function() return 1 << 60 end}), 1, "x")
                elseif key == "pattern" then
                    return string.find(("a"):rep(100000), ("a-"):rep(20) .. "b")
                elseif key == "gsub" then return (("x"):rep(100000):gsub("", ("y"):rep(10000)))
                elseif key == "bomb" then
                    local t = {}
                    while true do t[#t + 1] = ("x"):rep(65536) .. #t end
                elseif key == "leak" then
                    while true do kept[#kept + 1] = ("x"):rep(65536) .. #kept end
                elseif key == "slow" then mapmux.sleep(1) return "slow " .. #(("x"):rep(1000))
                elseif key == "error" then local x = nil; return x.y
                elseif key == "deep" then local function f() return 1 + f() end return f()
                elseif key == "yield" then coroutine.yield(1)
                elseif key == "shared" then
                    local t = {}
                    for _ = 1, 90 do t = {t, t} end
                    return t
                end
                return "fine"
            end"""), memory="8m"),
            {"name": "fast", "type": "static", "entries": {"k": "v"}}], threads=1)

    def test_endless_loops(self):
        best = {}
        with self.mux.socketmap() as client:
            for _ in range(5):
                for key in ("loop", "caught", "coroutine", "nothing", "pattern", "gsub", "rep", "move", "insert"):
                    start = time.monotonic()
                    status, text = client.ask("t", key)
                    self.assertEqual((status, client.ask("t", "k")),
                                     ("TEMP" if key != "nothing" else "OK", ("OK", "fine")), key + text)
                    best[key] = min(best.get(key, 9), time.monotonic() - start)
        if not SANITIZED:
            self.assertLess(max(best.values()), 0.1, best)

    def test_long_work_of_the_library_again_and_again(self):
        """Each call ends soon; a loop of them has so few instructions that nobody would look for long."""
        path = script(self, """
            local s, t = ("x"):rep(4000000), {}
            for i = 1, 50000 do t[i] = i * 7919 % 50000 end
            local json = "[" .. ("0,"):rep(50000) .. "0]"
            function lookup(key)
                while key ~= "k" do
                    if key == "upper" then s:upper()
                    elseif key == "sort" then table.sort(table.move(t, 1, #t, 1, {}))
                    elseif key == "insert" then table.insert(t, 1, 0) table.remove(t, 1)
                    elseif key == "encode" then pcall(mapmux.json.encode, t)
                    else mapmux.json.decode(json) end
                end
                return "fine"
            end""")
        mux = serve(self, [lua("t", path, memory="64m", cpu_time="1s" if SANITIZED else "100ms")], threads=1)
        best = {}
        with mux.socketmap() as client:
            for key in 3 * ("upper", "sort", "insert", "encode", "decode"):
                start = time.monotonic()
                status, text = client.ask("t", key)
                self.assertEqual((status, client.ask("t", "k")), ("TEMP", ("OK", "fine")), key + text)
                best[key] = min(best.get(key, 99), time.monotonic() - start)
        if not SANITIZED:
            self.assertLess(max(best.values()), 1, best)

    def test_a_table_that_stands_in_many_places(self):
        with self.mux.socketmap() as client:
            self.assertEqual(client.ask("t", "shared")[0], "TEMP")
            self.assertEqual(client.ask("t", "k"), ("OK", "fine"))

    def test_others_are_served_meanwhile(self):
        with self.mux.socketmap() as bad, self.mux.socketmap() as good:
            for _ in range(20):
                bad.request("t", "loop")
            for _ in range(20):
                self.assertEqual(good.ask("fast", "k"), ("OK", "v"))
            for _ in range(20):
                self.assertEqual(bad.reply()[0], "TEMP")

    def test_memory(self):
        with self.mux.socketmap() as slow, self.mux.socketmap() as client:
            for key in ("bomb", "leak", "leak"):
                slow.request("t", "slow")
                self.assertEqual(self.mux.ask("t", "k"), ("OK", "fine"))
                status, text = client.ask("t", key)
                self.assertEqual(status, "TEMP")
                # Sanitizers make memory so slow that the limit of time may come first.
                self.assertRegex(text, "memory|too long" if SANITIZED else "memory")
                self.assertEqual(client.ask("t", "k"), ("OK", "fine"))
                self.assertEqual(slow.reply(), ("OK", "slow 1000"), "its state outlives the bomb")
            for _ in range(100):
                self.assertEqual(client.ask("t", "leak")[0], "TEMP")
        if not SANITIZED:
            self.assertLess(self.mux.memory(), 200 << 20)

    def test_errors(self):
        status, text = self.mux.ask("t", "error")
        self.assertEqual(status, "TEMP")
        self.assertRegex(text, r"^error in the script at \S*script\.lua:\d+$")
        log = wait_until(lambda: "traceback" in self.mux.log() and self.mux.log(), "the traceback is logged")
        self.assertRegex(log, r"script\.lua:\d+: attempt to index a nil value \(local 'x'\)")
        self.assertRegex(log, r"stack traceback: .*script\.lua:\d+: in function 'lookup'")
        for key in ("deep", "yield"):
            self.assertEqual(self.mux.ask("t", key)[0], "TEMP", key)
        for _ in range(200):
            self.mux.ask("t", "error")
        self.assertLess(self.mux.log().count("traceback"), 10)

    def test_a_client_that_leaves(self):
        with self.mux.socketmap() as client:
            for _ in range(10):
                client.request("t", "slow")
        self.assertEqual(self.mux.ask("t", "k"), ("OK", "fine"))


class Start(Case):
    """What is wrong is said at once, with file and line."""

    def refused(self, text, *words, check=True, **options):
        path = script(self, text) if text is not None else "/nonexistent/x.lua"
        config = script(self, document({"listeners": [{
            "protocol": "socketmap", "address": f"unix:{tempdir(self)}/s"}],
            "tables": [lua("t", path, **options)]}), "mapmux.yaml")
        done = mapmux("check", "-c", config)
        self.assertEqual(done.returncode, 1 if check else 0, done.stderr)
        if not check:
            done = mapmux("-c", config)
            self.assertEqual(done.returncode, 1)
        for word in words:
            self.assertIn(word, done.stderr.decode())

    def test_bad_scripts(self):
        self.refused("function lookup()\n  return 1 +\nend\n", "script.lua:3:", "mapmux.yaml:4: param")
        self.refused(None, "/nonexistent/x.lua", "mapmux.yaml:4: param")
        self.refused("\x1bLua", "binary")

    def test_scripts_that_fail_to_run(self):
        self.refused("local x = nil\nx.y = 1\nfunction lookup() end\n", "table t", "script.lua:2:", check=False)
        self.refused("x = 1\n", "defines none of lookup", check=False)
        self.refused("function lookup() end\n", "iterate", check=False, functions=["lookup", "iterate"])
        self.refused("mapmux.sleep(1)\n", "script.lua:1:", "while a question is answered", check=False)
        self.refused("while true do end\n", "stopped after", "script.lua:1:", check=False)
        self.refused("require('none')\n", "module 'none' not found", check=False)
        self.refused("os.exit()\n", "script.lua:1:", check=False)
        self.refused("\nmapmux.nosuch()\nfunction lookup() end\n", "script.lua:2:", "nosuch", check=False)

    def test_bad_options(self):
        good = "function lookup() end\n"
        self.refused(good, "nosuch", "mapmux.yaml:", uses=["nosuch"])
        self.refused(good, "circle", uses=["t"])
        self.refused(good, "functions", "allowed: lookup", "mapmux.yaml:", functions=["lokup"])
        self.refused(good, "redis", redis="http://x/")
        self.refused(good, "servers", servers="not an address")

    def test_circles_of_tables(self):
        path = script(self, "function lookup() end\n")
        config = script(self, document({"tables": [
            lua("a", path, uses=["b"]), {"name": "b", "type": "chain", "param": ["c"]}, lua("c", path, uses=["a"])],
            "listeners": [{"protocol": "socketmap", "address": f"unix:{tempdir(self)}/s"}]}), "mapmux.yaml")
        done = mapmux("check", "-c", config)
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr.decode(), r"mapmux\.yaml:\d+: .*circle")

    def test_check_calls_nothing(self):
        where = tempdir(self)
        mark = os.path.join(where, "mark")
        config = script(self, document({"tables": [lua("t", script(self, f"""
            io.open("{mark}", "w"):close()
            function lookup() return os.getenv("HOME") end"""), unsafe="yes")],
            "listeners": [{"protocol": "socketmap", "address": f"unix:{where}/s"}]}), "mapmux.yaml")
        done = mapmux("check", "-c", config)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertFalse(os.path.exists(mark))
        mux = Mapmux(self, "-c", config, extra=[f"unix:{where}/s"])
        with Socketmap(f"{where}/s") as client:
            self.assertEqual(client.ask("t", "k")[0], "OK", mux.log())
        self.assertTrue(os.path.exists(mark))


del MemoryMetadata     # not to be run again as tests of this file

if __name__ == "__main__":
    unittest.main()
