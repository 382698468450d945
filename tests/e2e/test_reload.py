"""SIGHUP: everything can change, nothing is lost, and what is wrong changes nothing."""

import grp
import itertools
import os
import pathlib
import pwd
import random
import re
import shutil
import signal
import socket
import stat
import threading
import time
import unittest

from harness import Backend, Case, Dict, Mapmux, Reply, Socketmap, free_port, tempdir, url, wait_until
from harness.backend import as_json
from harness.base import answers, run
from harness.mapmux import binary, document, sanitized
from harness.pki import Authority
from harness.wire import Closed

ROOT = pathlib.Path(__file__).resolve().parents[2]
DONE, FAILED = "reloaded: ", "nothing was changed"


def static(name, **pairs):
    return {"name": name, "type": "static", "entries": pairs}


class Reloaded(Case):
    """A mapmux whose file is written anew."""

    def setUp(self):
        self.dir = tempdir(self)
        self.clients = []

    def path(self, name):
        return os.path.join(self.dir, name)

    def listeners(self):
        """The same in most tests: a socket for each protocol."""
        return [{"protocol": name, "address": "unix:" + self.path(name), "mode": "0666"}
                for name in ("socketmap", "dict")]

    def write(self, name, text):
        """A file that is whole at any moment."""
        with open(self.path("new"), "w", encoding="utf-8") as file:
            file.write(text)
        os.rename(self.path("new"), self.path(name))
        return self.path(name)

    def write_config(self, tables, listeners=None, **settings):
        config = {"threads": 3, **settings}
        config["listeners"] = self.listeners() if listeners is None else listeners
        config["tables"] = tables
        return self.write("mapmux.yaml", document(config))

    def start(self, tables, listeners=None, args=(), env=None, **settings):
        file = self.write_config(tables, listeners, **settings)
        places = self.listeners() if listeners is None else listeners
        self.mux = Mapmux(self, *args, "-c", file, env=env, extra=[item["address"] for item in places])
        self.mux.wait_ready(lambda: " is ready" in self.mux.log())

    def hangup(self, word):
        """SIGHUP, and the log until it says how that ended."""
        before = len(self.mux.log())
        self.mux.kill(signal.SIGHUP)

        def ended():
            log = self.mux.log()[before:]
            return log if DONE in log or FAILED in log else None
        log = wait_until(ended, lambda: "the reload ends; log: " + self.mux.log()[before:])
        self.assertIn(word, log)
        return log

    def reload(self, tables, listeners=None, word=DONE, **settings):
        self.write_config(tables, listeners, **settings)
        return self.hangup(word)

    def socketmap(self):
        client = Socketmap(self.path("socketmap"))
        self.addCleanup(client.close)
        return client

    def dict(self, name):
        client = Dict(self.path("dict"), name)
        self.addCleanup(client.close)
        return client

    def ask(self, table, key):
        with Socketmap(self.path("socketmap")) as client:
            return client.ask(table, key)

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.mux.pid}/fd"))


class Values(Reloaded):
    """What clients see."""

    def test_kept_connections_see_the_new_values(self):
        self.start([static("t", k="1")])
        one, two, late = self.socketmap(), self.dict("t"), self.dict("u")
        self.assertEqual(one.ask("t", "k"), ("OK", "1"))
        self.assertEqual(two.lookup("shared/k").value, "1")
        for number in range(2, 6):
            self.reload([static("u", k=f"u{number}"), static("t", k=str(number))])
            self.assertEqual(one.ask("t", "k"), ("OK", str(number)))
            self.assertEqual(two.lookup("shared/k").value, str(number))
        self.assertEqual(one.ask("u", "k"), ("OK", "u5"))
        self.assertEqual(late.lookup("shared/k").value, "u5")   # its table came after its hello

    def test_a_removed_table(self):
        self.start([static("t", k="1"), static("u", k="2")])
        one, two, three = self.socketmap(), self.dict("t"), self.dict("u")
        self.assertEqual(two.lookup("shared/k").value, "1")
        self.reload([static("u", k="2")])
        self.assertEqual(one.ask("t", "k")[0], "PERM")
        self.assertEqual(one.ask("u", "k"), ("OK", "2"))
        with self.assertRaises(Closed):
            two.lookup("shared/k")
        self.assertEqual(three.lookup("shared/k").value, "2")
        self.reload([static("t", k="3")])
        self.assertEqual(one.ask("t", "k"), ("OK", "3"))

    def test_the_default_table_of_a_listener(self):
        where = {"protocol": "socketmap", "address": "unix:" + self.path("socketmap")}
        self.start([static("a", k="a"), static("b", k="b")], [dict(where, table="b")])
        client = self.socketmap()
        self.assertEqual(client.ask("", "k"), ("OK", "b"))
        self.reload([static("b", k="b"), static("a", k="a"), static("c", k="c")], [dict(where, table="c")])
        self.assertEqual(client.ask("", "k"), ("OK", "c"))
        self.reload([static("a", k="a")], [where])
        self.assertEqual(client.ask("", "k")[0], "PERM")

    def test_settings_of_the_protocol(self):
        """A limit that shrinks in the middle of a request ends the connection, not the daemon."""
        def listeners(request, line):
            both = self.listeners()
            both[0]["max_request"], both[1]["max_line"] = request, line
            return both
        self.start([static("t", k="1")], listeners("10k", "10k"))
        one, two, three = self.socketmap(), self.dict("t"), self.dict("t")
        one.send(b"5000:t " + b"x" * 100)
        two.send(b"Lshared/" + b"x" * 5000)
        three.send(b"Lshared/k")
        time.sleep(0.2)
        self.reload([static("t", k="1")], listeners("1k", "4k"))
        two.send(b"x")
        one.send(b"x")
        one.rest()                              # both end
        two.rest()
        three.send(b"\n")
        three.fill()
        self.assertIn(b"O1", three.got)
        client = self.socketmap()
        self.assertEqual(client.ask("t", "k"), ("OK", "1"))

    def test_idle_timeout(self):
        def listeners(timeout):
            return [dict(item, idle_timeout=timeout) for item in self.listeners()]
        self.start([static("t", k="1")], listeners("1h"))
        one = self.socketmap()
        self.assertEqual(one.ask("t", "k"), ("OK", "1"))
        time.sleep(0.3)
        self.reload([static("t", k="1")], listeners("300ms"))
        with self.assertRaises(Closed):
            one.fill()
        two = self.socketmap()
        self.reload([static("t", k="1")], listeners("0"))
        self.assertTrue(two.silent(0.8))
        self.assertEqual(two.ask("t", "k"), ("OK", "1"))

    def test_log_and_what_needs_a_restart(self):
        self.start([static("t", k="1")], log={"level": "info"})
        log = self.reload([static("t", k="1")], threads=2, user="root", log={"level": "info", "format": "json"})
        self.assertRegex(log, "threads.*restart")
        self.assertRegex(log, "user.*restart")
        self.assertIn('"msg":"reloaded: ', log)
        self.write_config([static("t", k="2")], threads=2, log={"level": "error"})
        self.mux.kill(signal.SIGHUP)
        client = self.socketmap()
        wait_until(lambda: client.ask("t", "k") == ("OK", "2"), "the new value")
        self.assertEqual(self.mux.log().count("reloaded: "), 1)

    def test_counters_go_on(self):
        self.start([static("t", k="1"), static("u", k="1")])
        client = self.socketmap()
        for number in range(3):
            client.ask("t", "k")
            client.ask("t", "none")
            self.reload([static("u", k=str(number)), static("t", k=str(number))])
        self.mux.kill(signal.SIGUSR1)
        wait_until(lambda: "table t (static): ok 3, notfound 3, temp 0, perm 0" in self.mux.log(),
                   lambda: self.mux.log())


