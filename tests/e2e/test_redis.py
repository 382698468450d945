"""The redis table against a real redis-server, by doveadm, postmap and Dovecot's mail processes."""

import os
import re
import signal
import time
import unittest
import urllib.parse

from harness import Case, free_port, run, serve, tempdir
from harness.dovecot import Doveadm, Dovecot
from harness.mapmux import binary, document
from harness.postfix import Postmap
from harness.redis import PASSWORD, Redis, Script
from test_doveadm import FAILED, FOUND, NOT_FOUND, DictCase
from test_dovecot_metadata import SETTINGS, Metadata as MemoryMetadata

QUOTED = urllib.parse.quote(PASSWORD, safe="")


def table(name, param, **options):
    return {"name": name, "type": "redis", "param": param, **options}


def by_tcp(redis, tail="/0", password=QUOTED):
    return f"redis://:{password}@127.0.0.1:{redis.port}{tail}"


def by_unix(redis, tail="", password=QUOTED):
    return f"redis+unix://:{password}@{redis.path}{tail}"


class RedisCase(Case):
    """One server for the class; each test begins with an empty one."""

    @classmethod
    def setUpClass(cls):
        cls.redis = Redis(cls)

    def setUp(self):
        self.redis.do("FLUSHALL")


class ByDoveadm(DictCase):
    """What Dovecot's own client does, over the unix socket and over TCP."""

    @classmethod
    def setUpClass(cls):
        cls.doveadm = Doveadm(cls)
        cls.redis = Redis(cls)
        cls.mux = serve(cls, [table("unix", by_unix(cls.redis, "?prefix=u%3a")),
                              table("tcp", by_tcp(cls.redis, "/3?prefix={table}/{scope}/{user}/"))], ("dict",))

    def setUp(self):
        self.redis.do("FLUSHALL")

    def test_set_get_unset(self):
        for name in ("unix", "tcp"):
            self.assertEqual(self.get(name, "shared/a")[0], NOT_FOUND)
            self.good(name, "set", "shared/a", "value of " + name)
            self.assertEqual(self.get(name, "shared/a"), (FOUND, "value of " + name))
        self.assertEqual(self.redis.do("GET", "u:a"), b"value of unix")
        for name in ("unix", "tcp"):
            self.good(name, "unset", "shared/a")
            self.assertEqual(self.get(name, "shared/a")[0], NOT_FOUND)
            self.good(name, "unset", "shared/a")
        self.assertEqual(self.redis.do("KEYS", "*"), [])

    def test_users(self):
        for name in ("unix", "tcp"):
            for user in ("alice", "bob@example.test", "a/b", "a%2Fb"):
                self.good(name, "set", "-u", user, "priv/k", "of " + user)
            self.good(name, "set", "shared/k", "of all")
            for user in ("alice", "bob@example.test", "a/b", "a%2Fb"):
                self.assertEqual(self.get(name, "priv/k", "-u", user), (FOUND, "of " + user))
            self.assertEqual(self.get(name, "priv/k", "-u", "carol")[0], NOT_FOUND)
            self.assertEqual(self.get(name, "shared/k"), (FOUND, "of all"))
            self.assertEqual(self.rows(name, "-R", "-u", "a/b", "priv/"), ["priv/k\tof a/b"])
            self.assertEqual(self.rows(name, "-R", "shared/"), ["shared/k\tof all"])
        self.assertEqual(self.get("unix", "shared/priv/alice/k")[0], NOT_FOUND)
        self.assertEqual(self.call("unix", "set", "shared/priv/alice/k", "x").returncode, FAILED)
        self.assertEqual(sorted(self.redis.do("KEYS", "*")),
                         [b"u:k"] + sorted(b"u:priv/" + user + b"/k" for user in
                                           (b"a%252Fb", b"a%2Fb", b"alice", b"bob@example.test")))

    def test_hard_bytes(self):
        for number, value in enumerate(["tab\there", "line\r\nbreak", "\r\n$3\r\nDEL\r\n", "soh\x01t", "ü日本",
                                        "", "a" * 60000, '{"json": [1]}', "*3\r\n"]):
            key = f"shared/hard/{number} tab\tkey\r\nDEL u:safe\r\n\x01*?[]\\"
            self.good("unix", "set", "shared/safe", "1")
            self.good("unix", "set", key, value)
            self.assertEqual(self.get("unix", key), (FOUND, value.rstrip()), key)
            self.assertEqual(self.redis.do("GET", "u:" + key[7:]), value.encode())
            self.assertEqual(self.get("unix", "shared/safe"), (FOUND, "1"))

    def test_increments(self):
        for name in ("unix", "tcp"):
            self.assertEqual(self.call(name, "inc", "shared/n", "5").returncode, NOT_FOUND)
            self.assertEqual(self.redis.do("DBSIZE"), 0)
            self.good(name, "set", "shared/n", "10")
            self.good(name, "inc", "shared/n", "5")
            self.good(name, "inc", "--", "shared/n", "-20")
            self.assertEqual(self.get(name, "shared/n"), (FOUND, "-5"))
            self.good(name, "set", "shared/n", "many")
            self.assertEqual(self.call(name, "inc", "shared/n", "5").returncode, FAILED)
            self.assertEqual(self.get(name, "shared/n"), (FOUND, "many"))
            self.good(name, "unset", "shared/n")

    def test_iteration(self):
        for name in ("unix", "tcp"):
            for key in ("x/a", "x/b", "x/sub/c", "x", "xy/d", "x*/e", "x[a-z]/f"):
                self.good(name, "set", "shared/" + key, "is " + key)
            self.assertEqual(self.rows(name, "shared/x/"), ["shared/x/a\tis x/a", "shared/x/b\tis x/b"])
            self.assertEqual(self.rows(name, "-R", "shared/x/"),
                             ["shared/x/a\tis x/a", "shared/x/b\tis x/b", "shared/x/sub/c\tis x/sub/c"])
            self.assertEqual(self.rows(name, "-V", "shared/x/"), ["shared/x/a", "shared/x/b"])
            self.assertEqual(self.rows(name, "-1", "shared/x"), ["shared/x\tis x"])
            self.assertEqual(self.rows(name, "shared/x*/"), ["shared/x*/e\tis x*/e"])
            self.assertEqual(self.rows(name, "shared/x[a-z]/"), ["shared/x[a-z]/f\tis x[a-z]/f"])
            self.assertEqual(self.rows(name, "shared/none/"), [])


