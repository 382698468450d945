"""In place of podop: Mailu's own tables, by podop's command line and by what `mapmux convert podop` prints for it, asked by
postmap, a private Postfix, doveadm and a private Dovecot. Where the two differ stands in docs/migrate.md."""

import concurrent.futures
import json
import os
import re
import smtplib
import threading
import unittest

from harness import Backend, Case, Dict, Mapmux, Reply, Socketmap, free_port, tempdir, wait_until
from harness.backend import as_json
from harness.dovecot import Doveadm, Dovecot
from harness.mapmux import mapmux
from harness.postfix import Postfix, Postmap

POSTFIX = {"transport": "transport", "alias": "alias", "dane": "dane", "domain": "domain", "mailbox": "mailbox",
           "recipientmap": "recipient/map", "sendermap": "sender/map", "senderlogin": "sender/login",
           "senderrate": "sender/rate"}
DOVECOT = ("quota", "auth", "sieve")
TOO_FAST = "450 4.2.1 You are sending too many emails too fast."
SIEVE = 'require ["fileinto", "mailbox"];\r\nif header :contains "subject" "junk" {\r\n\tfileinto :create "Junk";\r\n}\r\n'
MAIL = "From: a@remote.test\r\nSubject: {}\r\n\r\nx\r\n"

MAIN = {    # its lines of main.cf, but for the path
    "virtual_alias_domains": "", "virtual_alias_maps": "${podop}alias", "virtual_mailbox_domains": "${podop}domain",
    "virtual_mailbox_maps": "${podop}mailbox", "relay_domains": "${podop}transport", "transport_maps": "${podop}transport",
    "sender_canonical_maps": "${podop}sendermap", "sender_canonical_classes": "envelope_sender",
    "recipient_canonical_maps": "${podop}recipientmap", "recipient_canonical_classes": "envelope_recipient,header_recipient",
    "smtpd_sender_login_maps": "${podop}senderlogin", "recipient_delimiter": "+",
    "smtpd_sender_restrictions": "reject_sender_login_mismatch", "smtpd_recipient_restrictions": "check_sasl_access ${podop}senderrate"}

DOVECOT_CONF = """
protocols = imap lmtp
mail_uid = mail
mail_gid = mail
mail_home = {dir}/mail/%u
mail_plugins = $mail_plugins quota quota_clone
auth_username_chars =
passdb {
  driver = dict
  args = {dir}/auth.conf
}
userdb {
  driver = dict
  args = {dir}/auth.conf
}
service lmtp {
  chroot =
  unix_listener {dir}/lmtp {
    mode = 0600
  }
}
protocol lmtp {
  mail_plugins = $mail_plugins sieve
}
plugin {
  quota = count:User quota
  quota_vsizes = yes
  quota_clone_dict = proxy:{socket}:quota
  sieve = file:~/sieve;active=~/.dovecot.sieve
  sieve_before = dict:proxy:{socket}:sieve
}
"""

AUTH_CONF = """\
uri = proxy:{socket}:auth
iterate_prefix = userdb/
default_pass_scheme = plain
password_key = passdb/%u
user_key = userdb/%u
"""


