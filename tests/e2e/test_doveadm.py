"""Dovecot's own client, `doveadm dict`, on memory, static and url tables."""

import json
import os
import unittest

from harness import Backend, Case, Reply, Store, serve, tempdir
from harness.dovecot import Doveadm

FOUND, NOT_FOUND, FAILED = 0, 68, 75    # doveadm's exit codes


class DictCase(Case):
    """Calls doveadm on one table of cls.mux."""
    mux = doveadm = None

    def call(self, table, operation, *args):
        """Runs `doveadm dict OPERATION [options] URI ARGS`; options are the leading -x arguments."""
        options = []
        args = list(args)
        while args and args[0].startswith("-") and args[0] != "--":
            options.append(args.pop(0))
            if options[-1] == "-u":
                options.append(args.pop(0))
        return self.doveadm.dict(operation, *options, f"proxy:{self.mux.paths['dict']}:{table}", *args)

    def get(self, table, key, *options):
        done = self.call(table, "get", *options, key)
        return done.returncode, done.stdout.decode().rstrip()

    def good(self, table, operation, *args):
        done = self.call(table, operation, *args)
        self.assertEqual((done.returncode, done.stderr), (0, b""), args)
        return done.stdout.decode()

    def rows(self, table, *args):
        """The rows of `iter`, without its heading."""
        lines = [line.rstrip() for line in self.good(table, "iter", *args).splitlines()]
        return sorted(lines[1:])


class Memory(DictCase):
    """Everything, on the table that lives in the process."""

    def setUp(self):
        self.doveadm = Doveadm(self)
        self.mux = serve(self, [{"name": "mem", "type": "memory", "param": ""},
                                {"name": "other", "type": "memory", "param": ""}], ("dict",))

    def test_set_get_unset(self):
        self.assertEqual(self.get("mem", "shared/a")[0], NOT_FOUND)
        self.good("mem", "set", "shared/a", "value")
        self.assertEqual(self.get("mem", "shared/a"), (FOUND, "value"))
        self.good("mem", "set", "shared/a", "other")
        self.assertEqual(self.get("mem", "shared/a"), (FOUND, "other"))
        self.good("mem", "unset", "shared/a")
        self.assertEqual(self.get("mem", "shared/a")[0], NOT_FOUND)
        self.good("mem", "unset", "shared/a")

    def test_tables_are_apart(self):
        self.good("mem", "set", "shared/a", "value")
        self.assertEqual(self.get("other", "shared/a")[0], NOT_FOUND)

    def test_private_keys_belong_to_their_user(self):
        self.good("mem", "set", "-u", "alice", "priv/k", "hers")
        self.good("mem", "set", "-u", "bob@example.test", "priv/k", "his")
        self.assertEqual(self.get("mem", "priv/k", "-u", "alice"), (FOUND, "hers"))
        self.assertEqual(self.get("mem", "priv/k", "-u", "bob@example.test"), (FOUND, "his"))
        self.assertEqual(self.get("mem", "priv/k", "-u", "carol")[0], NOT_FOUND)
        self.assertEqual(self.get("mem", "shared/k")[0], NOT_FOUND)

    def test_hard_bytes(self):
        for number, value in enumerate(["tab\there", "line\nbreak", "cr\rhere", "soh\x01t", "ü日本", "",
                                        "a" * 60000,
                                        '{"json": [1, 2]}', " spaces "]):
            key = f"shared/hard/{number} tab\tkey\x01"
            self.good("mem", "set", key, value)
            code, got = self.get("mem", key)
            self.assertEqual((code, got), (FOUND, value.rstrip()), key)

    def test_increments(self):
        self.assertEqual(self.call("mem", "inc", "shared/n", "5").returncode, NOT_FOUND)
        self.good("mem", "set", "shared/n", "10")
        self.good("mem", "inc", "shared/n", "5")
        self.assertEqual(self.get("mem", "shared/n"), (FOUND, "15"))
        self.good("mem", "inc", "--", "shared/n", "-20")
        self.assertEqual(self.get("mem", "shared/n"), (FOUND, "-5"))

    def test_increment_of_a_word_fails(self):
        self.good("mem", "set", "shared/n", "many")
        self.assertEqual(self.call("mem", "inc", "shared/n", "5").returncode, FAILED)
        self.assertEqual(self.get("mem", "shared/n"), (FOUND, "many"))

    def test_iteration(self):
        for key in ("x/a", "x/b", "x/sub/c", "x", "xy/d"):
            self.good("mem", "set", "shared/" + key, "is " + key)
        self.assertEqual(self.rows("mem", "shared/x/"), ["shared/x/a\tis x/a", "shared/x/b\tis x/b"])
        self.assertEqual(self.rows("mem", "-R", "shared/x/"),
                         ["shared/x/a\tis x/a", "shared/x/b\tis x/b", "shared/x/sub/c\tis x/sub/c"])
        self.assertEqual(self.rows("mem", "-V", "shared/x/"), ["shared/x/a", "shared/x/b"])
        self.assertEqual(self.rows("mem", "-1", "shared/x"), ["shared/x\tis x"])
        self.assertEqual(self.rows("mem", "shared/none/"), [])

    def test_iteration_of_private_keys(self):
        self.good("mem", "set", "-u", "alice", "priv/k/a", "1")
        self.good("mem", "set", "-u", "bob", "priv/k/b", "2")
        self.good("mem", "set", "shared/k/c", "3")
        self.assertEqual(self.rows("mem", "-u", "alice", "priv/k/"), ["priv/k/a\t1"])
        self.assertEqual(self.rows("mem", "shared/k/"), ["shared/k/c\t3"])

    def test_unknown_dict_fails(self):
        self.assertEqual(self.call("nosuch", "get", "shared/a").returncode, FAILED)
        self.assertEqual(self.get("mem", "shared/a")[0], NOT_FOUND)


