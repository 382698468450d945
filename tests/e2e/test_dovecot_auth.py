"""Logins over IMAP whose passwords and users come from mapmux: an url table at nginx."""

import unittest

from harness import Case, serve
from harness.dovecot import Dovecot
from harness.nginx import Nginx
from harness.wire import Closed

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

SINGLE_VALUES = """
uri = proxy:{socket}:auth
default_pass_scheme = CRYPT
iterate_prefix = userdb/
key password {{
  key = password/%u
}}
key userdb {{
  key = userdb/%u
  format = json
}}
passdb_fields {{
  password = %{{dict:password}}
}}
userdb_objects = userdb
"""

OLD_FORM = """
uri = proxy:{socket}:auth
default_pass_scheme = CRYPT
password_key = passdb/%u
user_key = userdb/%u
value_format = json
iterate_prefix = userdb/
"""


class Login:
    """The tests, for one form of Dovecot's configuration."""
    FORM = None

    @classmethod
    def setUpClass(cls):
        cls.nginx = Nginx(cls, {"/dovecot/userdb/": ["alice", "bob@example.test"]})
        for name, password in (("alice", "{PLAIN}secret"), ("bob@example.test", "{PLAIN}pass word")):
            cls.nginx.put("/dovecot/passdb/" + name, {"password": password})
            cls.nginx.put("/dovecot/password/" + name, password)
            cls.nginx.put("/dovecot/userdb/" + name,
                          {**Dovecot.user_fields(), "home": "/nonexistent/" + name})
        cls.nginx.put("/dovecot/passdb/nohome", {"password": "{PLAIN}secret"})
        cls.nginx.put("/dovecot/password/nohome", "{PLAIN}secret")
        cls.nginx.put("/dovecot/quota/bob@example.test", "5M")
        cls.mux = serve(cls, [{"name": "auth", "type": "url", "param": cls.nginx.url + "/dovecot/{}"}],
                        ("dict",))
        cls.dovecot = Dovecot(cls, DRIVERS, {"auth.conf.ext": cls.FORM.format(socket=cls.mux.paths["dict"])})

    def refused(self, user, password, code):
        status, text = self.dovecot.login(user, password)
        self.assertEqual(status, "NO", text)
        self.assertIn(f"[{code}]", text, self.dovecot.log()[-2000:])

    def accepted(self, user, password):
        status, text = self.dovecot.login(user, password)
        self.assertEqual(status, "OK", text + self.dovecot.log()[-2000:])

    def test_right_password(self):
        self.accepted("alice", "secret")
        self.accepted("bob@example.test", "pass word")
        self.accepted("BOB@Example.Test", "pass word")

    def test_mailbox_is_open(self):
        with self.dovecot.imap() as client:
            self.assertEqual(client.command("LOGIN alice secret")[0], "OK")
            self.assertEqual(client.command("SELECT INBOX")[0], "OK", self.dovecot.log()[-2000:])

    def test_wrong_password(self):
        self.refused("alice", "wrong", "AUTHENTICATIONFAILED")
        self.refused("alice", "", "AUTHENTICATIONFAILED")

    def test_unknown_user(self):
        self.refused("carol", "secret", "AUTHENTICATIONFAILED")
        self.refused("..%2fpassdb%2falice", "secret", "AUTHENTICATIONFAILED")

    def test_user_without_userdb_entry_fails(self):
        try:
            status, text = self.dovecot.login("nohome", "secret")
        except Closed:          # Dovecot hangs up at times, having logged why
            return
        self.assertEqual(status, "NO", text)

    def test_failing_backend_is_not_a_wrong_password(self):
        self.nginx.down(True)
        try:
            self.refused("alice", "secret", "UNAVAILABLE")
        finally:
            self.nginx.down(False)
        self.accepted("alice", "secret")

    def test_dead_backend_is_not_a_wrong_password(self):
        self.nginx.stop()
        try:
            self.refused("alice", "secret", "UNAVAILABLE")
        finally:
            self.nginx.start()
        self.accepted("alice", "secret")

    def test_users_are_listed(self):
        done = self.dovecot.doveadm("user", "*")
        self.assertEqual((done.returncode, sorted(done.stdout.decode().split())),
                         (0, ["alice", "bob@example.test"]),
                         done.stderr)
        done = self.dovecot.doveadm("user", "a*")
        self.assertEqual((done.returncode, done.stdout.decode().split()), (0, ["alice"]), done.stderr)

    def test_user_fields(self):
        done = self.dovecot.doveadm("user", "-f", "home", "alice")
        self.assertEqual((done.returncode, done.stdout.decode().strip()), (0, "/nonexistent/alice"),
                         done.stderr)
        self.assertNotEqual(self.dovecot.doveadm("user", "carol").returncode, 0)

    def test_many_logins_at_once(self):
        clients = [self.dovecot.imap() for _ in range(20)]
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


class NewForm(Login, Case):
    """Named keys."""
    FORM = NEW_FORM

    def test_second_key_has_a_default_and_a_value(self):
        """`N` means the default of dovecot.conf; a value replaces it."""
        for user, quota in (("alice", "100M"), ("bob@example.test", "5M")):
            done = self.dovecot.doveadm("user", "-f", "quota_rule", user)
            self.assertEqual(done.stdout.decode().strip(), f"*:storage={quota}", done.stderr)


class SingleValues(Login, Case):
    """The password alone is a value, and a field of its own."""
    FORM = SINGLE_VALUES


class OldForm(Login, Case):
    """One key for passwords and one for users."""
    FORM = OLD_FORM


if __name__ == "__main__":
    unittest.main()