class Slow(Reloaded):
    """Requests that are under way."""

    def setUp(self):
        super().setUp()
        self.gate = threading.Event()
        self.backend = Backend(self, self.answer)

    def answer(self, request):
        """/EDITION/KEY; a key that begins with "slow" is answered when the gate opens."""
        edition, key = request.path.strip("/").split("/")
        return as_json(f"{edition}:{key}", gate=self.gate if key.startswith("slow") else None)

    def edition(self, name, **options):
        return url("t", f"{self.backend.url}/{name}/{{}}", **options)

    def test_they_finish_with_the_old_tables(self):
        chain = {"name": "c", "type": "chain", "param": "none t"}
        self.start([static("none", a="b"), self.edition("one"), chain])
        one, two, three = self.socketmap(), self.dict("t"), self.socketmap()
        one.request("t", "slow1")
        one.request("none", "a")                # waits for its turn behind the slow one
        slow = two.start_lookup("shared/slow2")
        three.request("c", "slow3")
        for number in (1, 2, 3):
            self.backend.wait_for(path=f"/one/slow{number}")
        for number, name in enumerate(("two", "three", "four")):
            start = time.monotonic()
            self.reload([self.edition(name)] if number else [self.edition(name), static("none", a="c")])
            self.assertLess(time.monotonic() - start, 5)
            self.assertEqual(self.ask("t", "quick"), ("OK", f"{name}:quick"))
            self.assertEqual(two.lookup("shared/quick").value, f"{name}:quick")
        self.gate.set()
        self.assertEqual(one.reply(), ("OK", "one:slow1"))
        self.assertEqual(one.reply(), ("OK", "b"))
        self.assertEqual(three.reply(), ("OK", "one:slow3"))
        self.assertEqual(two.finish(slow).value, "one:slow2")
        self.assertEqual(one.ask("t", "k"), ("OK", "four:k"))
        self.assertEqual(one.ask("none", "a")[0], "PERM")

    def test_a_change_that_waits_keeps_its_table(self):
        """It was asked before the reload, behind a lookup."""
        self.start([self.edition("one")])
        client = self.dict("t")
        slow = client.start_lookup("shared/slow")
        self.backend.wait_for(path="/one/slow")
        client.begin(1)
        client.set(1, "shared/k", "v")
        commit = client.start_commit(1)
        client.begin(2)
        client.set(2, "shared/k2", "v")         # its commit comes later
        time.sleep(0.2)
        self.reload([self.edition("two")])
        self.gate.set()
        self.assertEqual(client.finish(slow).value, "one:slow")
        self.assertEqual(client.finish(commit).letter, "O")
        self.assertEqual(client.commit(2).letter, "O")
        self.assertEqual([request.path for request in self.backend.seen(method="POST")], ["/one/k", "/two/k2"])

    def test_a_change_that_only_waits_keeps_its_table(self):
        """Nothing else asks the tables that it was asked of."""
        self.start([self.edition("one")])
        client = self.dict("t")
        slow = client.start_lookup("shared/slow")
        self.backend.wait_for(path="/one/slow")
        self.reload([self.edition("two")])
        client.begin(1)
        client.set(1, "shared/k", "v")
        commit = client.start_commit(1)
        time.sleep(0.2)
        self.reload([self.edition("three")])
        time.sleep(0.2)
        self.gate.set()
        self.assertEqual(client.finish(slow).value, "one:slow")
        self.assertEqual(client.finish(commit).letter, "O")
        self.assertEqual(self.backend.wait_for(method="POST")[0].path, "/two/k")

    def test_deadlines_go_on(self):
        self.start([self.edition("one", timeout="1500ms")])
        client = self.socketmap()
        start = time.monotonic()
        client.request("t", "slow")
        self.backend.wait_for(path="/one/slow")
        self.reload([self.edition("two")])
        self.reload([self.edition("three")])
        self.assertEqual(client.reply()[0], "TEMP")
        self.assertTrue(1.0 < time.monotonic() - start < 5)
        self.assertEqual(client.ask("t", "k"), ("OK", "three:k"))

    def test_clients_that_leave(self):
        self.start([self.edition("one")])
        before = self.descriptors()
        for number in range(5):
            clients = [self.socketmap() for _ in range(6)]
            for client in clients:
                client.request("t", "slow")
            self.backend.wait_for(path=f"/{'one' if number == 0 else number}/slow")
            self.reload([self.edition(number + 1)])
            for client in clients:
                client.close()
        wait_until(lambda: self.descriptors() <= before + 6, lambda: f"{self.descriptors()} after {before}")
        self.assertEqual(self.ask("t", "k"), ("OK", "5:k"))

    def test_a_retired_listener_answers_what_was_asked(self):
        port = free_port()
        other = {"protocol": "socketmap", "address": f"127.0.0.1:{port}", "table": "t"}
        self.start([static("s", k="1"), self.edition("one")], [*self.listeners(), other])
        busy, idle = Socketmap(("127.0.0.1", port)), Socketmap(("127.0.0.1", port))
        self.addCleanup(busy.close)
        self.addCleanup(idle.close)
        self.assertEqual(idle.ask("s", "k"), ("OK", "1"))
        busy.request("", "slow")
        busy.request("s", "k")
        self.backend.wait_for(path="/one/slow")
        self.reload([self.edition("two")])      # neither the table s nor that listener
        self.assertFalse(answers(("127.0.0.1", port)))
        with self.assertRaises(Closed):
            idle.fill()
        self.reload([self.edition("three")])
        self.gate.set()
        self.assertEqual(busy.reply(), ("OK", "one:slow"))
        self.assertEqual(busy.reply(), ("OK", "1"))
        with self.assertRaises(Closed):
            busy.fill()
        self.reload([self.edition("four")], [*self.listeners(), other])
        with Socketmap(("127.0.0.1", port)) as client:
            self.assertEqual(client.ask("", "k"), ("OK", "four:k"))

    def test_a_retired_listener_does_not_wait_for_ever(self):
        where = self.path("other")
        other = {"protocol": "dict", "address": "unix:" + where, "mode": "0666"}
        self.start([self.edition("one")], [*self.listeners(), other], shutdown_timeout="1s")
        with Dict(where, "t") as client:
            client.start_lookup("shared/slow")
            self.backend.wait_for(path="/one/slow")
            self.reload([self.edition("two")], shutdown_timeout="1s")
            self.assertFalse(os.path.exists(where))
            start = time.monotonic()
            with self.assertRaises(Closed):
                client.fill()
            self.assertLess(time.monotonic() - start, 6)
        self.assertEqual(self.ask("t", "k"), ("OK", "two:k"))

    def test_term_while_tables_are_exchanged(self):
        for pause in (0, 0, 0.001, 0.01):
            with self.subTest(pause=pause):
                self.gate.clear()
                self.start([self.edition("one")], shutdown_timeout="500ms")
                clients = [self.socketmap() for _ in range(6)]
                for client in clients:
                    client.request("t", "slow")
                self.backend.wait_for(path="/one/slow")
                self.write_config([self.edition("two")], shutdown_timeout="500ms")
                self.mux.kill(signal.SIGHUP)
                time.sleep(pause)
                self.mux.kill(signal.SIGTERM)
                self.assertEqual(self.mux.ended(), 0)
                for client in clients:
                    client.close()
                self.backend.kill()
                self.backend = Backend(self, self.answer)


