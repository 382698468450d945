"""lua/dovecot-auth.lua: a real Dovecot 2.3 whose passdb and userdb ask mapmux; the same script against a
double of Dovecot 2.4's documented Lua API, which differs in how a script is given its settings."""

import grp
import json
import os
import pathlib
import shutil
import threading
import unittest

from harness import Backend, Case, Mapmux, Reply, free_port, program, run, tempdir, wait_until
from harness.dovecot import Dovecot
from harness.http import Http
from harness.mapmux import document
from harness.wire import Closed

SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "lua" / "dovecot-auth.lua"
LOGIN = """
function authenticate(user, password, request)
	if user == 'down@x.test' then return mapmux.temp('the directory is down') end
	if user == 'broken@x.test' then return mapmux.perm('misconfigured') end
	if user == 'fields@x.test' then return {nopassword = true, password = 'other', quick = 'yes'} end
	return password == 'secret of ' .. user
end
"""
TOKEN = "between us"


def setting(port, script, **more):
    names = {"url": f"http://127.0.0.1:{port}", "passdb": "login", "userdb": "users", "timeout": 3000, **more}
    return "mapmux = {%s}\ndofile(%s)\n" % (
        ", ".join(f"{name} = {json.dumps(value)}" for name, value in names.items() if value is not None),
        json.dumps(script))


class Stand(Case):
    """A mapmux with an http listener: logins by a script, users in a static table, one that fails in a url table."""

    @classmethod
    def setUpClass(cls):
        cls.where, cls.port = tempdir(cls), free_port()
        cls.backend = Backend(cls, cls.answer)
        script = os.path.join(cls.where, "login.lua")
        token = os.path.join(cls.where, "token")
        for path, text in ((script, LOGIN), (token, TOKEN + "\n")):
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
        # Dovecot's auth processes read both, and they are not root's.
        cls.script = shutil.copy(SCRIPT, cls.where)
        os.chown(token, 0, grp.getgrnam("dovecot").gr_gid)
        os.chmod(token, 0o640)
        cls.token = token
        fields = Dovecot.user_fields()
        people = {f"users/{name}@x.test": json.dumps({**fields, "home": f"/srv/{name}", "quota_rule": "*:bytes=1M",
                                                     "nothing": None, "no": False})
                  for name in ("bob", "eve", "fields", *(f"u{n}" for n in range(50)))}
        cls.start = staticmethod(lambda case: Mapmux(case, config=document({
            "listeners": [{"protocol": "http", "address": f"127.0.0.1:{cls.port}", "token_file": token,
                           "max_failures_per_address": 1000}],     # all of them come from one
            "tables": [{"name": "login", "type": "lua", "param": script, "side_effects": "yes"},
                       {"name": "static", "type": "static", "entries": people},
                       {"name": "failing", "type": "url", "param": cls.backend.url + "/{}", "retries": 0},
                       {"name": "users", "type": "chain", "param": ["static", "failing"]}]})))
        cls.mux = cls.start(cls)

    @staticmethod
    def answer(request):
        return Reply(b"", 503 if "down" in request.path else 404)


