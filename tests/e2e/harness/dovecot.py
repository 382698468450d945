"""Dovecot 2.3: `doveadm dict`, and a private instance with IMAP on a port of its own. Needs root."""

import os
import pwd

from .base import Daemon, answers, free_port, on_cleanup, program, run, tempdir
from .wire import Imap

MAIL_USER = "mail"      # owns the mailboxes; a user that every Debian has

BASE = """\
base_dir = {dir}/run
state_dir = {dir}/state
log_path = {dir}/dovecot.log
listen = 127.0.0.1
ssl = no
protocols =
stats_writer_socket_path =
"""

CONF = """\
base_dir = {dir}/run
state_dir = {dir}/state
log_path = {dir}/dovecot.log
listen = 127.0.0.1
ssl = no
protocols = imap
disable_plaintext_auth = no
auth_mechanisms = plain login
auth_failure_delay = 0
auth_cache_size = 0
first_valid_uid = 1
first_valid_gid = 1
mail_location = maildir:{dir}/mail/%u
service imap-login {{
  inet_listener imap {{
    address = 127.0.0.1
    port = {port}
  }}
  inet_listener imaps {{
    port = 0
  }}
  chroot =
}}
service anvil {{
  chroot =
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
service stats {{
  chroot =
}}
"""


class Doveadm:
    """`doveadm dict` against a socket, without a running Dovecot."""

    def __init__(self, case):
        self.dir = tempdir(case)
        self.conf = os.path.join(self.dir, "dovecot.conf")
        with open(self.conf, "w", encoding="utf-8") as file:
            file.write(BASE.format(dir=self.dir))

    def dict(self, *args):
        """The finished `doveadm dict ARGS`."""
        return run([program("doveadm", "dovecot-core"), "-c", self.conf, "dict", *args], timeout=60)


class Dovecot:
    """A private Dovecot; settings is text that is added to its configuration, with {dir} replaced."""

    def __init__(self, case, settings, files=None):
        self.dir, self.port = tempdir(case), free_port()
        owner = pwd.getpwnam(MAIL_USER)
        os.mkdir(os.path.join(self.dir, "mail"))
        os.chown(os.path.join(self.dir, "mail"), owner.pw_uid, owner.pw_gid)
        for name, content in (files or {}).items():
            self.write(name, content)
        self.conf = self.write("dovecot.conf", CONF.format(dir=self.dir, port=self.port)
                               + settings.replace("{dir}", self.dir))
        self.daemon = Daemon([program("dovecot", "dovecot-core"), "-F", "-c", self.conf],
                             os.path.join(self.dir, "out"))
        on_cleanup(case, self.stop)
        self.daemon.wait_ready(lambda: answers(("127.0.0.1", self.port)))

    @staticmethod
    def user_fields():
        """What a userdb must say of the mail user."""
        owner = pwd.getpwnam(MAIL_USER)
        return {"uid": owner.pw_uid, "gid": owner.pw_gid}

    def write(self, name, content):
        path = os.path.join(self.dir, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(content)
        return path

    def log(self):
        try:
            with open(os.path.join(self.dir, "dovecot.log"), encoding="utf-8", errors="replace") as file:
                return file.read()
        except FileNotFoundError:
            return self.daemon.log()

    def imap(self):
        return Imap(("127.0.0.1", self.port))

    def login(self, user, password):
        """(status, text) of a LOGIN on a connection of its own."""
        with self.imap() as client:
            status, text, _ = client.command(f'LOGIN "{user}" "{password}"')
        return status, text

    def doveadm(self, *args):
        """The finished `doveadm ARGS` on this instance."""
        return run([program("doveadm", "dovecot-core"), "-c", self.conf, *args], timeout=60)

    def stop(self):
        self.daemon.end()