class OnTheWire(RedisCase):
    """What doveadm cannot ask for: transactions, expiry, rows and sorting, big listings."""

    def setUp(self):
        super().setUp()
        self.mux = serve(self, [table("kv", by_unix(self.redis))])
        self.client = self.mux.dict("kv", major=4)
        self.addCleanup(self.client.close)

    def change(self, *steps, expire=0, user=""):
        self.client.begin(1, user, expire)
        for name, *args in steps:
            getattr(self.client, name)(1, *args)
        return self.client.commit(1)

    def all(self):
        return {key.decode(): self.redis.do("GET", key) for key in self.redis.do("KEYS", "*")}

    def test_in_order(self):
        self.assertEqual(self.change(("set", "shared/a", "1"), ("unset", "shared/a"), ("set", "shared/b", "x"),
                                     ("set", "priv/c", "y"), user="u").letter, "O")
        self.assertEqual(self.all(), {"b": b"x", "priv/u/c": b"y"})
        self.assertEqual(self.change(("unset", "shared/n"), ("set", "shared/n", "5"), ("inc", "shared/n", 3),
                                     ("inc", "shared/n", -1)).letter, "O")
        self.assertEqual(self.all()["n"], b"7")
        self.assertEqual(self.change().letter, "O")

    def test_whole_or_not(self):
        """The failure of one step leaves every other one undone, whatever stood there."""
        self.redis.do("SET", "text", "abc")
        self.redis.do("SET", "mortal", "old", "PX", "600000")
        self.redis.do("RPUSH", "list", "one", "two")
        self.redis.do("SET", "max", str(2 ** 63 - 1))
        self.redis.do("SET", "n", "1")
        before = ("set", "shared/new", "1"), ("set", "shared/mortal", "2"), ("unset", "shared/list"), ("inc", "shared/n", 1)
        for last, letter in ((("inc", "shared/missing", 1), "N"), (("inc", "shared/text", 1), "F"),
                             (("inc", "shared/max", 1), "F")):
            for steps in ((last,), (*before, last), (*before, last, ("unset", "shared/text"))):
                with self.subTest(steps):
                    answer = self.change(*steps)
                    self.assertEqual(answer.letter, letter, answer.value)
                    self.assertEqual(self.redis.do("LRANGE", "list", "0", "-1"), [b"one", b"two"])
                    self.assertEqual(sorted(self.redis.do("KEYS", "*")),
                                     [b"list", b"max", b"mortal", b"n", b"text"])
                    self.assertEqual(self.redis.do("MGET", "text", "mortal", "n"), [b"abc", b"old", b"1"])
                    self.assertGreater(self.redis.do("PTTL", "mortal"), 500000)
                    self.assertEqual(self.redis.do("PTTL", "n"), -1)
        self.assertEqual(self.change(*before).letter, "O")
        self.assertEqual(self.redis.do("GET", "n"), b"2")

    def test_64_bits(self):
        self.redis.do("SET", "n", "9007199254740993")
        self.assertEqual(self.change(("inc", "shared/n", 2 ** 62), ("set", "shared/x", "1")).letter, "O")
        self.assertEqual(int(self.redis.do("GET", "n")), 9007199254740993 + 2 ** 62)
        self.assertEqual(self.change(("inc", "shared/n", -2 ** 63)).letter, "O")

    def test_other_types(self):
        self.redis.do("RPUSH", "list", "x")
        self.redis.do("HSET", "hash", "x", "y")
        for key in ("shared/list", "shared/hash"):
            self.assertEqual(self.client.lookup(key).letter, "F")
            self.assertEqual(self.change(("inc", key, 1)).letter, "F")
        self.assertEqual(self.mux.ask("kv", "list")[0], "PERM")
        self.assertEqual(self.client.iterate("shared/").rows, [])
        self.assertEqual(self.change(("set", "shared/list", "now a string")).letter, "O")
        self.assertEqual(self.redis.do("GET", "list"), b"now a string")

    def test_expiry(self):
        self.redis.do("SET", "n", "1")
        self.redis.do("SET", "forever", "1")
        self.assertEqual(self.change(("set", "shared/a", "x"), expire=100).letter, "O")
        self.assertEqual(self.change(("set", "shared/b", "x"), ("set", "shared/c", "x"), ("unset", "shared/d"),
                                     expire=100).letter, "O")
        self.assertEqual(self.change(("inc", "shared/n", 1), ("set", "shared/e", "x"), expire=100).letter, "O")
        self.assertEqual(self.change(("inc", "shared/forever", 1)).letter, "O")
        for key in ("a", "b", "c", "n", "e"):
            self.assertTrue(90 < self.redis.do("TTL", key) <= 100, key)
        self.assertEqual(self.redis.do("TTL", "forever"), -1)
        self.assertEqual(self.change(("inc", "shared/n", 1)).letter, "O")
        self.assertGreater(self.redis.do("TTL", "n"), 0)         # an increment makes nothing immortal
        self.assertEqual(self.change(("set", "shared/a", "y")).letter, "O")
        self.assertEqual(self.redis.do("TTL", "a"), -1)
        self.assertEqual(self.change(("set", "shared/huge", "x"), ("unset", "shared/d"), expire=2 ** 64 - 1).letter, "O")
        self.assertEqual(self.change(("set", "shared/soon", "x"), expire=1).letter, "O")
        self.assertEqual(self.client.lookup("shared/soon").letter, "O")
        time.sleep(1.1)
        self.assertEqual(self.client.lookup("shared/soon").letter, "N")

    def test_ten_thousand_keys(self):
        names = [f"big/{number:05}" for number in range(10000)]
        for at in range(0, 10000, 1000):
            self.redis.do("MSET", *(word for name in names[at:at + 1000] for word in (name, "v" + name)))
        self.redis.do("MSET", *(word for number in range(3000) for word in (f"other/{number}", "x")))
        began = time.monotonic()
        answer = self.client.iterate("shared/big/", flags=1)
        self.assertEqual(answer.rows, [(f"shared/{name}", "v" + name) for name in names])
        self.assertLess(time.monotonic() - began, 5)
        keys = [row[0] for row in self.client.iterate("shared/big/", flags=9).rows]
        self.assertEqual(keys, ["shared/" + name for name in names])
        self.assertEqual(len(set(keys)), 10000)

    def test_rows_and_order(self):
        for number in range(300):
            self.redis.do("SET", f"l/{number:03}", f"{999 - number}")
        self.redis.do("RPUSH", "l/0000", "no string")
        rows = self.client.iterate("shared/l/", rows=3).rows
        self.assertEqual(rows, [(f"shared/l/00{n}", str(999 - n)) for n in range(3)])
        rows = self.client.iterate("shared/l/", flags=4, rows=2).rows
        self.assertEqual([value for _, value in rows], ["700", "701"])
        self.assertEqual(len(self.client.iterate("shared/l/", flags=2).rows), 300)
        self.assertEqual(self.client.iterate("shared/l", flags=0).rows, [])
        self.assertEqual(len(self.client.iterate("shared/l", flags=1).rows), 300)

    def test_many_at_once(self):
        """Each answer finds its question, among hundreds on one connection to the server."""
        for number in range(500):
            self.redis.do("SET", f"k{number}", f"v{number}")
        clients = [self.mux.dict("kv") for _ in range(20)]
        asked = [(number, client, client.start_lookup(f"shared/k{number}"))
                 for number in range(500) for client in clients]
        for number, client, answer in asked:
            self.assertEqual(client.finish(answer).value, f"v{number}")
        for client in clients:
            client.close()
        self.assertLessEqual(len(self.redis.do("CLIENT", "LIST").splitlines()), 2 + 4)

    def test_large_values(self):
        value = "x" * 900000
        self.assertEqual(self.change(("set", "shared/large", value)).letter, "O")
        self.assertEqual(self.client.lookup("shared/large").value, value)
        self.assertEqual(self.mux.ask("kv", "large")[0], "TEMP")      # over socketmap's 100,000 bytes

    def test_many_changes(self):
        steps = [("set", f"shared/m{number}", "1") for number in range(2000)]
        self.assertEqual(self.change(*steps).letter, "O")
        self.assertEqual(self.redis.do("DBSIZE"), 2000)
        self.assertEqual(self.change(*(("inc", f"shared/m{number}", number) for number in range(2000))).letter, "O")
        self.assertEqual(self.redis.do("GET", "m1999"), b"2000")