class Wrong(Reloaded):
    """What cannot be changes nothing."""

    def setUp(self):
        super().setUp()
        self.script = self.write("t.lua", "function lookup(key) return 'one ' .. key end")
        self.tables = [{"name": "l", "type": "lua", "param": self.script}, static("t", k="1")]
        self.start(self.tables)
        self.client = self.socketmap()
        self.check()

    def check(self):
        """All is as it was."""
        self.assertEqual(self.client.ask("t", "k"), ("OK", "1"))
        self.assertEqual(self.client.ask("l", "k"), ("OK", "one k"))
        self.assertEqual(self.ask("t", "k"), ("OK", "1"))
        self.assertEqual(sorted(os.listdir(self.dir)), ["dict", "mapmux.yaml", "socketmap", "t.lua"])

    def test_bad_files(self):
        new = static("t", k="2")
        for text, word in (("listeners: [\n", "mapmux.yaml:"), ("colour: red\n", "mapmux.yaml:1: colour"),
                           ("", "no listener")):
            self.write("mapmux.yaml", text)
            self.assertIn(word, self.hangup(FAILED))
            self.check()
        for table, word in (({"name": "l", "type": "lua", "param": self.path("none.lua")}, "none.lua"),
                            ({"name": "l", "type": "nosuch"}, "nosuch"),
                            (url("l", "http://127.0.0.1/{}", auth_token_file=self.path("none")), "none"),
                            ({"name": "l", "type": "chain", "param": "nowhere"}, "nowhere")):
            self.assertIn(word, self.reload([table, new], word=FAILED))
            self.check()
        os.unlink(self.path("mapmux.yaml"))
        self.assertIn("mapmux.yaml", self.hangup(FAILED))
        self.reload(self.tables)
        self.check()

    def test_broken_scripts(self):
        """One does not compile, one fails when a worker runs it."""
        for script in ("function lookup(key", "error('not today')", "x = nil + 1", "return 1"):
            self.write("t.lua", script)
            self.assertIn("t.lua", self.reload([self.tables[0], static("t", k="2")], word=FAILED))
            self.check()
        self.write("t.lua", "function lookup(key) return 'two ' .. key end")
        self.hangup(DONE)
        self.assertEqual(self.client.ask("l", "k"), ("OK", "two k"))
        self.assertEqual(self.client.ask("t", "k"), ("OK", "2"))

    def test_sockets_that_cannot_be_bound(self):
        """Those that could be bound are given up again, and modes are as they were."""
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            changed = [dict(item, mode="0600") for item in self.listeners()]
            more = [{"protocol": "socketmap", "address": "unix:" + self.path("more")},
                    {"protocol": "socketmap", "address": f"127.0.0.1:{port}"}]
            log = self.reload([static("t", k="2")], [*changed, *more], word=FAILED)
            self.assertIn(f"127.0.0.1:{port}: cannot bind", log)
        self.check()
        self.assertEqual(stat.S_IMODE(os.stat(self.path("dict")).st_mode), 0o666)
        nowhere = {"protocol": "dict", "address": "unix:" + self.path("none/dict")}
        self.reload(self.tables, [*self.listeners(), nowhere], word=FAILED)
        self.check()

    def test_nothing_of_it_stays(self):
        """Neither the tables that were opened already, nor the new form of the log."""
        nowhere = {"protocol": "dict", "address": "unix:" + self.path("none/dict")}
        before = self.descriptors()
        for number in range(5):
            log = self.reload([*self.tables, url("u", f"http://127.0.0.1/{number}/{{}}")],
                              [*self.listeners(), nowhere], word=FAILED, log={"format": "json"})
            self.assertNotIn('"msg":', log)
        wait_until(lambda: self.descriptors() <= before, lambda: f"{self.descriptors()} after {before}")
        self.check()

    def test_a_file_that_is_taken(self):
        """The place of a socket's file has something else in it by now."""
        os.rename(self.path("dict"), self.path("elsewhere"))
        self.write("dict", "precious")
        log = self.reload([static("t", k="2")], word=FAILED)
        self.assertIn("the file exists and is no socket", log)
        self.assertEqual(self.client.ask("t", "k"), ("OK", "1"))
        with open(self.path("dict"), encoding="ascii") as file:
            self.assertEqual(file.read(), "precious")
        os.rename(self.path("elsewhere"), self.path("dict"))
        self.hangup(DONE)
        self.assertEqual(self.client.ask("t", "k"), ("OK", "2"))