class Mailu:
    """The admin's internal API, as podop is used with it."""

    def __init__(self, case):
        self.users = {"alice@example.org": "127.0.0.0/8", "far@example.org": "192.0.2.0/24", "o'd?d§@example.org": "127.0.0.0/8"}
        self.rates, self.special = {}, {}       # hits by login; replies by path
        self.lock = threading.Lock()
        self.backend = Backend(case, self.answer)
        self.url = self.backend.url + "/internal"

    def answer(self, request):
        place, _, rest = request.plain_path.removeprefix("/internal/").partition("/")
        if request.plain_path in self.special:
            return self.special[request.plain_path]
        if place == "dovecot":
            return self.dovecot(request, rest)
        table, _, key = rest.rpartition("/")
        return getattr(self, table.replace("/", "_"))(key.lower())

    @staticmethod
    def domain(name):
        return name if name == "example.org" else None

    def mailbox(self, address):
        return address if address in self.users else None

    def alias(self, address):
        if "@" not in address:
            return address
        return {"info@example.org": "alice@example.org,bob@remote.test"}.get(address) or self.mailbox(address)

    @staticmethod
    def transport(key):
        if key.endswith("bad.test"):
            return Reply(status=400)            # its stored target is wrong
        return "smtp:[127.0.0.1]:25" if key.endswith("relay.test") else None

    @staticmethod
    def dane(name):
        return "dane-only" if name == "secure.test" else None

    @staticmethod
    def recipient_map(address):
        return "sender@remote.test" if address == "srs0=x@example.org" else None

    @staticmethod
    def sender_map(address):
        return "SRS0=x@example.org" if address.endswith("@remote.test") else None

    def sender_login(self, address):
        return address if address in self.users else None

    def sender_rate(self, login):
        """Counts one hit for each question."""
        with self.lock:
            self.rates[login] = self.rates.get(login, 0) + 1
            return TOO_FAST if self.rates[login] > 2 else None

    def dovecot(self, request, rest):
        what, _, key = rest.partition("/")
        user = key.rpartition("/")[2].lower()
        if request.method == "POST" and what == "quota":
            known = user in self.users and isinstance(request.json(), int)
            return as_json(None) if known else None
        if what == "passdb" and key in self.users:
            return {"password": None, "nopassword": "Y", "allow_real_nets": self.users[key]}
        if what == "userdb" and key in self.users:
            return {"quota_rule": "*:bytes=1000000"}
        if what == "userdb" and key == "":
            return sorted(self.users)
        if what == "sieve" and key.startswith("name/"):
            return key.split("/")[1]
        if what == "sieve" and key == "data/default/alice@example.org":
            return SIEVE
        return None


class Started(Case):
    """The same tests twice: by podop's command line, and by the YAML that is printed for it."""
    converted = False

    @classmethod
    def start(cls, mode, names):
        cls.mailu = Mailu(cls)
        cls.path = os.path.join(tempdir(cls), "podop.socket")
        args = ["--socket", cls.path, "--mode", mode]
        for name in names:
            route = "dovecot/§" if mode == "dovecot" else f"postfix/{POSTFIX[name]}/§"
            args += ["--name", name, "--type", "url", "--param", f"{cls.mailu.url}/{route}"]
        if cls.converted:
            done = mapmux("convert", "podop", *args)
            assert (done.returncode, done.stderr) == (0, b""), done.stderr
            cls.mux = Mapmux(cls, config=done.stdout.decode())
        else:
            cls.mux = Mapmux(cls, *args)
        os.chmod(cls.path, 0o666)       # as with podop, client and server would be one user


