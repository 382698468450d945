"""IMAP METADATA kept in a memory table: mail_attribute_dict, by SETMETADATA and GETMETADATA."""

import re
import unittest

from harness import Case, serve
from harness.dovecot import Dovecot

SETTINGS = """
passdb {{
  driver = static
  args = password=secret
}}
userdb {{
  driver = static
  args = uid={uid} gid={gid} home={{dir}}/mail/%u
}}
mail_attribute_dict = proxy:{socket}:attr
protocol imap {{
  imap_metadata = yes
}}
"""


def entries(untagged):
    """The entries of a METADATA answer; NIL is None."""
    found = {}
    at = untagged.index(b"(") + 1
    while untagged[at:at + 1] != b")":
        name = re.match(rb"\s*(\S+) ", untagged[at:])
        at += name.end()
        if untagged[at:].startswith(b"NIL"):
            value, at = None, at + 3
        elif untagged[at:at + 1] == b"{":
            size = int(re.match(rb"\{(\d+)\}\r\n", untagged[at:]).group(1))
            at = untagged.index(b"\r\n", at) + 2
            value, at = untagged[at:at + size], at + size
        else:
            quoted = re.match(rb'"((?:[^"\\]|\\.)*)"', untagged[at:])
            value, at = re.sub(rb"\\(.)", rb"\1", quoted.group(1)), at + quoted.end()
        found[name.group(1).decode()] = value
    return found


class Metadata(Case):
    """The mail processes connect with the mail user's uid, not as root."""

    def setUp(self):
        self.mux = serve(self, [{"name": "attr", "type": "memory", "param": ""}], ("dict",))
        self.dovecot = Dovecot(self, SETTINGS.format(socket=self.mux.paths["dict"], **Dovecot.user_fields()))

    def login(self, user):
        client = self.dovecot.imap()
        self.addCleanup(client.close)
        self.good(client, f"LOGIN {user} secret")
        return client

    def good(self, client, line, literal=None):
        status, text, untagged = client.command(line, literal)
        self.assertEqual(status, "OK", f"{line}: {text}\n{self.dovecot.log()[-3000:]}")
        return untagged

    def get(self, client, mailbox, *names):
        return entries(self.good(client, f"GETMETADATA {mailbox} ({' '.join(names)})"))

    def test_private_and_shared_entries(self):
        client = self.login("alice")
        self.good(client, 'SETMETADATA INBOX (/private/comment "my own")')
        self.good(client, 'SETMETADATA INBOX (/shared/comment "for \\"all\\" of us")')
        self.assertEqual(self.get(client, "INBOX", "/private/comment", "/shared/comment"),
                         {"/private/comment": b"my own", "/shared/comment": b'for "all" of us'})
        self.good(client, 'SETMETADATA INBOX (/private/comment "changed")')
        self.assertEqual(self.get(client, "INBOX", "/private/comment"), {"/private/comment": b"changed"})

    def test_mixed_entries_in_one_command(self):
        """Dovecot opens two transactions at once for this."""
        client = self.login("alice")
        self.good(client,
                  'SETMETADATA INBOX (/private/vendor/x/y "1" /private/vendor/x/z "2" /shared/vendor/x "3")')
        names = ("/private/vendor/x/y", "/private/vendor/x/z", "/shared/vendor/x")
        self.assertEqual(self.get(client, "INBOX", *names), dict(zip(names, (b"1", b"2", b"3"))))

    def test_deletion(self):
        client = self.login("alice")
        self.good(client, 'SETMETADATA INBOX (/private/comment "x" /shared/comment "y")')
        self.good(client, "SETMETADATA INBOX (/private/comment NIL)")
        self.assertEqual(self.get(client, "INBOX", "/private/comment", "/shared/comment"),
                         {"/private/comment": None, "/shared/comment": b"y"})

    def test_entries_outlive_the_session(self):
        self.good(self.login("alice"), 'SETMETADATA INBOX (/private/comment "kept")')
        self.assertEqual(self.get(self.login("alice"), "INBOX", "/private/comment"),
                         {"/private/comment": b"kept"})

    def test_users_are_apart(self):
        alice, bob = self.login("alice"), self.login("bob")
        for client, value in ((alice, "hers"), (bob, "his")):
            self.good(client, f'SETMETADATA INBOX (/private/comment "{value}")')
            self.good(client, f'SETMETADATA "" (/private/comment "server {value}")')
        for client, value in ((alice, b"hers"), (bob, b"his")):
            self.assertEqual(self.get(client, "INBOX", "/private/comment"), {"/private/comment": value})
            self.assertEqual(self.get(client, '""', "/private/comment"),
                             {"/private/comment": b"server " + value})

    def test_hard_bytes(self):
        client = self.login("alice")
        for value in (b"line1\r\nline2\r\n", b"tab\tand\x01soh", "ü日本".encode(), b'quote " and \\ back',
                      b"b" * 30000):
            self.good(client, "SETMETADATA INBOX (/private/big {})", value)
            self.assertEqual(self.get(client, "INBOX", "/private/big"), {"/private/big": value})

    def test_depth(self):
        client = self.login("alice")
        self.good(client,
                  'SETMETADATA INBOX (/private/vendor/x/y "1" /private/vendor/x/z "2" /private/vendorish "3")')
        found = entries(self.good(client, "GETMETADATA (DEPTH infinity) INBOX /private/vendor"))
        self.assertEqual({name: value for name, value in found.items() if value is not None},
                         {"/private/vendor/x/y": b"1", "/private/vendor/x/z": b"2"})

    def test_mailboxes_are_apart_and_deletion_clears(self):
        client = self.login("alice")
        self.good(client, "CREATE Box")
        self.good(client, 'SETMETADATA Box (/private/comment "box")')
        self.good(client, 'SETMETADATA INBOX (/private/comment "inbox")')
        self.assertEqual(self.get(client, "Box", "/private/comment"), {"/private/comment": b"box"})
        self.good(client, "RENAME Box Renamed")
        self.assertEqual(self.get(client, "Renamed", "/private/comment"), {"/private/comment": b"box"})
        self.good(client, "DELETE Renamed")
        self.assertEqual(self.get(client, "INBOX", "/private/comment"), {"/private/comment": b"inbox"})

    def test_without_mapmux_it_fails(self):
        client = self.login("alice")
        self.good(client, 'SETMETADATA INBOX (/private/comment "x")')
        self.mux.stop()
        self.assertEqual(client.command('SETMETADATA INBOX (/private/comment "y")')[0], "NO")


if __name__ == "__main__":
    unittest.main()