class Listeners(Reloaded):
    """Sockets come, go, and change."""

    def test_one_comes_and_one_goes(self):
        self.start([static("t", k="1")])
        client, other = self.socketmap(), self.dict("t")
        new = {"protocol": "socketmap", "address": f"127.0.0.1:{free_port()}"}
        where = ("127.0.0.1", int(new["address"].split(":")[1]))
        log = self.reload([static("t", k="2")], [self.listeners()[0], new])
        self.assertIn("listening on socketmap:127.0.0.1", log)
        self.assertIn("listening no more on dict:unix", log)
        with Socketmap(where) as late:
            self.assertEqual(late.ask("t", "k"), ("OK", "2"))
        self.assertEqual(client.ask("t", "k"), ("OK", "2"))
        with self.assertRaises(Closed):
            other.fill()
        self.assertFalse(os.path.exists(self.path("dict")))
        for _ in range(5):                      # at once, while the old one still ends
            self.reload([static("t", k="3")], self.listeners())
            self.assertEqual(self.dict("t").lookup("shared/k").value, "3")
            self.reload([static("t", k="3")], [self.listeners()[0]])
        self.assertEqual(client.ask("t", "k"), ("OK", "3"))

    def test_many_clients_when_it_goes(self):
        """Connections that are on their way between workers are not lost track of."""
        address = "unix:" + self.path("other")
        other = {"protocol": "socketmap", "address": address}
        self.start([static("t", k="1")], [*self.listeners(), other])
        before = self.descriptors()
        for _ in range(10):
            clients = []
            for _ in range(60):
                clients.append(Socketmap(self.path("other")))
                clients[-1].request("t", "k")
            self.reload([static("t", k="1")])
            for client in clients:
                self.assertIn(client.rest(), (b"4:OK 1,", b""))
                client.close()
            self.reload([static("t", k="1")], [*self.listeners(), other])
        wait_until(lambda: self.descriptors() <= before, lambda: f"{self.descriptors()} after {before}")

    def test_another_protocol_at_the_same_address(self):
        place = {"address": "unix:" + self.path("x"), "mode": "0660"}
        self.start([static("t", k="1")], [{"protocol": "socketmap", **place}])
        with Socketmap(self.path("x")) as old:
            self.assertEqual(old.ask("t", "k"), ("OK", "1"))
            inode = os.stat(self.path("x")).st_ino
            self.reload([static("t", k="2")], [{"protocol": "dict", **place, "mode": "0666"}])
            with self.assertRaises(Closed):
                old.fill()
        self.assertEqual((os.stat(self.path("x")).st_ino, stat.S_IMODE(os.stat(self.path("x")).st_mode)),
                         (inode, 0o666))
        with Dict(self.path("x"), "t") as new:
            self.assertEqual(new.lookup("shared/k").value, "2")
        time.sleep(1.2)                         # the old one is closed, and leaves the file alone
        self.reload([static("t", k="3")], [{"protocol": "dict", **place}])
        with Dict(self.path("x"), "t") as new:
            self.assertEqual(new.lookup("shared/k").value, "3")
        self.mux.stop()
        self.assertFalse(os.path.exists(self.path("x")))

    def test_mode_and_owner(self):
        group, user = grp.getgrnam("nogroup").gr_name, pwd.getpwnam("nobody").pw_name

        def seen():
            found = os.stat(self.path("dict"))
            return stat.S_IMODE(found.st_mode), pwd.getpwuid(found.st_uid).pw_name, \
                grp.getgrgid(found.st_gid).gr_name
        mine = pwd.getpwuid(os.geteuid()).pw_name, grp.getgrgid(os.getegid()).gr_name
        where = {"protocol": "dict", "address": "unix:" + self.path("dict")}
        self.start([static("t", k="1")], [where])
        self.assertEqual(seen(), (0o660, *mine))
        client = self.dict("t")
        for keys, expected in (({"mode": "0600"}, (0o600, *mine)),
                               ({"mode": "0640", "group": group}, (0o640, mine[0], group)),
                               ({"user": user, "group": group}, (0o660, user, group)),
                               ({}, (0o660, *mine))):
            self.reload([static("t", k="1")], [dict(where, **keys)])
            self.assertEqual(seen(), expected)
            self.assertEqual(client.lookup("shared/k").value, "1")

    def test_a_file_that_is_gone(self):
        """Who has lost his way to the socket finds it again behind a reload; whoever is connected is answered."""
        self.start([static("t", k="1")])
        client, before = self.socketmap(), self.descriptors()
        client.request("t", "k")
        self.assertEqual(client.reply(), ("OK", "1"))
        for number in range(2, 5):
            os.unlink(self.path("socketmap"))
            self.reload([static("t", k=str(number))], [dict(item, mode="0600") for item in self.listeners()])
            self.assertEqual(self.ask("t", "k"), ("OK", str(number)))
            self.assertEqual(stat.S_IMODE(os.stat(self.path("socketmap")).st_mode), 0o600)
        with self.assertRaises(Closed):
            client.fill()
        client.close()
        wait_until(lambda: self.descriptors() <= before, lambda: f"{self.descriptors()} after {before}")
        self.mux.stop()
        self.assertFalse(os.path.exists(self.path("socketmap")))

    def test_files_that_cannot_be_changed(self):
        """The second file is root's: the first one gets its mode back."""
        os.chmod(self.dir, 0o777)
        mine, roots = self.listeners()
        mine["user"] = "nobody"
        self.start([static("t", k="1")], [mine, roots], user="nobody", group="nogroup")
        log = self.reload([static("t", k="2")], [dict(item, mode="0600") for item in (mine, roots)], word=FAILED,
                          user="nobody", group="nogroup")
        self.assertIn("cannot set its mode", log)
        self.assertEqual(stat.S_IMODE(os.stat(self.path("socketmap")).st_mode), 0o666)
        self.assertEqual(self.ask("t", "k"), ("OK", "1"))

    def test_without_privileges(self):
        os.chmod(self.dir, 0o777)
        self.start([static("t", k="1")], user="nobody", group="nogroup")
        client = self.socketmap()
        more = {"protocol": "socketmap", "address": f"127.0.0.1:{free_port()}"}
        self.reload([static("t", k="2")], [*self.listeners(), more], user="nobody", group="nogroup")
        self.assertEqual(client.ask("t", "k"), ("OK", "2"))
        changed = [dict(self.listeners()[0], user="daemon"), self.listeners()[1]]
        log = self.reload([static("t", k="3")], changed, word=FAILED, user="nobody", group="nogroup")
        self.assertIn("cannot", log)
        self.assertEqual(client.ask("t", "k"), ("OK", "2"))
        self.mux.stop()

    def test_sockets_of_systemd(self):
        """A name that was taken out can come back."""
        sock = socket.socket(socket.AF_UNIX)
        self.addCleanup(sock.close)
        sock.bind(self.path("passed"))
        sock.listen()
        file = self.write_config([static("t", k="1")], [{"protocol": "socketmap", "address": "systemd:mail"}])
        program = ["sh", "-c", "exec 3<&$FD; export LISTEN_PID=$$; exec \"$0\" \"$@\"", binary(), "-c", file]
        os.set_inheritable(sock.fileno(), True)
        self.mux = Passed(self, program, sock, {"LISTEN_FDS": "1", "LISTEN_FDNAMES": "mail"})
        for number in range(2, 6):
            if number % 2:
                listeners = [{"protocol": "socketmap", "address": "systemd:mail"}]
            else:
                listeners = self.listeners()
            self.reload([static("t", k=str(number))], listeners)
            place = "passed" if number % 2 else "socketmap"
            with Socketmap(self.path(place)) as client:
                self.assertEqual(client.ask("t", "k"), ("OK", str(number)))