class ByPostmap(RedisCase):
    """Postfix's own client."""

    def setUp(self):
        super().setUp()
        self.postmap = Postmap(self)
        self.mux = serve(self, [table("alias", by_tcp(self.redis, "?prefix=alias/"))], ("socketmap",))

    def test_lookups(self):
        where = f"socketmap:unix:{self.mux.paths['socketmap']}:alias"
        for key in ("a@example.test", "with space", "*", "a?[b]\\", "müller", "-q"):
            self.redis.do("SET", "alias/" + key, "to " + key)
            done = self.postmap.query(key, where)
            self.assertEqual((done.stdout.decode(), done.returncode), (f"to {key}\n", 0))
        self.assertEqual(self.postmap.query("nobody", where).returncode, 1)
        self.redis.do("SET", "alias/empty", "")
        self.assertEqual(self.postmap.query("empty", where).returncode, 1)


class Failures(Case):
    """A server that is gone, silent, unwilling or no Redis at all."""

    def served(self, param, **options):
        return serve(self, [table("kv", param, **{"timeout": "2s", **options}),
                            {"name": "mem", "type": "memory", "param": ""}], threads=1)

    def commit(self, mux, *steps):
        with mux.dict("kv") as client:
            return client.change(1, *(steps or (("set", "shared/k", "new"),)))

    def temp(self, mux, words):
        status, why = mux.ask("kv", "k")
        self.assertEqual(status, "TEMP", why)
        self.assertRegex(why, words)
        self.assertNotIn(PASSWORD, why)
        return why

    def test_killed_and_started_again(self):
        redis = Redis(self)
        mux = self.served(by_tcp(redis))
        self.assertEqual(self.commit(mux, ("set", "shared/k", "old")).letter, "O")
        for _ in range(3):
            redis.stop()
            self.temp(mux, "refused")
            self.assertEqual(self.commit(mux).letter, "F")
            self.assertEqual(self.commit(mux, ("inc", "shared/k", 1)).letter, "F")
            redis.start()
            deadline = time.monotonic() + 4
            while mux.ask("kv", "k")[0] != "OK" and time.monotonic() < deadline:
                time.sleep(0.05)
            self.assertEqual(mux.ask("kv", "k"), ("OK", "old"))
        self.assertIn("table=kv", mux.log())

    def test_lost_connections_are_made_again(self):
        """A reader does not notice; nothing waits for the back-off."""
        redis = Redis(self)
        redis.do("SET", "k", "v")
        mux = self.served(by_unix(redis))
        for _ in range(50):
            self.assertEqual(mux.ask("kv", "k"), ("OK", "v"))
            redis.do("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

    def test_paused(self):
        redis = Redis(self)
        redis.do("SET", "k", "v")
        mux = self.served(by_tcp(redis))
        self.assertEqual(mux.ask("kv", "k"), ("OK", "v"))
        redis.daemon.kill(signal.SIGSTOP)
        try:
            with mux.dict("kv") as writer, mux.dict("kv") as reader:
                began = time.monotonic()
                writer.begin(1)
                writer.set(1, "shared/k", "new")
                commit, lookup = writer.start_commit(1), reader.start_lookup("shared/k")
                self.assertEqual(writer.finish(commit).letter, "W")
                self.assertEqual(reader.finish(lookup).letter, "F")
                self.assertLess(time.monotonic() - began, 3)
            for _ in range(5):
                began = time.monotonic()
                self.assertEqual(self.commit(mux).letter, "F", "nothing goes out without a greeting")
                self.assertLess(time.monotonic() - began, 1.9)
                time.sleep(0.4)
            with mux.dict("mem") as other:
                self.assertEqual(other.lookup("shared/k").letter, "N")
        finally:
            redis.daemon.kill(signal.SIGCONT)
        deadline = time.monotonic() + 5
        while mux.ask("kv", "k")[0] != "OK" and time.monotonic() < deadline:
            time.sleep(0.05)
        self.assertEqual(mux.ask("kv", "k")[0], "OK")

    def test_wrong_password(self):
        redis = Redis(self)
        for param, words in ((by_tcp(redis, password="wrong"), "AUTH was answered by WRONGPASS"),
                             (f"redis://127.0.0.1:{redis.port}", "PING was answered by NOAUTH"),
                             (by_tcp(redis, "/77"), "SELECT was answered by ERR")):
            mux = self.served(param)
            self.temp(mux, words)
            self.assertEqual(self.commit(mux).letter, "F")
            log = mux.log()
            self.assertIn("table=kv", log)
            self.assertNotIn("wrong@", log)
            mux.stop()

    def test_password_as_option(self):
        redis = Redis(self)
        redis.do("SET", "k", "v")
        mux = self.served(f"redis://127.0.0.1:{redis.port}/0", password=PASSWORD)
        self.assertEqual(mux.ask("kv", "k"), ("OK", "v"))

    def test_user_and_name(self):
        redis = Redis(self)
        redis.do("ACL", "SETUSER", "mail", "on", ">se:cret", "~m/*", "+@all")
        redis.do("SET", "m/k", "v")
        mux = self.served(f"redis://mail:se%3Acret@localhost:{redis.port}/0?prefix=m/")
        self.assertEqual(mux.ask("kv", "k"), ("OK", "v"))
        mux = self.served(f"redis://mail:se%3Acret@localhost:{redis.port}/0?prefix=n/")
        self.temp(mux, "NOPERM")
        self.assertEqual(self.commit(mux, ("set", "shared/a", "1"), ("set", "shared/b", "1")).letter, "F")

    def test_unwilling(self):
        """OOM and READONLY: nothing has changed."""
        redis = Redis(self)
        redis.do("SET", "k", "1")
        mux = self.served(by_unix(redis))
        two = ("set", "shared/a", "1"), ("set", "shared/b", "1")
        count = ("set", "shared/a", "1"), ("inc", "shared/k", "1")
        for on, off, words in ((("CONFIG", "SET", "maxmemory", "1"), ("CONFIG", "SET", "maxmemory", "0"), "OOM"),
                               (("REPLICAOF", "127.0.0.1", free_port()), ("REPLICAOF", "NO", "ONE"), "READONLY")):
            redis.do(*on)
            for steps in ((two[0],), two, count, (("inc", "shared/k", 1),)):
                answer = self.commit(mux, *steps)
                self.assertEqual(answer.letter, "F", steps)
                self.assertIn(words, answer.value)
            self.assertEqual(mux.ask("kv", "k"), ("OK", "1"))
            redis.do(*off)
            self.assertEqual(redis.do("KEYS", "*"), [b"k"])
            self.assertEqual(self.commit(mux, ("inc", "shared/k", 0), ("set", "shared/k", "1")).letter, "O")

    def test_no_redis_at_all(self):
        pong = b"+PONG\r\n"
        for name, replies, greeting in (
                ("http", [b"HTTP/1.1 400 Bad Request\r\n\r\n"], b""), ("garbage", [b"\x00\xff\xfe" * 300], b""),
                ("hangs up", [b""], b""), ("silent", [None], b""), ("talks first", [None], b"+hello\r\n+you\r\n" * 9),
                ("wrong pong", [b"+PING\r\n"], b""), ("loading", [b"-LOADING loading\r\n"], b""),
                ("full", [None], b"-ERR max number of clients reached\r\n"),
                ("endless", [b"*1000000000\r\n"], b""), ("deep", [b"*1\r\n" * 100], b"")):
            with self.subTest(name):
                mux = self.served(f"redis://127.0.0.1:{Script(self, *replies, greeting=greeting).port}",
                                  connect_timeout="300ms")
                self.temp(mux, "127.0.0.1")
                self.assertEqual(self.commit(mux).letter, "F")
                self.assertIn("table=kv", mux.log())
                self.assertEqual(mux.counts("kv", "redis")["temp"], 3)     # the read was tried twice
                mux.stop()
        for name, reply in (("http", b"HTTP/1.1 200 OK\r\n\r\n"), ("hangs up", b""), ("silent", None),
                            ("endless", b"*1000000000\r\n"), ("too many", b"+OK\r\n" * 9 + b":1\r\n"),
                            ("huge", b"$99999999999999999999\r\n"), ("cut", b"$100\r\nabc"), ("map", b"%1\r\n+a\r\n+b\r\n"),
                            ("list", b"*2\r\n*-1\r\n*1\r\n:1\r\n"), ("number", b":5\r\n")):
            with self.subTest(name + " later"):
                mux = self.served(f"redis://127.0.0.1:{Script(self, pong, reply).port}", timeout="3s")
                if name == "too many":
                    mux.ask("kv", "k")      # the first is its answer
                else:
                    self.temp(mux, "127.0.0.1|no answer within 3000 ms")
                # What is no answer of Redis does not tell what has happened. On a busy machine there may be no
                # connection in time, and then nothing was sent: that is F, and tried again.
                letters = (self.commit(mux, ("set", "shared/a", "1"), ("set", "shared/b", "1")).letter for _ in range(4))
                self.assertEqual(next((letter for letter in letters if letter != "F"), "F"), "W", name)
                with mux.dict("kv") as client:
                    if name != "too many":
                        self.assertEqual(client.iterate("shared/").letter, "F")
                with mux.dict("mem") as other:
                    self.assertEqual(other.lookup("shared/k").letter, "N")
                mux.stop()

    def test_a_lost_exec_is_uncertain(self):
        """The server takes the whole transaction, and is gone before it answers."""
        server = Script(self, b"+PONG\r\n", b"")
        mux = self.served(f"redis://127.0.0.1:{server.port}")
        self.assertEqual(self.commit(mux, ("set", "shared/a", "1"), ("unset", "shared/b")).letter, "W")
        sent = b"".join(server.got)
        self.assertEqual(re.findall(rb"(MULTI|SET|DEL|EXEC)\r\n", sent), [b"MULTI", b"SET", b"DEL", b"EXEC"])
        self.assertEqual(sent.count(b"EXEC\r\n"), 1, "it is not sent a second time")

    def test_dead_name(self):
        mux = self.served("redis://no-such-host.invalid/0", connect_timeout="1s")
        began = time.monotonic()
        self.temp(mux, "no-such-host.invalid")
        with mux.dict("mem") as other:
            self.assertEqual(other.lookup("shared/k").letter, "N")
        self.assertLess(time.monotonic() - began, 2)

    def test_a_client_that_leaves(self):
        """Its late reply finds nobody, and the next ones find theirs."""
        redis = Redis(self)
        redis.do("SET", "k", "v")
        mux = self.served(by_unix(redis), timeout="8s")
        self.assertEqual(mux.ask("kv", "k"), ("OK", "v"))
        redis.daemon.kill(signal.SIGSTOP)
        try:
            for _ in range(20):
                client = mux.dict("kv")
                client.start_lookup("shared/none")
                client.close()
            with mux.dict("kv") as client:
                late = client.start_lookup("shared/k")
                time.sleep(0.2)
                redis.daemon.kill(signal.SIGCONT)
                self.assertEqual(client.finish(late).value, "v")
        finally:
            redis.daemon.kill(signal.SIGCONT)


class Configuration(Case):
    """What `check` says, and what it does not."""

    def check(self, param, **options):
        path = os.path.join(tempdir(self), "m.yaml")
        with open(path, "w", encoding="utf-8") as file:
            file.write(document({"listeners": [{"protocol": "dict", "address": "unix:/nowhere/d"}],
                                 "tables": [table("kv", param, **options)]}))
        done = run([binary(), "check", "-c", path])
        return done.returncode, done.stdout.decode() + done.stderr.decode()

    def test_secrets_are_not_shown(self):
        for param in ("redis://:topsecret@h:1/0", "redis://user:topsecret@h", "redis://:tops/topsecret@h",
                      "redis+unix://u:topsecret@/run/r", "redis://:topsecret@h:bad", "redis://:topsecret@h/x",
                      "redis://:topsecret", "redis://user:topsecret", "redis://:topsecret%zz@h",
                      "redis://:a?topsecret@h", "redis://u:1?topsecret@h", "redis://:topsecret@h?nonsense=1",
                      "redis://:topsecret@[::1", "http://:topsecret@h"):
            code, said = self.check(param)
            self.assertNotIn("topsecret", said, param)
            self.assertIn("(secret)" if code == 0 else "param", said, param)
        code, said = self.check("redis://h", password="topsecret")
        self.assertEqual(code, 0, said)
        self.assertNotIn("topsecret", said)

    def test_errors(self):
        for param, words in (("redis:h", "allowed: redis://"), ("redis://", "no host name"), ("redis://h:0", "port"),
                             ("redis://h:70000", "port"), ("redis://h/x", "database"), ("redis://h/0?db=x", "database"),
                             ("redis+unix:", "no path"), ("redis+unix:/" + "x" * 200, "107"),
                             ("redis://h?prefix={who}", "{user} {scope} {table}"), ("redis://h?prefix={user}", "separator"),
                             ("redis://h?prefix={user}x", "separator"), ("redis://h?prefix=%0", "hex"),
                             ("redis://h?pref=x", "unknown parameter"), ("redis://u@h", "a user needs a password")):
            code, said = self.check(param)
            self.assertEqual(code, 1, param)
            self.assertRegex(said, re.escape(words), param)
            self.assertIn("m.yaml:", said)
        self.assertIn("one in param already", self.check("redis://:a@h", password="b")[1])


class Metadata(MemoryMetadata):
    """The tests of a memory table, with IMAP METADATA kept in Redis instead."""

    def setUp(self):
        self.redis = Redis(self)
        self.mux = serve(self, [table("attr", by_unix(self.redis, "?prefix=metadata/"))], ("dict",))
        self.dovecot = Dovecot(self, SETTINGS.format(socket=self.mux.paths["dict"], **Dovecot.user_fields()))

    def test_entries_outlive_mapmux_and_redis(self):
        client = self.login("alice")
        self.good(client, 'SETMETADATA INBOX (/private/comment "kept")')
        self.redis.stop()
        self.assertEqual(client.command('SETMETADATA INBOX (/private/comment "lost")')[0], "NO")
        self.redis.start()
        time.sleep(1)
        self.assertEqual(self.get(client, "INBOX", "/private/comment"), {"/private/comment": b"kept"})
        keys = self.redis.do("KEYS", "*")
        self.assertTrue(keys and all(key.startswith(b"metadata/priv/alice/") for key in keys), keys)


del MemoryMetadata, DictCase     # not to be run again as tests of this file

if __name__ == "__main__":
    unittest.main()
