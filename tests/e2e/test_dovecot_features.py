"""What Dovecot 2.3 keeps in dicts, with all of its features at once: the same tests on four stores."""

import json
import os
import smtplib
import time
import unittest

from harness import Backend, Case, Reply, Store, serve, tempdir, url, wait_until
from harness.dovecot import Dovecot
from harness.redis import PASSWORD, Redis
from test_dovecot_metadata import entries

SETTINGS = """
protocols = imap lmtp
mail_plugins = quota quota_clone acl notify
mail_attribute_dict = proxy:{socket}:attr
passdb {
  driver = dict
  args = {dir}/auth.conf.ext
}
userdb {
  driver = prefetch
}
userdb {
  driver = dict
  args = {dir}/auth.conf.ext
}
namespace {
  type = private
  separator = /
  inbox = yes
}
namespace {
  type = shared
  separator = /
  prefix = shared/%%u/
  location = maildir:{dir}/mail/%%u:INDEXPVT={dir}/mail/%u/shared/%%u
  subscriptions = no
  list = children
}
protocol imap {
  imap_metadata = yes
  mail_plugins = $mail_plugins imap_acl last_login
}
protocol lmtp {
  mail_plugins = $mail_plugins sieve
}
service lmtp {
  chroot =
  unix_listener {dir}/lmtp {
    mode = 0600
  }
}
service auth-worker {
  process_limit = 30
}
service imap-login {
  process_limit = 300
}
service imap {
  process_limit = 300
}
mail_max_userip_connections = 300
plugin {
  quota = count:User quota
  quota_vsizes = yes
  quota_clone_dict = proxy:{socket}:quota
  last_login_dict = proxy:{socket}:last_login
  last_login_key = last-login/%u
  acl = vfile
  acl_shared_dict = proxy:{socket}:acl
  sieve = file:{dir}/nosieve
  sieve_before = dict:proxy:{socket}:sieve;name=active
}
"""

AUTH = """
uri = proxy:{socket}:auth
default_pass_scheme = CRYPT
iterate_prefix = userdb/
password_key = passdb/%u
user_key = userdb/%u
value_format = json
"""

LUA = """
-- A store for any dict: what each worker keeps would be told apart, so there is one worker.
local data = {}
expires = true

local function place(scope, user, key)
	return scope .. "/" .. (scope == "priv" and user .. "/" or "") .. key
end

local function fresh(at)
	local item = data[at]
	if item and item.ends and item.ends <= mapmux.time() then
		data[at] = nil
	end
	return data[at]
end

local function check()
	for _, what in ipairs {"all", mapmux.table} do
		if mapmux.lookup("down", what, {scope = "shared"}) then
			error(mapmux.temp("the store is down"))
		end
	end
end

function lookup(key, request)
	check()
	local item = fresh(place(request.scope, request.user, key))
	return item and item.value
end

function iterate(prefix, request)
	check()
	local start, rows = place(request.scope, request.user, prefix), {}
	for at in pairs(data) do
		if at:sub(1, #start) == start and fresh(at) then
			rows[at:sub(#start + 1)] = data[at].value
		end
	end
	return rows
end

function set(key, value, request)
	check()
	data[place(request.scope, request.user, key)] =
		{value = value, ends = request.expire and mapmux.time() + request.expire}
	return true
end

function unset(key, request)
	check()
	data[place(request.scope, request.user, key)] = nil
	return true
end

function increment(key, diff, request)
	check()
	local item = fresh(place(request.scope, request.user, key))
	if not item then
		return nil
	end
	item.value = tostring(math.tointeger(item.value) + diff)
	return true
end
"""

SIEVE = 'require ["fileinto", "mailbox"];\nif header :contains "subject" "junk" { fileinto :create "Junk"; }\n'
DICTS = ("auth", "attr", "quota", "last_login", "acl", "sieve", "free")
MAIL = "From: <a@example.org>\r\nTo: <b@example.org>\r\nSubject: {}\r\n\r\nA letter.\r\n"


class Deep(Store):
    """Lists all that is below a path, however deep, and keeps apart what is private to users."""

    def __call__(self, request):
        if "/priv/" in request.target:
            request.target = "/" + request.query + request.path
        path = request.plain_path
        if request.method != "GET" or not path.endswith("/"):
            return super().__call__(request)
        with self.lock:
            return sorted(key[len(path):] for key in self.data if key.startswith(path))