class Passed(Mapmux):
    """A mapmux that is started with a socket at hand."""

    def __init__(self, case, argv, sock, env):
        import subprocess
        from harness.base import die_with_parent, on_cleanup
        self.dir = tempdir(case)
        self.stopped, self.final = False, None
        self.argv, self.log_path = argv, os.path.join(self.dir, "log")
        with open(self.log_path, "ab") as out:
            self.process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, pass_fds=[sock.fileno()],
                env=dict(os.environ, FD=str(sock.fileno()), **env), preexec_fn=die_with_parent)
        self.pid = self.process.pid
        on_cleanup(case, self.stop)
        self.wait_ready(lambda: "is ready" in self.log())


class State(Reloaded):
    """What survives, and what must not."""

    def memory(self, name="m", size="1m", **options):
        return {"name": name, "type": "memory", "param": size, **options}

    def test_memory_survives(self):
        self.start([self.memory(), self.memory("gone")])
        client = self.dict("m")
        self.assertEqual(client.change(1, ("set", "shared/k", "v"), ("set", "shared/n", "1")).letter, "O")
        self.assertEqual(self.dict("gone").change(1, ("set", "shared/k", "v")).letter, "O")
        for number in range(5):
            self.reload([static("s", a="b"), self.memory(timeout=f"{number + 1}s")])
            self.assertEqual(client.change(2, ("inc", "shared/n", 1)).letter, "O")
            self.reload([{"name": "m", "type": "nosuch"}], word=FAILED)
        self.assertEqual(client.lookup("shared/k").value, "v")
        self.assertEqual(client.lookup("shared/n").value, "6")
        self.reload([self.memory(), self.memory("gone")])       # it was away
        self.assertEqual(self.dict("gone").lookup("shared/k").letter, "N")
        self.reload([static("m", k="s")])
        self.assertEqual(client.lookup("shared/k").value, "s")

    def test_memory_that_is_given_less(self):
        self.start([self.memory()])
        client = self.dict("m")
        for number in range(20):
            self.assertEqual(client.change(number, ("set", f"shared/{number}", "x" * 1000)).letter, "O")
        self.reload([self.memory(size="4k")])
        self.assertEqual(client.lookup("shared/19").value, "x" * 1000)
        self.assertEqual(client.change(30, ("set", "shared/more", "x")).letter, "F")
        for number in range(18):
            self.assertEqual(client.change(40 + number, ("unset", f"shared/{number}")).letter, "O")
        self.assertEqual(client.change(60, ("set", "shared/more", "x")).letter, "O")

    def test_breakers(self):
        """Whoever is left alone stays so, while nothing changes of the table: it would cost the next clients their time."""
        gate = threading.Event()
        silent = Backend(self, lambda request: Reply(b'"late"', gate=gate))
        well = Backend(self, lambda request: as_json("well"))
        dead = f"http://127.0.0.1:{free_port()}/{{}}"
        broken = {"retries": 0, "breaker": {"failures": 1, "cooldown": "1h"}}
        both = url("both", f"{silent.url}/{{}} {well.url}/{{}}", timeout="1s", breaker={"failures": 2, "cooldown": "1h"})
        self.start([url("t", dead, **broken), both], threads=1)
        self.assertIn("Failed to connect", self.ask("t", "k")[1])
        self.assertEqual(self.ask("t", "k"), ("TEMP", "breaker open"))
        self.assertEqual(self.ask("both", "k")[0], "TEMP")
        self.reload([both, url("t", dead, **broken)], threads=1)
        self.assertEqual(self.ask("both", "k"), ("OK", "well"))
        self.assertEqual(self.ask("t", "k"), ("TEMP", "breaker open"))
        self.reload([url("t", dead, **broken, user_agent="another")], threads=1)
        self.assertIn("Failed to connect", self.ask("t", "k")[1])
        gate.set()

    def test_max_inflight(self):
        """What is under way since before counts, also where the limit itself has changed."""
        gate = threading.Event()
        backend = Backend(self, lambda request: as_json("v", gate=gate))
        self.start([url("t", backend.url + "/{}", max_inflight=2)])
        clients = [self.socketmap() for _ in range(4)]
        for number, client in enumerate(clients[:2]):
            client.request("t", f"k{number}")
        backend.wait_for(2)
        self.reload([url("t", backend.url + "/{}", max_inflight=2)])
        self.assertEqual(self.ask("t", "z"), ("TEMP", "too many questions in flight"))
        self.reload([url("t", backend.url + "/{}", max_inflight=3)])
        clients[2].request("t", "k2")
        backend.wait_for(3)
        self.assertEqual(self.ask("t", "z"), ("TEMP", "too many questions in flight"))
        gate.set()
        for client in clients[:3]:
            self.assertEqual(client.reply(), ("OK", "v"))
        self.assertEqual(self.ask("t", "z"), ("OK", "v"))

    def test_secrets(self):
        seen = []

        def answer(request):
            seen.append(request.header("Authorization"))
            return as_json("v")
        backend = Backend(self, answer)
        file = self.write("token", "first\n")
        table = url("t", backend.url + "/{}", auth_token_file=file)
        self.start([table])
        client = self.socketmap()
        self.assertEqual(client.ask("t", "a"), ("OK", "v"))
        self.write("token", "second\n")
        self.hangup(DONE)
        self.assertEqual(client.ask("t", "b"), ("OK", "v"))
        self.reload([url("t", backend.url + "/{}", auth_token="third")])
        self.assertEqual(client.ask("t", "c"), ("OK", "v"))
        self.assertEqual(seen, ["Bearer first", "Bearer second", "Bearer third"])
        for word in ("first", "second", "third"):
            self.assertNotIn(word, self.mux.log())

    def test_secrets_of_the_command_line(self):
        """They are hidden from ps, and still there when they are read again."""
        backend = Backend(self, lambda request: as_json(request.header("Authorization")))
        self.start([static("u", k="1")], args=(
            "--name", "t", "--type", "url", "--param", backend.url + "/{}", "--option", "auth_token=s3cret"))
        for number in range(3):
            self.assertEqual(self.ask("t", f"k{number}"), ("OK", "Bearer s3cret"))
            self.reload([static("u", k=str(number))])
            with open(f"/proc/{self.mux.pid}/cmdline", "rb") as file:
                self.assertNotIn(b"s3cret", file.read())

    def test_certificates(self):
        """Nothing of the old authority is remembered: no connection, no parsed file."""
        right, wrong = Authority(self, "right"), Authority(self, "wrong")
        backend = Backend(self, lambda request: as_json("v"), tls=right.server("IP:127.0.0.1"))
        shutil.copy(right.cert, self.path("ca.pem"))
        self.start([url("t", backend.url + "/{}", ca_file=self.path("ca.pem"))])
        client = self.socketmap()
        for authority, status in ((right, "OK"), (wrong, "TEMP"), (right, "OK")):
            shutil.copy(authority.cert, self.path("ca.pem"))
            self.hangup(DONE)
            self.assertEqual(client.ask("t", "k")[0], status)

    def test_scripts(self):
        self.write("m.lua", "return {word = 'a'}")
        script = self.write("t.lua", "local m = require 'm'; function lookup(key) return m.word .. 1 end")
        self.start([{"name": "t", "type": "lua", "param": script}])
        client = self.socketmap()
        self.assertEqual(client.ask("t", "k"), ("OK", "a1"))
        self.write("m.lua", "return {word = 'b'}")
        self.hangup(DONE)
        self.assertEqual(client.ask("t", "k"), ("OK", "b1"))

    def test_a_sleeping_script(self):
        text = "function lookup(key) if key == 'slow' then mapmux.sleep(1) end return '{}' end"
        script = self.write("t.lua", text.format("one"))
        self.start([{"name": "t", "type": "lua", "param": script}])
        clients = [self.socketmap() for _ in range(5)]
        for client in clients:
            client.request("t", "slow")
        time.sleep(0.2)
        self.write("t.lua", text.format("two"))
        self.hangup(DONE)
        self.assertEqual(self.ask("t", "k"), ("OK", "two"))
        for client in clients:
            self.assertEqual(client.reply(), ("OK", "one"))
            self.assertEqual(client.ask("t", "slow"), ("OK", "two"))


