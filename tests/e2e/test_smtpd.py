"""A private Postfix asks mapmux for its domains, mailboxes and aliases; nginx knows them."""

import os
import unittest

from harness import Case, Mapmux, free_port, tempdir
from harness.mapmux import document
from harness.nginx import Nginx
from harness.postfix import Postfix


class Smtpd(Case):
    """Each test has its own domain and sender: smtpd remembers what it was told of them."""

    @classmethod
    def setUpClass(cls):
        cls.nginx = Nginx(cls)
        path, port = os.path.join(tempdir(cls), "sm"), free_port()
        cls.mux = Mapmux(cls, config=document({
            "listeners": [{"protocol": "socketmap", "address": "unix:" + path, "mode": "0666"},
                          {"protocol": "socketmap", "address": f"127.0.0.1:{port}"}],
            "tables": [{"name": name, "type": "url", "param": f"{cls.nginx.url}/{name}/{{}}"}
                       for name in ("domain", "mailbox", "alias")]}))
        ways = {"unix": f"socketmap:unix:{path}", "inet": f"socketmap:inet:127.0.0.1:{port}"}
        cls.postfix = {way: Postfix(cls, {"virtual_alias_domains": "", "allow_percent_hack": "no",
                                          "allow_untrusted_routing": "yes",
                                          "virtual_mailbox_domains": f"{prefix}:domain",
                                          "virtual_mailbox_maps": f"{prefix}:mailbox",
                                          "virtual_alias_maps": f"{prefix}:alias"})
                       for way, prefix in ways.items()}

    def domain(self, name):
        """A domain with a mailbox `known` and aliases to it."""
        self.nginx.put(f"/domain/{name}", name)
        self.nginx.put(f"/mailbox/known@{name}", f"known@{name}")
        self.nginx.put(f"/alias/one@{name}", f"known@{name}")
        self.nginx.put(f"/alias/many@{name}", [f"known@{name}", "someone@elsewhere.test"])
        return name

    def expect(self, postfix, recipient, code, **kwargs):
        got, text = postfix.send(recipient, **kwargs)
        self.assertEqual(got, code, f"{recipient}: {got} {text}\n{postfix.log()[-3000:]}")
        return text

    def test_known_users_and_aliases_are_accepted(self):
        for way, postfix in self.postfix.items():
            name = self.domain(f"known-{way}.test")
            for user in ("known", "one", "many"):
                with self.subTest(way=way, user=user):
                    self.expect(postfix, f"{user}@{name}", 250)

    def test_unknown_users_are_refused(self):
        for way, postfix in self.postfix.items():
            with self.subTest(way=way):
                name = self.domain(f"unknown-{way}.test")
                text = self.expect(postfix, f"nobody@{name}", 550)
                self.assertIn("5.1.1", text)

    def test_unknown_domains_are_refused(self):
        for way, postfix in self.postfix.items():
            with self.subTest(way=way):
                self.expect(postfix, "someone@not-ours.test", 554)

    def test_hostile_addresses(self):
        """None of these is known, and none makes smtpd defer."""
        for way, postfix in self.postfix.items():
            name = self.domain(f"hostile-{way}.test")
            for local in ('"../mailbox/known"', '"a b"', "a%b", "known?x", "known#x", "known/../known",
                          '"<>"', "a+b"):
                with self.subTest(way=way, local=local):
                    self.expect(postfix, f"{local}@{name}", 550)

    def test_failing_backend_defers_and_comes_back(self):
        for way, postfix in self.postfix.items():
            with self.subTest(way=way):
                name = self.domain(f"failing-{way}.test")
                self.nginx.down(True)
                self.expect(postfix, f"known@{name}", 451, sender="one@failing.test")
                self.expect(postfix, f"nobody@{name}", 451, sender="two@failing.test")
                self.nginx.down(False)
                postfix.reload()
                self.expect(postfix, f"known@{name}", 250, sender="one@failing.test")
                self.expect(postfix, f"nobody@{name}", 550, sender="two@failing.test")

    def test_dead_backend_defers_and_comes_back(self):
        for way, postfix in self.postfix.items():
            with self.subTest(way=way):
                name = self.domain(f"dead-{way}.test")
                self.nginx.stop()
                self.expect(postfix, f"known@{name}", 451, sender="one@dead.test")
                self.nginx.start()
                postfix.reload()
                self.expect(postfix, f"known@{name}", 250, sender="one@dead.test")
                self.expect(postfix, f"nobody@{name}", 550, sender="two@dead.test")

    def test_many_recipients_in_one_session(self):
        for way, postfix in self.postfix.items():
            name = self.domain(f"many-{way}.test")
            for number in range(40):
                self.nginx.put(f"/mailbox/user{number}@{name}", "yes")
            with self.subTest(way=way), postfix.smtp() as session:
                session.mail("many@sender.test")
                for number in range(40):
                    self.assertEqual(session.rcpt(f"user{number}@{name}")[0], 250, number)
                    if number % 8 == 0:
                        self.assertEqual(session.rcpt(f"nobody{number}@{name}")[0], 550, number)
                self.assertEqual(session.data("Subject: x\r\n\r\nx\r\n")[0], 250)


if __name__ == "__main__":
    unittest.main()