class Features:
    """The tests; a subclass says where mapmux keeps things."""

    @classmethod
    def setUpClass(cls):
        cls.mux = serve(cls, cls.tables(), ("dict",), threads=1)
        for name in ("alice", "bob", "carol"):
            cls.account(name, {"password": "{PLAIN}secret"})
        for user in ("alice", "bob"):
            cls.put("sieve", "priv/sieve/name/active", "17", user)
            cls.put("sieve", "priv/sieve/data/17", SIEVE, user)
        cls.dovecot = Dovecot(cls, SETTINGS.replace("{socket}", cls.mux.paths["dict"]),
                              {"auth.conf.ext": AUTH.replace("{socket}", cls.mux.paths["dict"])})

    @classmethod
    def put(cls, table, key, value, user=""):
        with cls.mux.dict(table) as client:
            answer = client.change(1, ("set", key, value), user=user)
        assert answer.letter == "O", answer

    @classmethod
    def account(cls, name, passdb):
        cls.put("auth", "shared/passdb/" + name, json.dumps(passdb))
        cls.put("auth", "shared/userdb/" + name,
                json.dumps({**Dovecot.user_fields(), "home": f"/nonexistent/{name}"}))

    def kept(self, table, key, user=""):
        """The value in a dict, or None."""
        answer = self.mux.look(table, key, user)
        self.assertIn(answer.letter, "ON", answer)
        return answer.value if answer.letter == "O" else None

    def session(self, user):
        client = self.dovecot.imap()
        self.addCleanup(client.close)
        self.good(client, f"LOGIN {user} secret")
        return client

    def good(self, client, line):
        status, text, untagged = client.command(line)
        self.assertEqual(status, "OK", f"{line}: {text}\n{self.dovecot.log()[-3000:]}")
        return untagged

    def refused(self, user, password, code):
        status, text = self.dovecot.login(user, password)
        self.assertEqual(status, "NO", text)
        self.assertIn(f"[{code}]", text, self.dovecot.log()[-2000:])

    def deliver(self, user, subject):
        """By LMTP; what the server says of it."""
        with smtplib.LMTP(os.path.join(self.dovecot.dir, "lmtp")) as client:
            client.ehlo()
            client.mail("a@example.org")
            client.rcpt(user)
            return client.data(MAIL.format(subject))[0]

    def letters(self, user):
        """How many there are in all mailboxes of the user."""
        return sum(len(names) for path, _, names in os.walk(os.path.join(self.dovecot.dir, "mail", user))
                   if os.path.basename(path) in ("new", "cur"))

    def doveadm(self, operation, *args):
        *options, key = args
        return self.dovecot.doveadm("dict", operation, *options, f"proxy:{self.mux.paths['dict']}:free", *key)

    # passdb and userdb

    def test_login(self):
        self.assertEqual(self.dovecot.login("alice", "secret")[0], "OK", self.dovecot.log()[-3000:])
        self.refused("alice", "wrong", "AUTHENTICATIONFAILED")
        self.refused("nobody", "secret", "AUTHENTICATIONFAILED")

    def test_listing(self):
        done = self.dovecot.doveadm("user", "*")
        self.assertEqual((done.returncode, {"alice", "bob", "carol"} - set(done.stdout.decode().split())), (0, set()),
                         done.stderr)

    def test_prefetch(self):
        """All fields come with the password; there is no entry of userdb."""
        fields = {"userdb_" + name: value for name, value in Dovecot.user_fields().items()}
        self.put("auth", "shared/passdb/pre",
                 json.dumps({"password": "{PLAIN}secret", "userdb_home": "/nonexistent/pre", **fields}))
        self.assertEqual(self.dovecot.login("pre", "secret")[0], "OK", self.dovecot.log()[-3000:])

    def test_nopassword(self):
        """Meant, it lets in; where it says false or stands beside a password, the login fails for now."""
        self.account("open", {"nopassword": True})
        self.assertEqual(self.dovecot.login("open", "anything")[0], "OK")
        for number, fields in enumerate(({"nopassword": False}, {"nopassword": "no"}, {"nopassword": 0},
                                         {"nopassword": False, "password": "{PLAIN}secret"},
                                         {"password": "{PLAIN}secret", "nopassword": False},
                                         {"password": ""}, {"password": "{PLAIN}"})):
            with self.subTest(fields):
                self.account(f"shut{number}", fields)
                for password in ("anything", "secret", ""):
                    self.refused(f"shut{number}", password, "UNAVAILABLE")
        self.assertRegex(self.mux.log(), r"question failed.*(nopassword|password is empty)")

    def test_many_logins_at_once(self):
        clients = [self.dovecot.imap() for _ in range(200)]
        try:
            for number, client in enumerate(clients):
                client.sock.settimeout(60)
                client.send(b"a LOGIN alice %b\r\n" % (b"wrong" if number % 10 == 0 else b"secret"))
            for number, client in enumerate(clients):
                answer = client.until(b"\r\n")
                self.assertTrue(answer.startswith(b"a NO" if number % 10 == 0 else b"a OK"), answer)
        finally:
            for client in clients:
                client.close()

    # metadata

    def test_metadata(self):
        alice, bob = self.session("alice"), self.session("bob")
        for client, value in ((alice, "hers"), (bob, "his")):
            self.good(client, f'SETMETADATA INBOX (/private/comment "{value}" /private/vendor/x/y "{value} y" '
                              f'/private/vendor/x/z "{value} z" /shared/comment "{value} too")')
        for client, value in ((alice, b"hers"), (bob, b"his")):
            self.assertEqual(entries(self.good(client, "GETMETADATA INBOX (/private/comment /shared/comment)")),
                             {"/private/comment": value, "/shared/comment": value + b" too"})
            found = entries(self.good(client, "GETMETADATA (DEPTH infinity) INBOX /private/vendor"))
            self.assertEqual({name: text for name, text in found.items() if text is not None},
                             {"/private/vendor/x/y": value + b" y", "/private/vendor/x/z": value + b" z"})
        long = self.good(alice, "GETMETADATA (MAXSIZE 6) INBOX (/private/comment /shared/comment)")
        self.assertEqual(entries(long)["/private/comment"], b"hers")
        self.assertNotIn(b"hers too", long)
        self.good(alice, "SETMETADATA INBOX (/private/comment NIL)")
        self.assertEqual(entries(self.good(alice, "GETMETADATA INBOX (/private/comment)")), {"/private/comment": None})
        self.assertEqual(entries(self.good(bob, "GETMETADATA INBOX (/private/comment)")), {"/private/comment": b"his"})

    # what plugins keep

    def test_quota_clone_and_sieve(self):
        """What the script of the dict files away is counted too; an expunge takes it from the count."""
        for subject in ("hello", "junk"):
            self.assertEqual(self.deliver("bob", subject), 250, self.dovecot.log()[-3000:])
        wait_until(lambda: self.kept("quota", "priv/quota/messages", "bob") == "2", lambda: self.dovecot.log()[-3000:])
        self.assertGreater(int(self.kept("quota", "priv/quota/storage", "bob")), 50)
        self.assertIsNone(self.kept("quota", "priv/quota/messages", "carol"))
        client = self.session("bob")
        self.assertIn(b"* 1 EXISTS", self.good(client, "SELECT Junk"))
        self.good(client, "STORE 1 +FLAGS (\\Deleted)")
        self.good(client, "EXPUNGE")
        self.good(client, "LOGOUT")
        wait_until(lambda: self.kept("quota", "priv/quota/messages", "bob") == "1", lambda: self.dovecot.log()[-3000:])

    def test_last_login(self):
        before = int(time.time()) - 1
        self.good(self.session("carol"), "LOGOUT")
        said = wait_until(lambda: self.kept("last_login", "shared/last-login/carol"), "the last login")
        self.assertTrue(before <= int(said) <= time.time() + 1, said)

    def test_shared_mailboxes(self):
        alice = self.session("alice")
        self.good(alice, "CREATE Team")
        self.good(alice, "SETACL Team bob lr")
        self.assertEqual(self.kept("acl", "shared/shared-boxes/user/bob/alice"), "1")
        self.assertIn(b"shared/alice/Team", self.good(self.session("bob"), 'LIST "" "*"'))
        self.assertNotIn(b"shared/alice", self.good(self.session("carol"), 'LIST "" "*"'))
        self.good(alice, "DELETEACL Team bob")
        self.assertIsNone(self.kept("acl", "shared/shared-boxes/user/bob/alice"))

    # doveadm dict

    def test_doveadm(self):
        def good(operation, *args):
            done = self.doveadm(operation, *args)
            self.assertEqual((done.returncode, done.stderr), (0, b""), args)
            return [line.rstrip() for line in done.stdout.decode().splitlines()]
        for name in ("a", "b", "sub/c"):
            good("set", ("shared/x/" + name, "is " + name))
        self.assertEqual(good("get", ("shared/x/a",)), ["is a"])
        self.assertEqual(sorted(good("iter", ("shared/x/",))[1:]), ["shared/x/a\tis a", "shared/x/b\tis b"])
        self.assertEqual(len(good("iter", "-R", ("shared/x/",))), 4)
        self.assertEqual(sorted(good("iter", "-V", ("shared/x/",))[1:]), ["shared/x/a", "shared/x/b"])
        self.assertEqual(good("iter", "-1", ("shared/x/a",))[1:], ["shared/x/a\tis a"])
        good("set", ("shared/n", "40"))
        good("inc", ("shared/n", "2"))
        self.assertEqual(good("get", ("shared/n",)), ["42"])
        self.assertEqual(self.doveadm("inc", ("shared/none", "1")).returncode, 68)
        good("set", "-u", "alice", ("priv/k", "hers"))
        self.assertEqual(good("get", "-u", "alice", ("priv/k",)), ["hers"])
        self.assertEqual(self.doveadm("get", "-u", "bob", ("priv/k",)).returncode, 68)
        self.assertEqual(good("iter", "-u", "alice", ("priv/",))[1:], ["priv/k\thers"])
        good("unset", ("shared/x/a",))
        self.assertEqual(self.doveadm("get", ("shared/x/a",)).returncode, 68)