class Systemd(Reloaded):
    """What the service manager is told."""

    def test_notifications(self):
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(sock.close)
        sock.bind(self.path("notify"))
        sock.settimeout(10)
        self.start([static("t", k="1")], env={"NOTIFY_SOCKET": self.path("notify")})
        self.assertEqual(sock.recv(100), b"READY=1")
        for tables, word in (([static("t", k="2")], DONE), ([{"name": "t"}], FAILED)):
            before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
            self.reload(tables, word=word)
            first, second = sock.recv(100).split(b"\n")
            self.assertEqual(first, b"RELOADING=1")
            self.assertGreaterEqual(int(second.removeprefix(b"MONOTONIC_USEC=")), before)
            self.assertEqual(sock.recv(100), b"READY=1")

    def test_shipped_unit(self):
        """What conf/mapmux.service runs starts, is ready, and reloads."""
        unit = (ROOT / "conf/mapmux.service").read_text(encoding="utf-8")
        said = dict(line.split("=", 1) for line in unit.splitlines() if re.match("[A-Za-z]+=", line))
        self.assertEqual((said["Type"], said["User"]), ("notify", "mapmux"))
        self.assertGreater(int(said["WatchdogSec"]), 10)
        file = self.write_config([static("t", k="1")])
        words = [word.replace("/etc/mapmux/mapmux.yaml", file) for word in said["ExecStart"].split()]
        self.assertIn(file, words)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(sock.close)
        sock.bind(self.path("notify"))
        sock.settimeout(20)
        self.mux = Mapmux(self, *words[1:], env={"NOTIFY_SOCKET": self.path("notify")})
        self.assertEqual(sock.recv(100), b"READY=1")
        done = run(["sh", "-c", said["ExecReload"]], env=dict(os.environ, MAINPID=str(self.mux.pid)))
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertTrue(sock.recv(100).startswith(b"RELOADING=1\n"))
        self.assertEqual(sock.recv(100), b"READY=1")

    def test_watchdog(self):
        """WATCHDOG=1 comes again and again, and not while a worker hangs."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(sock.close)
        sock.bind(self.path("notify"))
        sock.settimeout(20)
        os.mkfifo(self.path("gate"))
        self.write("hang.lua", """
            function lookup(key)
                io.open(mapmux.config.began, "w"):close()
                return io.open(mapmux.config.gate):read("a")    -- waits until somebody writes
            end""")
        hang = {"name": "hang", "type": "lua", "param": self.path("hang.lua"), "unsafe": "yes", "timeout": "30s",
                "config": {"began": self.path("began"), "gate": self.path("gate")}}
        self.start([hang], threads=1, env={"NOTIFY_SOCKET": self.path("notify"), "WATCHDOG_USEC": "60000000"})
        self.assertEqual([sock.recv(100) for _ in range(3)], [b"READY=1", b"WATCHDOG=1", b"WATCHDOG=1"])
        client = self.socketmap()
        client.request("hang", "k")
        wait_until(lambda: os.path.exists(self.path("began")), what="the script's begin")
        time.sleep(0.5)                         # one may be on its way
        sock.settimeout(0)
        with self.assertRaises(BlockingIOError):
            while True:
                sock.recv(100)
        sock.settimeout(3)
        with self.assertRaises(TimeoutError):
            sock.recv(100)
        with open(self.path("gate"), "w", encoding="ascii") as gate:
            gate.write("free")
        self.assertEqual(client.reply(), ("OK", "free"))
        sock.settimeout(20)
        self.assertEqual(sock.recv(100), b"WATCHDOG=1")


class Load(Reloaded):
    """A hundred reloads, and every answer counted."""

    CLIENTS, RELOADS = 12, 100

    def setUp(self):
        super().setUp()
        self.backend = Backend(self, lambda request: as_json(request.path.strip("/").split("/")[0]))
        self.newest, self.over, self.wrong, self.count = 0, threading.Event(), [], itertools.count()

    def tables(self, number):
        """Each answers its number; their order differs, and so does the listener's default."""
        tables = [static(f"extra{i}", k="no") for i in range(number % 4)]
        tables += [static("t", k=str(number)), static(f"d{number % 3}", k=str(number)),
                   {"name": "c", "type": "chain", "param": f"extra d{number % 3}"}, static("extra", a="b"),
                   url("u", f"{self.backend.url}/{number}/{{}}"),
                   {"name": "m", "type": "memory", "param": ""}]
        random.shuffle(tables)
        return tables

    def listening(self, number):
        both = self.listeners()
        both[0]["table"] = f"d{number % 3}"
        if number % 5 == 0:
            both.append({"protocol": "dict", "address": "unix:" + self.path("now-and-then")})
        return both

    def judge(self, client, kind, value, least, most):
        """Never older than what this client saw before, never newer than what was written."""
        next(self.count)
        if not least <= int(value) <= most:
            self.wrong.append((client, kind, value, least, most))

    def ask_socketmap(self, client):
        seen = 0
        with Socketmap(self.path("socketmap")) as stream:
            while not self.over.is_set():
                for table in ("t", "", "c", "u"):
                    stream.request(table, "k")
                for kind in ("t", "", "c", "u"):
                    status, value = stream.reply()
                    if status != "OK":
                        self.wrong.append((client, kind, status, value))
                        return
                    self.judge(client, kind, value, seen, self.newest)
                    seen = int(value)           # the four were asked together: no way back among them

    def ask_dict(self, client):
        seen, sum_ = 0, 0
        with Dict(self.path("dict"), "t") as stream, Dict(self.path("dict"), "m") as memory:
            memory.change(1, ("set", f"shared/{client}", "0"))
            while not self.over.is_set():
                asked = [stream.start_lookup("shared/k") for _ in range(4)]
                for answer in asked:
                    stream.finish(answer)
                    if answer.letter != "O":
                        self.wrong.append((client, answer))
                        return
                    self.judge(client, "dict", answer.value, seen, self.newest)
                    seen = int(answer.value)
                if memory.change(1, ("inc", f"shared/{client}", 1)).letter != "O":
                    self.wrong.append((client, "inc"))
                    return
                sum_ += 1
                value = memory.lookup(f"shared/{client}").value
                if value != str(sum_):
                    self.wrong.append((client, "sum", value, sum_))
                    return
                next(self.count)

    def guard(self, ask, client):
        try:
            ask(client)
        except Exception as error:              # pylint: disable=broad-except
            self.wrong.append((client, repr(error)))

    def test_a_hundred_reloads(self):
        self.start(self.tables(0), self.listening(0))
        threads = [threading.Thread(target=self.guard, args=(ask, number))
                   for number in range(self.CLIENTS) for ask in (self.ask_socketmap, self.ask_dict)]
        for thread in threads:
            thread.start()
        try:
            for number in range(1, self.RELOADS + 1):
                self.newest = number
                self.reload(self.tables(number), self.listening(number))
                if self.wrong:
                    break
        finally:
            self.over.set()
            for thread in threads:
                thread.join()
        self.assertEqual(self.wrong, [])
        self.assertGreater(next(self.count), 20 * self.RELOADS)
        self.assertEqual(self.ask("t", "k"), ("OK", str(self.RELOADS)))

    def test_nothing_is_left_behind(self):
        self.start(self.tables(0), self.listening(0))
        client = self.socketmap()
        for number in range(1, 11):
            self.reload(self.tables(number), self.listening(number))
            client.ask("u", "k")
        time.sleep(1.5)
        descriptors, memory = self.descriptors(), self.mux.memory()
        for number in range(11, 111):
            self.reload(self.tables(number), self.listening(number), word=DONE)
            client.ask("u", "k")
        wait_until(lambda: self.descriptors() <= descriptors + 6,
                   lambda: f"{self.descriptors()} descriptors after {descriptors}")
        if not sanitized():
            self.assertLess(self.mux.memory() - memory, 4 << 20)

    def test_signals_without_a_pause(self):
        self.start(self.tables(0), self.listening(0))
        client = self.socketmap()
        for number in range(1, 301):
            self.newest = number
            self.write_config(self.tables(number), self.listening(number))
            self.mux.kill(signal.SIGHUP)
            self.judge(0, "t", client.ask("t", "k")[1], 0, number)
        wait_until(lambda: client.ask("t", "k") == ("OK", "300"), "the last one counts")
        self.assertEqual(self.wrong, [])


if __name__ == "__main__":
    unittest.main()