class Dovecot23(Stand):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.dovecot = Dovecot(cls, """
            passdb {
              driver = lua
              args = file={dir}/auth.lua blocking=yes
            }
            userdb {
              driver = lua
              args = file={dir}/auth.lua blocking=yes
            }
            service auth-worker {
              process_limit = 10
            }
            """, {"auth.lua": setting(cls.port, cls.script, token_file=cls.token, userdb_key="users/%s", iterate="users/")})

    def login(self, user, password=None):
        return self.dovecot.login(user, "secret of " + user if password is None else password)

    def test_right_and_wrong(self):
        self.assertEqual(self.login("bob@x.test")[0], "OK")
        for user, password in (("bob@x.test", "wrong"), ("bob@x.test", "secret of eve@x.test"), ("nobody@x.test", "x")):
            status, text = self.login(user, password)
            self.assertEqual((status, "AUTHENTICATIONFAILED" in text), ("NO", True), text)

    def test_failures_are_no_wrong_passwords(self):
        """[UNAVAILABLE] from a table that fails, and without mapmux."""
        for user in ("down@x.test", "broken@x.test"):
            status, text = self.login(user, "x")
            self.assertEqual((status, "UNAVAILABLE" in text), ("NO", True), text)
        self.mux.stop()
        try:
            status, text = self.login("bob@x.test")
            self.assertEqual((status, "UNAVAILABLE" in text), ("NO", True), text)
        finally:
            type(self).mux = self.start(type(self))
        self.assertEqual(self.login("bob@x.test")[0], "OK")
        self.assertNotIn("secret of", self.dovecot.log())

    def test_guessing(self):
        """A refusal like that of a wrong password, and no outage, for the right one too; nobody else is kept out."""
        for number in range(10):
            status, text = self.login(f"{'EVE' if number % 2 else 'eve'}@x.test", f"guess {number}")
            self.assertEqual((status, "AUTHENTICATIONFAILED" in text), ("NO", True), text)
        status, text = self.login("eve@x.test")
        self.assertEqual((status, "AUTHENTICATIONFAILED" in text), ("NO", True), text)
        self.assertIn("authentication refused: too many failures", self.mux.log())
        self.assertRegex(self.mux.log(), "user=eve@x.test rip=127.0.0.1 listener=http:")
        self.assertEqual(self.login("bob@x.test")[0], "OK")

    def test_the_userdb_is_asked_too(self):
        """A password that is right is not enough: who is unknown to the userdb, or not to be had, gets nothing."""
        for user in ("stranger@x.test", "unknown-when-down@x.test"):
            try:
                self.assertEqual(self.login(user)[0], "NO")
            except Closed:      # by a session process that has no user
                pass
        wait_until(lambda: "/v1/lookup/users: 503" in self.dovecot.log(), "Dovecot's log says why")

    def test_fields_do_not_open_doors(self):
        """Of a verified password's fields, none says that there is no password, or another."""
        self.assertEqual(self.login("fields@x.test", "anything")[0], "OK")
        shown = self.dovecot.doveadm("auth", "test", "fields@x.test", "anything")
        self.assertEqual(shown.returncode, 0, shown.stderr)
        self.assertIn(b"quick=yes", shown.stdout)
        self.assertNotIn(b"nopassword", shown.stdout)
        self.assertNotIn(b"other", shown.stdout)

    def test_userdb(self):
        shown = self.dovecot.doveadm("user", "bob@x.test")
        self.assertEqual(shown.returncode, 0, shown.stderr)
        for line in (b"home\t/srv/bob", b"quota_rule\t*:bytes=1M"):
            self.assertIn(line, shown.stdout)
        self.assertNotIn(b"nothing", shown.stdout)
        self.assertEqual(self.dovecot.doveadm("user", "nobody@x.test").returncode, 67)
        self.assertNotIn(self.dovecot.doveadm("user", "down@x.test").returncode, (0, 67))

    def test_iterate(self):
        shown = self.dovecot.doveadm("user", "*")
        self.assertEqual(shown.returncode, 0, shown.stderr)
        self.assertEqual(sorted(shown.stdout.decode().split()),
                         sorted(f"{name}@x.test" for name in ("bob", "eve", "fields", *(f"u{n}" for n in range(50)))))

    def test_fifty_at_once(self):
        wrong = []

        def session(number):
            user = f"u{number}@x.test"
            status, text = self.login(user, None if number % 2 else "wrong")
            if status != ("OK" if number % 2 else "NO") or "UNAVAILABLE" in text:
                wrong.append((user, status, text))

        threads = [threading.Thread(target=session, args=(number,)) for number in range(50)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(wrong, [])


DOUBLE = """
local http, ltn12, json = require("socket.http"), require("ltn12"), require("cjson")
local names = {"INTERNAL_FAILURE", "USER_UNKNOWN", "PASSWORD_MISMATCH", "NEXT", "OK"}
dovecot = {auth = {}, http = {}, i_error = function(text) io.stderr:write(text, "\\n") end}
for _, name in ipairs(names) do
	dovecot.auth["PASSDB_RESULT_" .. name] = name
	dovecot.auth["USERDB_RESULT_" .. name] = name
end
function dovecot.http.client(options)
	http.TIMEOUT = options.timeout / 1000
	return {request = function(_, what)
		local request, headers, payload = {}, {}, nil
		function request.add_header(_, name, value) headers[name] = value end
		function request.set_payload(_, text) payload, headers["Content-Length"] = text, #text end
		function request.submit()
			local parts = {}
			local good, code, _, line = http.request({url = what.url, method = what.method, headers = headers,
				source = payload and ltn12.source.string(payload), sink = ltn12.sink.table(parts)})
			return {status = function() return good and code or 9003 end,
				reason = function() return good and line or code end,
				payload = function() return table.concat(parts) end}
		end
		return request
	end}
end
dofile(arg[1])
for line in io.lines() do
	local call = json.decode(line)
	local results = table.pack(pcall(_G[call[1]], table.unpack(call, 2)))
	print(json.encode({table.unpack(results, 2, results.n)}))
end
"""


class Dovecot24(Stand):
    """The functions as Dovecot 2.4 calls them, in plain Lua; its http client here is LuaSocket."""

    def call(self, *calls, **more):
        settings = {"url": f"http://127.0.0.1:{self.port}", "passdb": "login", "userdb": "users", "timeout": "3000",
                    "token_file": self.token, "userdb_key": "users/%s", "iterate": "users/", **more}
        settings = {name: value for name, value in settings.items() if value is not None}
        double = os.path.join(tempdir(self), "double.lua")
        with open(double, "w", encoding="utf-8") as file:
            file.write(DOUBLE)
        lines = "".join(json.dumps(call) + "\n" for call in (("script_init", settings), *calls))
        done = run([program("lua5.4", "lua5.4"), double, str(SCRIPT)], stdin=lines.encode())
        self.assertEqual(done.returncode, 0, done.stderr)
        results = [json.loads(line) for line in done.stdout.decode().split("\n")[:-1]]
        self.assertEqual(len(results), 1 + len(calls))
        self.errors = done.stderr.decode()
        self.assertNotIn(TOKEN, self.errors)
        return results[1:] if results[0] == [0] else None

    def verify(self, user, password, **more):
        return self.call(("auth_password_verify", {"user": user, "service": "imap"}, password), **more)[0]

    def test_verify(self):
        self.assertEqual(self.verify("bob@x.test", "secret of bob@x.test"), ["OK", {}])
        self.assertEqual(self.verify("fields@x.test", "x"), ["OK", {"quick": "yes"}])
        self.assertEqual(self.verify("bob@x.test", "wrong")[0], "PASSWORD_MISMATCH")
        self.assertEqual(self.verify('a"/%\\@x.test', 'secret of a"/%\\@x.test')[0], "OK")
        for user in ("down@x.test", "broken@x.test"):
            self.assertEqual(self.verify(user, "x"), ["INTERNAL_FAILURE", "mapmux failed"])

    def test_whatever_is_not_mapmux(self):
        """Another service's 404, a wrong token, unknown tables, nobody there: never a verdict."""
        for more in ({"url": self.backend.url}, {"url": f"http://127.0.0.1:{free_port()}"}, {"passdb": "none", "userdb": "none"},
                     {"passdb": "users", "userdb": "login"}, {"token_file": None, "token": "wrong"}):
            with self.subTest(more=more):
                results = self.call(("auth_password_verify", {"user": "bob@x.test"}, "x"),
                                    ("auth_userdb_lookup", {"user": "bob@x.test"}), ("auth_userdb_iterate",), **more)
                self.assertEqual([result[0] for result in results[:2]], ["INTERNAL_FAILURE"] * 2, self.errors)
                self.assertIn("mapmux failed", results[2][0])

    def test_userdb(self):
        found, none, down = self.call(*(("auth_userdb_lookup", {"user": name + "@x.test"}) for name in ("bob", "no", "down")))
        fields = Dovecot.user_fields()
        self.assertEqual(found, ["OK", {"uid": str(fields["uid"]), "gid": str(fields["gid"]), "home": "/srv/bob",
                                        "quota_rule": "*:bytes=1M"}])
        self.assertEqual((none[0], down[0]), ("USER_UNKNOWN", "INTERNAL_FAILURE"))

    def test_iterate(self):
        self.assertEqual(len(self.call(("auth_userdb_iterate",))[0][0]), 53)

    def test_settings(self):
        self.assertIsNone(self.call(url=None))
        self.assertIn("the setting url is missing", self.errors)
        self.assertEqual(self.call(("auth_password_verify", {"user": "a"}, "b"), passdb=None)[0], ["NEXT", {}])
        self.assertEqual(self.call(("auth_userdb_lookup", {"user": "a"}), userdb=None)[0][0], "INTERNAL_FAILURE")


if __name__ == "__main__":
    unittest.main()
