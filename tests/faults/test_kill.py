"""mapmux is killed under a steady load and started again: mail is deferred, and nothing worse."""

import os
import random
import signal
import smtplib
import threading
import time
import unittest

from harness import Mapmux, free_port, tempdir
from harness.dovecot import Dovecot
from harness.mapmux import document
from harness.nginx import Nginx
from harness.postfix import Postfix
from harness.wire import Closed
from test_dovecot_auth import DRIVERS, NEW_FORM

from load import FaultCase

KEYS = 211
DOMAIN = "ours.test"
KILLS = 3


class Sessions:
    """Something done again and again in threads: counts what came of it, by its name."""

    def __init__(self, case, work, threads):
        self.work, self.stopped, self.lock, self.counts = work, threading.Event(), threading.Lock(), {}
        self.threads = [threading.Thread(target=self.run, daemon=True) for _ in range(threads)]
        case.addCleanup(self.stopped.set)
        for thread in self.threads:
            thread.start()

    def run(self):
        while not self.stopped.wait(0.02):
            for outcome in self.work():
                with self.lock:
                    self.counts[outcome] = self.counts.get(outcome, 0) + 1

    def stop(self):
        self.stopped.set()
        for thread in self.threads:
            thread.join(60)
        return self.counts


class Killed(FaultCase):
    """kill -9, half a second of nothing, a new process on the same sockets."""

    def setUp(self):
        super().setUp()
        self.nginx = Nginx(self, {f"/load/k{number}": f"v{number}" for number in range(KEYS)})
        where, port = tempdir(self), free_port()
        self.paths = {name: os.path.join(where, name) for name in ("socketmap", "dict")}
        self.inet = f"127.0.0.1:{port}"
        self.config = document({
            "threads": 2,
            "listeners": [{"protocol": "socketmap", "address": "unix:" + self.paths["socketmap"], "mode": "0666"},
                          {"protocol": "dict", "address": "unix:" + self.paths["dict"], "mode": "0666"},
                          {"protocol": "socketmap", "address": self.inet}],
            "tables": [{"name": name, "type": "url", "param": f"{self.nginx.url}/{name}/{{}}"}
                       for name in ("load", "domain", "mailbox", "auth")]})
        self.mux = Mapmux(self, config=self.config)
        self.load(self.paths["socketmap"], table="load", keys=KEYS)

    def kill(self):
        """So many times; the load and all clients go on."""
        for _ in range(KILLS):
            with self.fault(behind=0.5, settle=0.5):
                self.mux.kill(signal.SIGKILL)
                self.assertEqual(self.mux.ended(), -signal.SIGKILL)
                time.sleep(0.5)
                self.mux = Mapmux(self, config=self.config)

    def assert_load(self):
        """Answers are right or missing, and missing only while nobody was there to give them."""
        line, = self.timelines()
        self.assert_true_answers(line, lost=True)
        self.assert_steady(line)
        for column in ("lost", "refused"):
            self.assertEqual(line.outside(column, self.faults), {}, str(line))
        self.assertEqual(line.total("temp"), 0, str(line))
        self.assertGreater(line.total("refused"), 0, str(line))

    def test_postfix(self):
        """A real smtpd, domains by the unix socket, mailboxes by TCP: 4xx at worst."""
        self.nginx.put(f"/domain/{DOMAIN}", DOMAIN)
        for number in range(KEYS):
            self.nginx.put(f"/mailbox/k{number}@{DOMAIN}", "yes")
        postfix = Postfix(self, {
            "smtpd_error_sleep_time": "0", "in_flow_delay": "0",        # it would sleep most of the time
            "virtual_mailbox_domains": f"socketmap:unix:{self.paths['socketmap']}:domain",
            "virtual_mailbox_maps": f"socketmap:inet:{self.inet}:mailbox"})

        def dialogue():
            """What smtpd says of a recipient who exists, and of one who does not."""
            number = random.randrange(KEYS)
            try:
                with postfix.smtp() as session:
                    session.mail(f"sender{number}@elsewhere.test")
                    yield "known", session.rcpt(f"k{number}@{DOMAIN}")[0]
                    yield "unknown", session.rcpt(f"x{number}@{DOMAIN}")[0]
            except (OSError, smtplib.SMTPException):
                yield "no session", 421      # a client that sees this tries again as well
        sessions = Sessions(self, dialogue, 4)
        self.kill()
        counts = sessions.stop()
        known, unknown = ({code for who, code in counts if who == name} for name in ("known", "unknown"))
        self.assertIn(250, known, counts)
        self.assertIn(451, known, f"the fault had no effect: {counts}")
        self.assertIn(550, unknown, counts)
        self.assertEqual({code for code in known if code != 250 and not 400 <= code < 500}, set(), counts)
        self.assertEqual({code for code in unknown if code != 550 and not 400 <= code < 500}, set(), counts)
        self.assertEqual(postfix.rcpt(f"k1@{DOMAIN}", sender="last@elsewhere.test")[0], 250)
        self.assert_load()

    def test_dovecot(self):
        """A login waits for the new process, or is told to try later: the right password is never called
        wrong, and a wrong one never right."""
        self.nginx.put("/auth/passdb/alice", {"password": "{PLAIN}secret"})
        self.nginx.put("/auth/userdb/alice", {**Dovecot.user_fields(), "home": "/nonexistent/alice"})
        dovecot = Dovecot(self, DRIVERS, {"auth.conf.ext": NEW_FORM.format(socket=self.paths["dict"])})

        def login():
            password = random.choice(("secret", "wrong"))
            try:
                status, text = dovecot.login("alice", password)
                yield password, status, text[:text.find("]") + 1] if status == "NO" else ""
            except (OSError, Closed):
                yield password, "closed", ""
        sessions = Sessions(self, login, 6)
        self.kill()
        counts = sessions.stop()
        later = {("NO", "[UNAVAILABLE]"), ("closed", "")}
        right, wrong = ({tuple(said) for who, *said in counts if who == name} for name in ("secret", "wrong"))
        self.assertIn(("OK", ""), right, counts)
        self.assertLessEqual(right, {("OK", ""), *later}, counts)
        self.assertIn(("NO", "[AUTHENTICATIONFAILED]"), wrong, counts)
        self.assertLessEqual(wrong, {("NO", "[AUTHENTICATIONFAILED]"), *later}, counts)
        self.assertEqual(dovecot.login("alice", "secret")[0], "OK")
        self.assert_load()


if __name__ == "__main__":
    unittest.main()