class Fails(Features):
    """A store that can be down: whole, or for one table alone."""

    def test_failing_sieve_alone(self):
        """Users are found and the script is not: the letter is deferred, nowhere filed, and delivered later."""
        letters = self.letters("alice")
        self.assertEqual(self.deliver("alice", "one"), 250, self.dovecot.log()[-3000:])
        self.assertEqual(self.letters("alice"), letters + 1)
        self.down(True, "sieve")
        try:
            self.assertEqual(self.deliver("alice", "two") // 100, 4, self.dovecot.log()[-3000:])
        finally:
            self.down(False, "sieve")
        self.assertEqual(self.letters("alice"), letters + 1)
        self.assertEqual(self.deliver("alice", "two"), 250, self.dovecot.log()[-3000:])
        self.assertEqual(self.letters("alice"), letters + 2)

    def test_failing_store(self):
        """Nobody is told that a password is wrong or a script absent: what fails is tried again."""
        client = self.session("alice")
        self.down(True)
        try:
            self.refused("alice", "secret", "UNAVAILABLE")
            self.assertEqual(client.command('SETMETADATA INBOX (/private/x "y")')[0], "NO")
            self.assertNotEqual(self.dovecot.doveadm("user", "*").returncode, 0)
            with smtplib.LMTP(os.path.join(self.dovecot.dir, "lmtp")) as lmtp:
                lmtp.ehlo()
                lmtp.mail("a@example.org")
                self.assertEqual(lmtp.rcpt("alice")[0] // 100, 4)
        finally:
            self.down(False)
        self.assertEqual(self.dovecot.login("alice", "secret")[0], "OK")


class Memory(Features, Case):
    """In the process, where nothing can be down."""

    @classmethod
    def tables(cls):
        return [{"name": name, "type": "memory", "param": ""} for name in DICTS]


class InRedis(Fails, Case):
    """In a redis-server."""

    @classmethod
    def tables(cls):
        cls.redis = Redis(cls)
        return [{"name": name, "type": "redis", "timeout": "3s", "password": PASSWORD,
                 "param": f"redis+unix:{cls.redis.path}?prefix={name}/{{scope}}/{{user}}/"} for name in DICTS]

    def down(self, yes, table=None):
        if table:
            allowed = [f"~{name}/*" for name in DICTS if name != table] if yes else ["allkeys"]
            self.redis.do("ACL", "SETUSER", "default", "resetkeys", *allowed)
        elif yes:
            self.redis.stop()
        else:
            self.redis.start()
            wait_until(lambda: self.mux.look("auth", "shared/passdb/alice").letter == "O", "redis is back")


class Http(Fails, Case):
    """At an HTTP store."""

    @classmethod
    def tables(cls):
        cls.failing, store = (), Deep()
        backend = Backend(cls, lambda request: Reply(status=503) if request.target.startswith(cls.failing)
                          else store(request))
        return [url(name, f"{backend.url}/{name}/{{scope}}/{{}}?{{user}}", priv_suffix="", timeout="5s") for name in DICTS]

    def down(self, yes, table=""):
        type(self).failing = (f"/{table}",) if yes else ()


class Script(Fails, Case):
    """In what a script keeps."""

    @classmethod
    def tables(cls):
        where = tempdir(cls)
        path = os.path.join(where, "store.lua")
        with open(path, "w", encoding="utf-8") as file:
            file.write(LUA)
        return [{"name": "down", "type": "memory", "param": ""},
                *({"name": name, "type": "lua", "param": path, "uses": ["down"]} for name in DICTS)]

    def down(self, yes, table="all"):
        with self.mux.dict("down") as client:
            client.change(1, ("set", f"shared/{table}", "1") if yes else ("unset", f"shared/{table}"))


if __name__ == "__main__":
    unittest.main()