class Static(DictCase):
    """A file that cannot be written by a client."""

    @classmethod
    def setUpClass(cls):
        cls.doveadm = Doveadm(cls)
        path = os.path.join(tempdir(cls), "data.json")
        data = {"u/alice": {"uid": 8}, "u/bob": "text", "u/deep/er": "x", "n": 5}
        # A dict key shared/K is the key K. Both spellings are there, so that a lookup of either is answered.
        both = {**data, **{"shared/" + key: value for key, value in data.items()}}
        with open(path, "w", encoding="utf-8") as file:
            json.dump(both, file)
        cls.mux = serve(cls, [{"name": "st", "type": "static", "param": "file:" + path}], ("dict",))

    def test_lookups(self):
        code, value = self.get("st", "shared/u/alice")
        self.assertEqual((code, json.loads(value)), (FOUND, {"uid": 8}))
        self.assertEqual(self.get("st", "shared/u/bob"), (FOUND, "text"))
        self.assertEqual(self.get("st", "shared/n"), (FOUND, "5"))
        self.assertEqual(self.get("st", "shared/u/carol")[0], NOT_FOUND)

    def test_iteration(self):
        self.assertEqual([row.split("\t")[0] for row in self.rows("st", "shared/u/")],
                         ["shared/u/alice", "shared/u/bob"])
        self.assertEqual(len(self.rows("st", "-R", "shared/u/")), 3)

    def test_read_only(self):
        for args in (("set", "shared/u/bob", "new"), ("unset", "shared/u/bob"), ("inc", "shared/n", "1")):
            done = self.call("st", *args)
            self.assertEqual(done.returncode, FAILED, (args, done.stderr))
        self.assertEqual(self.get("st", "shared/u/bob"), (FOUND, "text"))
        self.assertEqual(self.get("st", "shared/n"), (FOUND, "5"))


class Url(DictCase):
    """A small HTTP store: GET, POST, DELETE and increments."""

    def setUp(self):
        self.doveadm = Doveadm(self)
        self.store = Store()
        self.down = False
        self.backend = Backend(self, lambda request: Reply(status=503) if self.down else self.store(request))
        self.mux = serve(self, [{"name": "kv", "type": "url", "param": self.backend.url + "/kv/{}"}],
                         ("dict",))

    def test_set_get_unset(self):
        self.good("kv", "set", "shared/a", "value")
        self.assertEqual(self.store.data, {"/kv/a": "value"})
        self.assertEqual(self.get("kv", "shared/a"), (FOUND, "value"))
        self.good("kv", "unset", "shared/a")
        self.assertEqual(self.get("kv", "shared/a")[0], NOT_FOUND)
        self.assertEqual(self.store.data, {})

    def test_private_key_names_the_user(self):
        self.good("kv", "set", "-u", "alice", "priv/k", "hers")
        self.assertEqual(self.store.data, {"/kv/k/alice": "hers"})
        self.assertEqual(self.get("kv", "priv/k", "-u", "alice"), (FOUND, "hers"))
        self.assertEqual(self.get("kv", "priv/k", "-u", "bob")[0], NOT_FOUND)

    def test_json_values(self):
        self.good("kv", "set", "shared/j", '{"a": [1, true, null]}')
        self.assertEqual(self.store.data["/kv/j"], {"a": [1, True, None]})
        code, value = self.get("kv", "shared/j")
        self.assertEqual((code, json.loads(value)), (FOUND, {"a": [1, True, None]}))

    def test_increments(self):
        self.good("kv", "set", "shared/n", "10")
        self.assertEqual(self.store.data, {"/kv/n": 10})
        self.good("kv", "inc", "shared/n", "32")
        self.assertEqual(self.get("kv", "shared/n"), (FOUND, "42"))
        self.good("kv", "inc", "--", "shared/n", "-2")
        self.assertEqual(self.get("kv", "shared/n"), (FOUND, "40"))

    def test_iteration(self):
        for name in ("a", "b", "ü c"):
            self.good("kv", "set", "shared/x/" + name, "is " + name)
        self.assertEqual(self.rows("kv", "shared/x/"),
                         ["shared/x/a\tis a", "shared/x/b\tis b", "shared/x/ü c\tis ü c"])
        self.assertEqual(self.rows("kv", "-V", "shared/x/"), ["shared/x/a", "shared/x/b", "shared/x/ü c"])

    def test_failing_store(self):
        self.good("kv", "set", "shared/a", "value")
        self.down = True
        for args in (("get", "shared/a"), ("set", "shared/a", "x"), ("unset", "shared/a"),
                     ("inc", "shared/a", "1"),
                     ("iter", "shared/x/")):
            done = self.call("kv", *args)
            self.assertEqual(done.returncode, FAILED, (args, done.stdout, done.stderr))
        self.down = False
        self.assertEqual(self.get("kv", "shared/a"), (FOUND, "value"))

    def test_dead_store(self):
        self.good("kv", "set", "shared/a", "value")
        self.backend.kill()
        for args in (("get", "shared/a"), ("set", "shared/a", "x"), ("iter", "shared/x/")):
            self.assertEqual(self.call("kv", *args).returncode, FAILED, args)
        self.backend.start()
        self.assertEqual(self.get("kv", "shared/a"), (FOUND, "value"))


if __name__ == "__main__":
    unittest.main()
