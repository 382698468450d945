"""Postfix: postmap, and a private instance with an smtpd on a port of its own. Needs root."""

import os
import signal
import smtplib
import time

from .base import free_port, on_cleanup, program, run, tempdir, wait_until

MAIN = """\
compatibility_level = 3.6
queue_directory = {queue}
data_directory = {dir}/d
command_directory = {command_directory}
daemon_directory = {daemon_directory}
meta_directory = {meta_directory}
mail_owner = postfix
setgid_group = postdrop
maillog_file = {dir}/log/mail.log
maillog_file_prefixes = {dir}
syslog_name = mapmuxtest
myhostname = mx.example.test
myorigin = example.test
mydestination =
mynetworks = 192.0.2.0/24
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
alias_maps =
alias_database =
local_recipient_maps =
biff = no
smtp_dns_support_level = disabled
smtp_host_lookup = native
default_transport = discard:
relay_transport = discard:
local_transport = discard:
virtual_transport = discard:
service_throttle_time = 1s
default_process_limit = 4
smtpd_relay_restrictions = permit_mynetworks, permit_sasl_authenticated, reject_unauth_destination
"""

MASTER = """\
127.0.0.1:{port} inet n - {chroot} - - smtpd
cleanup  unix n - {chroot} - 0 cleanup
qmgr     unix n - n 300 1 qmgr
rewrite  unix - - {chroot} - - trivial-rewrite
bounce   unix - - n - 0 bounce
defer    unix - - n - 0 bounce
trace    unix - - n - 0 bounce
verify   unix - - n - 1 verify
proxymap unix - - n - - proxymap
error    unix - - n - - error
retry    unix - - n - - error
discard  unix - - n - - discard
smtp     unix - - n - - smtp
relay    unix - - n - - smtp
lmtp     unix - - n - - lmtp
anvil    unix - - n - 1 anvil
tlsmgr   unix - - n 1000? 1 tlsmgr
showq    unix n - n - - showq
postlog  unix-dgram n - n - 1 postlogd
"""


def write_settled(path, text):
    """Writes a Postfix file with an age: programs wait for one that has just been changed."""
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    past = time.time() - 60
    os.utime(path, (past, past))


class Postmap:
    """`postmap -q` with an empty configuration of its own."""

    def __init__(self, case):
        self.dir = tempdir(case)
        write_settled(os.path.join(self.dir, "main.cf"), "compatibility_level = 3.6\n")

    def query(self, key, *maps, stdin=b""):
        """The finished `postmap -q KEY MAP...`."""
        return run([program("postmap", "postfix"), "-c", self.dir, "-q", key, *maps], stdin=stdin)


class Postfix:
    """A private Postfix; settings are added to main.cf, links to directories to its queue.

    chroot: a directory for the queue, in which smtpd, cleanup and trivial-rewrite are locked up as Debian's are.
    """

    def __init__(self, case, settings, links=None, chroot=None):
        self.dir, self.port = tempdir(case), free_port()
        self.etc = os.path.join(self.dir, "etc")
        for name in ("etc", "d", "log"):
            os.mkdir(os.path.join(self.dir, name))
        self.queue = chroot or os.path.join(self.dir, "q")
        os.makedirs(self.queue, exist_ok=True)
        for name, target in (links or {}).items():
            os.symlink(target, os.path.join(self.queue, name))
        run(["chown", "postfix", os.path.join(self.dir, "d")]).check_returncode()
        names = ("command_directory", "daemon_directory", "meta_directory")
        found = run([program("postconf", "postfix"), "-d", "-h", *names])
        defaults = dict(zip(names, found.stdout.decode().split("\n")))
        extra = "".join(f"{name} = {value}\n" for name, value in settings.items())
        write_settled(os.path.join(self.etc, "main.cf"), MAIN.format(dir=self.dir, queue=self.queue, **defaults) + extra)
        write_settled(os.path.join(self.etc, "master.cf"), MASTER.format(port=self.port, chroot="y" if chroot else "n"))
        self.pid = None
        on_cleanup(case, self.stop)
        self.control("start")
        self.pid = int(self.read(os.path.join(self.queue, "pid/master.pid")))
        wait_until(self.greets, lambda: "smtpd greets:\n" + self.log(), pause=0.05)

    def control(self, command):
        done = run([program("postfix", "postfix"), "-c", self.etc, command])
        assert done.returncode == 0, (done.stdout + done.stderr).decode() + self.log()

    def read(self, name):
        with open(os.path.join(self.dir, name), encoding="utf-8", errors="replace") as file:
            return file.read()

    def log(self):
        try:
            return self.read("log/mail.log")
        except FileNotFoundError:
            return "(no log)"

    def greets(self):
        try:
            with self.smtp():
                return True
        except (OSError, smtplib.SMTPException):
            return False

    def smtp(self):
        """A new SMTP session, after EHLO."""
        session = smtplib.SMTP("127.0.0.1", self.port, "client.example.test", timeout=20)
        session.ehlo()
        return session

    def reload(self):
        """New smtpd processes with empty caches for all sessions from now on."""
        seen = self.log().count("reload -- version")
        os.kill(self.pid, signal.SIGHUP)
        wait_until(lambda: self.log().count("reload -- version") > seen, "master reloads")

    def rcpt(self, recipient, sender="sender@elsewhere.test"):
        """The reply to RCPT: (code, text)."""
        with self.smtp() as session:
            code, text = session.mail(sender)
            if code == 250:
                code, text = session.rcpt(recipient)
        return code, text.decode()

    def send(self, recipient, sender="sender@elsewhere.test"):
        """A whole message: the first reply that is not 250, else that to the end of DATA."""
        with self.smtp() as session:
            code, text = session.mail(sender)
            if code == 250:
                code, text = session.rcpt(recipient)
            if code == 250:
                code, text = session.data(f"From: {sender}\r\nTo: {recipient}\r\nSubject: x\r\n\r\nx\r\n")
        return code, text.decode()

    def stop(self):
        """Ends master, and so all its processes, by its pid."""
        if self.pid is None:
            try:
                self.pid = int(self.read(os.path.join(self.queue, "pid/master.pid")))
            except (FileNotFoundError, ValueError):
                return
        try:
            os.kill(self.pid, signal.SIGTERM)
        except ProcessLookupError:
            return

        def gone():
            try:
                os.kill(self.pid, 0)
                with open(f"/proc/{self.pid}/stat", encoding="ascii") as file:
                    return file.read().rpartition(")")[2].split()[0] == "Z"
            except (ProcessLookupError, FileNotFoundError):
                return True
        wait_until(gone, "master ends")
