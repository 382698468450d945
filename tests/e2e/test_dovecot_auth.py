"""Logins over IMAP whose passwords and users come from mapmux: an url table at nginx."""

import unittest

from harness import Case, serve
from harness.dovecot import Dovecot
from harness.nginx import Nginx

DRIVERS = """
passdb {
  driver = dict
  args = {dir}/auth.conf.ext
}
userdb {
  driver = dict
  args = {dir}/auth.conf.ext
}
"""

NEW_FORM = """
uri = proxy:{socket}:auth
default_pass_scheme = CRYPT
iterate_prefix = userdb/
key passdb {{
  key = passdb/%u
  format = json
}}
key userdb {{
  key = userdb/%u
  format = json
}}
key quota {{
  key = quota/%u
  default_value = 100M
}}
passdb_objects = passdb
userdb_objects = userdb
userdb_fields {{
  quota_rule = *:storage=%{{dict:quota}}
}}
"""

OLD_FORM = """
uri = proxy:{socket}:auth
default_pass_scheme = CRYPT
password_key = passdb/%u
user_key = userdb/%u
value_format = json
iterate_prefix = userdb/
"""


class Login(Case):
    """The configuration with named keys, and the older one."""

    @classmethod
    def setUpClass(cls):
        cls.nginx = Nginx(cls, {"/dovecot/userdb/": ["alice", "bob@example.test"]})
        for name, password in (("alice", "{PLAIN}secret"), ("bob@example.test", "{PLAIN}pass word")):
            cls.nginx.put("/dovecot/passdb/" + name, {"password": password})
            cls.nginx.put("/dovecot/userdb/" + name, {**Dovecot.user_fields(), "home": "/nonexistent/" + name})
        cls.nginx.put("/dovecot/passdb/nohome", {"password": "{PLAIN}secret"})
        cls.nginx.put("/dovecot/quota/bob@example.test", "5M")
        cls.mux = serve(cls, [{"name": "auth", "type": "url", "param": cls.nginx.url + "/dovecot/{}"}], ("dict",))
        cls.dovecot = {form: Dovecot(cls, DRIVERS, {"auth.conf.ext": text.format(socket=cls.mux.paths["dict"])})
                       for form, text in (("new", NEW_FORM), ("old", OLD_FORM))}

    def each(self):
        for form, dovecot in self.dovecot.items():
            with self.subTest(form=form):
                yield dovecot

    def refused(self, dovecot, user, password, code):
        status, text = dovecot.login(user, password)
        self.assertEqual(status, "NO", text)
        self.assertIn(f"[{code}]", text, dovecot.log()[-2000:])

    def accepted(self, dovecot, user, password):
        status, text = dovecot.login(user, password)
        self.assertEqual(status, "OK", text + dovecot.log()[-2000:])

    def test_right_password(self):
        for dovecot in self.each():
            self.accepted(dovecot, "alice", "secret")
            self.accepted(dovecot, "bob@example.test", "pass word")
            self.accepted(dovecot, "BOB@Example.Test", "pass word")

    def test_mailbox_is_open(self):
        for dovecot in self.each():
            with dovecot.imap() as client:
                self.assertEqual(client.command("LOGIN alice secret")[0], "OK")
                self.assertEqual(client.command("SELECT INBOX")[0], "OK", dovecot.log()[-2000:])

    def test_wrong_password(self):
        for dovecot in self.each():
            self.refused(dovecot, "alice", "wrong", "AUTHENTICATIONFAILED")
            self.refused(dovecot, "alice", "", "AUTHENTICATIONFAILED")

    def test_unknown_user(self):
        for dovecot in self.each():
            self.refused(dovecot, "carol", "secret", "AUTHENTICATIONFAILED")
            self.refused(dovecot, "..%2fpassdb%2falice", "secret", "AUTHENTICATIONFAILED")

    def test_user_without_userdb_entry_fails(self):
        for dovecot in self.each():
            self.assertEqual(dovecot.login("nohome", "secret")[0], "NO")

    def test_failing_backend_is_not_a_wrong_password(self):
        self.nginx.down(True)
        try:
            for dovecot in self.each():
                self.refused(dovecot, "alice", "secret", "UNAVAILABLE")
        finally:
            self.nginx.down(False)
        for dovecot in self.each():
            self.accepted(dovecot, "alice", "secret")

    def test_dead_backend_is_not_a_wrong_password(self):
        self.nginx.stop()
        try:
            for dovecot in self.each():
                self.refused(dovecot, "alice", "secret", "UNAVAILABLE")
        finally:
            self.nginx.start()
        for dovecot in self.each():
            self.accepted(dovecot, "alice", "secret")

    def test_users_are_listed(self):
        for dovecot in self.each():
            done = dovecot.doveadm("user", "*")
            self.assertEqual((done.returncode, sorted(done.stdout.decode().split())), (0, ["alice", "bob@example.test"]),
                             done.stderr)
            done = dovecot.doveadm("user", "a*")
            self.assertEqual((done.returncode, done.stdout.decode().split()), (0, ["alice"]), done.stderr)

    def test_user_fields(self):
        for dovecot in self.each():
            done = dovecot.doveadm("user", "-f", "home", "alice")
            self.assertEqual((done.returncode, done.stdout.decode().strip()), (0, "/nonexistent/alice"), done.stderr)
            self.assertNotEqual(dovecot.doveadm("user", "carol").returncode, 0)

    def test_second_key_has_a_default_and_a_value(self):
        """`N` means the default of dovecot.conf; a value replaces it."""
        dovecot = self.dovecot["new"]
        for user, quota in (("alice", "100M"), ("bob@example.test", "5M")):
            done = dovecot.doveadm("user", "-f", "quota_rule", user)
            self.assertEqual(done.stdout.decode().strip(), f"*:storage={quota}", done.stderr)

    def test_many_logins_at_once(self):
        for dovecot in self.each():
            clients = [dovecot.imap() for _ in range(20)]
            try:
                for number, client in enumerate(clients):
                    password = "secret" if number % 2 else "wrong"
                    client.send(b"a LOGIN alice %b\r\n" % password.encode())
                for number, client in enumerate(clients):
                    answer = client.until(b"\r\n")
                    self.assertTrue(answer.startswith(b"a OK" if number % 2 else b"a NO"), answer)
            finally:
                for client in clients:
                    client.close()


if __name__ == "__main__":
    unittest.main()