class Direct(Started):
    """Postfix's side."""

    @classmethod
    def setUpClass(cls):
        cls.start("postfix", POSTFIX)
        cls.postmap = Postmap(cls)

    def test_tables(self):
        """Each of them, by postmap. Keys are quoted, but for their slashes."""
        self.mailu.special["/internal/postfix/mailbox/s/l a+sh@example.org"] = as_json("slash")
        rows = [("transport", "relay.test", "smtp:[127.0.0.1]:25"), ("transport", "*", None),
                ("alias", "info@example.org", "alice@example.org,bob@remote.test"), ("alias", "no@example.org", None),
                ("alias", "example.org", "example.org"),
                ("dane", "secure.test", "dane-only"), ("dane", "remote.test", None),
                ("domain", "example.org", "example.org"), ("domain", "[192.0.2.1]", None),
                ("mailbox", "Alice@Example.ORG", "alice@example.org"), ("mailbox", "alice+x@example.org", None),
                ("mailbox", "o'd?d§@example.org", "o'd?d§@example.org"), ("mailbox", "s/l a+sh@example.org", "slash"),
                ("recipientmap", "SRS0=x@example.org", "sender@remote.test"), ("recipientmap", "alice@example.org", None),
                ("sendermap", "sender@remote.test", "SRS0=x@example.org"), ("sendermap", "alice@example.org", None),
                ("senderlogin", "alice@example.org", "alice@example.org"), ("senderlogin", "<>", None)]
        with concurrent.futures.ThreadPoolExecutor(6) as pool:
            done = list(pool.map(lambda row: self.postmap.query(row[1], f"socketmap:unix:{self.path}:{row[0]}"), rows))
        for (table, key, value), result in zip(rows, done):
            with self.subTest(table=table, key=key):
                wanted = (1, "", b"") if value is None else (0, value + "\n", b"")
                self.assertEqual((result.returncode, result.stdout.decode(), result.stderr), wanted)
        targets = {request.target for request in self.mailu.backend.seen()}
        self.assertLessEqual({"/internal/postfix/mailbox/" + key for key in (
            "o%27d%3Fd%C2%A7%40example.org", "s/l%20a%2Bsh%40example.org", "Alice%40Example.ORG")}, targets)

    def test_rate(self):
        """One hit for each question."""
        with Socketmap(self.path) as client:
            self.assertEqual([client.ask("senderrate", "alice@example.org") for _ in range(4)],
                             [("NOTFOUND", ""), ("NOTFOUND", ""), ("OK", TOO_FAST), ("OK", TOO_FAST)])
        self.assertEqual(self.mailu.rates["alice@example.org"], 4)

    def test_failures(self):
        place = "/internal/postfix/mailbox/"
        replies = {"500": Reply('"x"', 500), "503": Reply(status=503), "204": Reply(status=204), "429": Reply(status=429),
                   "html": Reply("<html>", content_type="text/html"), "empty": Reply(""), "hangup": Reply(hangup=True)}
        self.mailu.special.update({f"{place}{key}@example.org": reply for key, reply in replies.items()})
        with Socketmap(self.path) as client:
            for key in replies:
                self.assertEqual(client.ask("mailbox", f"{key}@example.org")[0], "TEMP", key)
            self.assertEqual(client.ask("nosuch", "x"), ("PERM", "unknown table"))
            self.assertEqual(client.ask("mailbox", "alice@example.org"), ("OK", "alice@example.org"))
            asked = len(self.mailu.backend.seen())
            for key in ("../mailbox/alice@example.org", "..", ""):
                self.assertEqual(client.ask("mailbox", key), ("NOTFOUND", ""))
            self.assertEqual(len(self.mailu.backend.seen()), asked)

    def test_values(self):
        """Where podop said `OK None`, `OK ['a', 'b']` and the like."""
        rows = [(True, ("OK", "1")), (None, ("NOTFOUND", "")), (False, ("NOTFOUND", "")), ([], ("NOTFOUND", "")),
                ("", ("NOTFOUND", "")), (["a", "b"], ("OK", "a,b")), (5, ("OK", "5")), ({"a": 1}, "TEMP"), ("a\nb", "TEMP")]
        with Socketmap(self.path) as client:
            for number, (value, wanted) in enumerate(rows):
                self.mailu.special[f"/internal/postfix/mailbox/value{number}"] = as_json(value)
                said = client.ask("mailbox", f"value{number}")
                self.assertEqual(said if isinstance(wanted, tuple) else said[0], wanted, value)

    def test_postfix(self):
        """A private Postfix with Mailu's lines."""
        postfix = Postfix(self, {"podop": f"socketmap:unix:{self.path}:", **MAIN})
        for recipient, code in (("alice@example.org", 250), ("info@example.org", 250), ("nobody@example.org", 550),
                                ("any@relay.test", 250), ("any@other.test", 554),
                                ("any@bad.test", 451 if self.converted else 554)):
            with self.subTest(recipient=recipient):
                got, text = postfix.rcpt(recipient)
                self.assertEqual(got, code, text + postfix.log()[-2000:])
        self.assertEqual(postfix.send("alice@example.org", sender="sender@remote.test")[0], 250)
        wait_until(lambda: "from=<SRS0=x@example.org>" in postfix.log(), postfix.log)
        self.mailu.special["/internal/postfix/mailbox/late@example.org"] = Reply(status=500)
        code, text = postfix.rcpt("late@example.org")
        self.assertEqual((code, text[:6]), (451, "4.3.0 "))

    def test_postfix_with_a_login(self):
        """Who is logged in sends as himself, and so often."""
        where, port = tempdir(self), free_port()
        with open(os.path.join(where, "users"), "w", encoding="utf-8") as file:
            file.write("fast@example.org {PLAIN}secret\n")
        Mapmux(self, "--listen", f"sasl:127.0.0.1:{port},table=users", "--name", "users", "--type", "static",
               "--param", f"file:{where}/users", "--option", "passwords=yes")
        self.mailu.users["fast@example.org"] = ""
        postfix = Postfix(self, {"podop": f"socketmap:unix:{self.path}:", **MAIN, "smtpd_sasl_auth_enable": "yes",
                                 "smtpd_sasl_type": "dovecot", "smtpd_sasl_path": f"inet:127.0.0.1:{port}"})
        with postfix.smtp() as session:
            session.login("fast@example.org", "secret")
            session.mail("alice@example.org")
            self.assertEqual(session.rcpt("any@other.test")[0], 553, postfix.log()[-2000:])
            session.rset()
            session.mail("fast@example.org")
            self.assertEqual([session.rcpt(f"any{number}@other.test")[0] for number in range(3)], [250, 250, 450],
                             postfix.log()[-2000:])
        self.assertEqual(self.mailu.rates["fast@example.org"], 3)

    # where the two differ

    def test_statuses(self):
        with Socketmap(self.path) as client:
            for status in (400, 401, 403, 410, 422):
                self.mailu.special[f"/internal/postfix/mailbox/{status}"] = Reply(status=status)
                self.assertEqual(client.ask("mailbox", str(status))[0], "TEMP" if self.converted else "NOTFOUND", status)

    def test_redirects(self):
        """Within the service."""
        self.mailu.special["/internal/postfix/mailbox/moved"] = Reply(
            status=308, headers=[("Location", "/internal/postfix/mailbox/alice@example.org")])
        with Socketmap(self.path) as client:
            self.assertEqual(client.ask("mailbox", "moved")[0], "OK" if self.converted else "TEMP")

    def test_equal_questions_under_way(self):
        gate, place = threading.Event(), "/internal/postfix/sender/rate/same"
        self.addCleanup(gate.set)
        self.mailu.special[place] = Reply('"v"', gate=gate)
        with Socketmap(self.path) as client:
            client.send(b"15:senderrate same,15:senderrate same,")      # both are read before one is asked
            self.mailu.backend.wait_for(2 if self.converted else 1, plain_path=place)
            gate.set()
            self.assertEqual([client.reply(), client.reply()], [("OK", "v")] * 2)
        self.assertEqual(len(self.mailu.backend.seen(plain_path=place)), 2 if self.converted else 1)

    def test_lost_reads(self):
        place = "/internal/postfix/sender/rate/lost"
        self.mailu.special[place] = Reply(hangup=True)
        with Socketmap(self.path) as client:
            client.ask("senderrate", "first")       # leaves a connection behind
            self.assertEqual(client.ask("senderrate", "lost")[0], "TEMP")
        asked = len(self.mailu.backend.seen(plain_path=place))
        self.assertEqual(asked > 1, not self.converted, asked)

    def test_timeouts(self):
        done = mapmux("check", *self.mux.argv[1:])
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(re.findall(r"[ ,#]\s*timeout: (\w+)", done.stdout.decode()),
                         ["25s" if self.converted else "10s"] * len(POSTFIX))


class Converted(Direct):
    """The same by the YAML."""
    converted = True


class Alike(Case):
    """What docs/migrate.md says to set behind podop's own command line."""

    def test_options(self):
        statuses = {"bad": 400, "token": 401, "gone": 410, "busy": 429, "absent": 404}
        backend = Backend(self, lambda request: Reply(status=statuses[request.plain_path[1:]]))
        path = os.path.join(tempdir(self), "podop.socket")
        Mapmux(self, "--socket", path, "--mode", "postfix", "--name", "t", "--type", "url", "--param", backend.url + "/§",
               "--option", "status.4xx=temp", "--option", "status.410=temp", "--option", "side_effects=yes")
        with Socketmap(path) as client:
            self.assertEqual({key: client.ask("t", key)[0] for key in statuses},
                             {**dict.fromkeys(statuses, "TEMP"), "absent": "NOTFOUND"})


class DirectDict(Started):
    """Dovecot's side."""

    @classmethod
    def setUpClass(cls):
        cls.start("dovecot", DOVECOT)
        cls.doveadm = Doveadm(cls)

    def setUp(self):
        self.mailu.special.clear()
        self.mailu.backend.forget()

    def call(self, operation, table, *args, user=None):
        """(exit code, lines) of `doveadm dict`."""
        options = ["-u", user] if user else []
        done = self.doveadm.dict(operation, *options, f"proxy:{self.path}:{table}", *args)
        return done.returncode, [line.rstrip() for line in done.stdout.decode().splitlines()]

    def test_auth(self):
        code, text = self.call("get", "auth", "shared/passdb/alice@example.org")
        self.assertEqual((code, json.loads(text[0])), (0, {"password": None, "nopassword": "Y", "allow_real_nets": "127.0.0.0/8"}))
        code, text = self.call("get", "auth", "shared/userdb/o'd?d§@example.org")
        self.assertEqual((code, json.loads(text[0])), (0, {"quota_rule": "*:bytes=1000000"}))
        self.assertEqual(self.call("get", "auth", "shared/passdb/nobody@example.org")[0], 68)
        code, text = self.call("iter", "auth", "shared/userdb/")
        rows = [line.split("\t") for line in text[1:]]
        self.assertEqual((code, sorted(key for key, _ in rows)), (0, sorted("shared/userdb/" + user for user in self.mailu.users)))
        self.assertEqual({value for _, value in rows}, {'{"quota_rule":"*:bytes=1000000"}'})

    def test_quota(self):
        for key in ("storage", "messages"):
            self.assertEqual(self.call("set", "quota", f"priv/quota/{key}", "1234", user="alice@example.org"), (0, []))
        self.assertEqual([(request.line, request.body) for request in self.mailu.backend.seen()],
                         [(f"POST /internal/dovecot/quota/{key}/alice%40example.org HTTP/1.1", b"1234")
                          for key in ("storage", "messages")])
        self.assertEqual(self.mailu.backend.seen()[0].header("Content-Type"), "application/json")
        # podop said O to these
        self.assertEqual(self.call("set", "quota", "priv/quota/storage", "1", user="nobody@example.org")[0], 75)
        self.mailu.special["/internal/dovecot/quota/storage/alice@example.org"] = Reply(status=500)
        self.assertEqual(self.call("set", "quota", "priv/quota/storage", "1", user="alice@example.org")[0], 75)

    def test_sieve(self):
        self.assertEqual(self.call("get", "sieve", "priv/sieve/name/default", user="alice@example.org"), (0, ["default"]))
        for major in (2, 3, 4):
            with Dict(self.path, "sieve", major=major, user="alice@example.org") as client:
                self.assertEqual(client.lookup("priv/sieve/data/default", "alice@example.org").value, SIEVE)
        self.assertEqual(self.call("get", "sieve", "priv/sieve/data/default", user="far@example.org")[0], 68)

    def test_failures_are_said_at_once(self):
        """Where podop was silent, and Dovecot waited half a minute."""
        place = "/internal/dovecot/sieve/data/"
        replies = {"500": Reply(status=500), "503": Reply(status=503), "204": Reply(status=204), "429": Reply(status=429),
                   "html": Reply("<html>"), "hangup": Reply(hangup=True)}
        self.mailu.special.update({f"{place}{key}/alice": reply for key, reply in replies.items()})
        for major in (2, 3, 4):
            with Dict(self.path, "sieve", major=major, user="alice") as client:
                for key in replies:
                    self.assertEqual(client.lookup(f"priv/sieve/data/{key}", "alice").letter, "F", key)
                self.assertEqual(client.lookup("priv/sieve/name/x", "alice").value, "x")
        self.mailu.special["/internal/dovecot/userdb/"] = Reply(status=503)
        with Dict(self.path, "auth") as client:
            self.assertEqual(client.iterate("shared/userdb/").letter, "F")
            self.assertEqual(client.iterate("shared/passdb/").rows, [])     # 404
        with Dict(self.path, "nosuch") as client:
            client.line("Lshared/x", "")
            self.assertEqual(client.rest(), b"")        # closed, as podop did

    def test_what_podop_did_not_speak(self):
        """Flags of an iteration, unset, rollback, and 2.4's transactions."""
        with Dict(self.path, "auth", major=4) as client:
            names = client.iterate("shared/userdb/", flags=8).rows
            self.assertEqual(len(names), len(self.mailu.users))
            self.assertEqual(len(client.iterate("shared/userdb/", rows=1).rows), 1)
        with Dict(self.path, "quota", major=4) as client:
            client.begin(1, "alice@example.org")
            client.rollback(1)
            self.assertEqual(client.change(2, ("set", "priv/quota/storage", "7"), user="alice@example.org").letter, "O")
            self.assertEqual(client.change(3, ("unset", "priv/quota/storage"), user="alice@example.org").letter, "O")
            self.assertEqual(client.change(4, ("set", "priv/quota/storage", "no JSON"), user="alice@example.org").letter, "F")
        self.assertEqual([(request.method, request.body) for request in self.mailu.backend.seen(
            plain_path="/internal/dovecot/quota/storage/alice@example.org")],
            [("POST", b"7"), ("DELETE", b""), ("POST", b'"no JSON"')])

    def test_dovecot(self):
        """A private Dovecot with Mailu's lines: logins, a script of the dict, and what quota_clone sends."""
        dovecot = Dovecot(self, DOVECOT_CONF.replace("{socket}", self.path), {"auth.conf": AUTH_CONF.replace("{socket}", self.path)})
        user = "alice@example.org"
        self.assertEqual(dovecot.login(user, "whatever")[0], "OK", dovecot.log()[-3000:])
        for other in ("far@example.org", "nobody@example.org"):
            self.assertEqual(dovecot.login(other, "whatever")[0], "NO", other)
        done = dovecot.doveadm("user", "*")
        self.assertEqual(sorted(done.stdout.decode().split()), sorted(self.mailu.users))
        with smtplib.LMTP(os.path.join(dovecot.dir, "lmtp")) as client:
            for subject in ("hello", "junk"):
                client.ehlo()
                client.mail("a@remote.test")
                client.rcpt(user)
                self.assertEqual(client.data(MAIL.format(subject))[0], 250, dovecot.log()[-3000:])
        with dovecot.imap() as client:
            client.command(f'LOGIN "{user}" "whatever"')
            for mailbox in ("INBOX", "Junk"):
                self.assertIn(b"* 1 EXISTS", client.command(f"SELECT {mailbox}")[2])
        place = "/internal/dovecot/quota/messages/" + user
        wait_until(lambda: [request.body for request in self.mailu.backend.seen(plain_path=place)][-1:] == [b"2"], dovecot.log)


class ConvertedDict(DirectDict):
    """The same by the YAML."""
    converted = True


if __name__ == "__main__":
    unittest.main()
