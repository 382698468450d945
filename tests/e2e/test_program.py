"""The program itself: check, configuration errors, podop's command line, query, help, signals, sockets."""

import glob
import grp
import json
import os
import pwd
import re
import signal
import socket
import stat
import threading
import time
import unittest

from harness import (Backend, Case, Dict, Mapmux, Reply, Socketmap, free_port, run, serve, tempdir, url,
                     wait_until)
from harness.backend import as_json
from harness.base import answers
from harness.mapmux import binary, document, mapmux

STATIC = ("--name", "t", "--type", "static", "--param", "key=value")
HEAD = "listeners:\n  - {protocol: socketmap, address: \"unix:{dir}/s\"}\n"       # lines 1 and 2
TABLE = "tables:\n  - {name: t, type: static, param: \"a=1\"}\n"                 # lines 3 and 4

LISTENER = 'listeners:\n  - protocol: socketmap\n    address: "unix:{dir}/s"\n'   # lines 1 to 3
STATIC_TABLE = HEAD + "tables:\n  - name: t\n    type: static\n"                  # lines 1 to 5
URL = HEAD + 'tables:\n  - name: t\n    type: url\n    param: "http://h/{}"\n'    # lines 1 to 6

# name: (the file, line of the error or None where several would do, a word of the message)
BAD = {
    "unknown top-level key": (HEAD + TABLE + "lisners: []\n", 5, "lisners"),
    "listeners in the singular": (HEAD.replace("listeners", "listener") + TABLE, 1, "did you mean listeners"),
    "tables in the singular": (HEAD + TABLE.replace("tables", "table"), 3, "did you mean tables"),
    "unknown top-level map of maps": (HEAD + TABLE + "backends:\n  a: {b: {c: d}}\n", 5, "backends: unknown key"),
    "two ways to log in": (URL + "    auth_token: x\n    basic_auth: a:b\n", 8, "basic_auth: cannot go with auth_token"),
    "authorities that are missing": (URL + '    ca_file: "{dir}/none"\n', 7, "No such file"),
    "limit without a time": (HEAD + 'tables:\n  - {name: t, type: ratelimit, param: "100"}\n', 4, "no limit"),
    "state that Postfix has not": (HEAD + "tables:\n  - {name: t, type: ratelimit, param: 1/h, states: [RCPT, EOM]}\n",
                                   4, 'states: "EOM"'),
    "unknown key of a listener": (LISTENER + '    colour: red\n' + TABLE, 4, "colour"),
    "unknown key of a table": (STATIC_TABLE + "    param: a=1\n    colour: red\n", 7, "colour"),
    "option of another type": (STATIC_TABLE + "    param: a=1\n    auth_token: x\n", 7, "auth_token"),
    "unknown type": (HEAD + "tables:\n  - name: t\n    type: ldap\n    param: x\n", None, "ldap"),
    "duplicate table": (HEAD + "tables:\n  - {name: t, type: static, param: a=1}\n"
                        "  - {name: t, type: static, param: a=1}\n", 5, "t"),
    "table without a name": (HEAD + "tables:\n  - {type: static, param: a=1}\n", 4, "name"),
    "table without a type": (HEAD + "tables:\n  - {name: t, param: a=1}\n", 4, "type"),
    "unknown protocol": ('listeners:\n  - protocol: smtp\n    address: "unix:{dir}/s"\n' + TABLE, None,
                         "protocol"),
    "listener without an address": ("listeners:\n  - {protocol: socketmap}\n" + TABLE, 2, "address"),
    "address without a port": ("listeners:\n  - protocol: socketmap\n    address: localhost\n" + TABLE, None,
                               "address"),
    "port out of range": ('listeners:\n  - protocol: socketmap\n    address: "127.0.0.1:70000"\n' + TABLE,
                          None, "70000"),
    "path too long for a socket": ('listeners:\n  - protocol: socketmap\n    address: "unix:{dir}/' + "x" * 120
                                   + '"\n' + TABLE, None, "address"),
    "bad mode": (LISTENER + '    mode: "rw-rw"\n' + TABLE, 4, "mode"),
    "unknown group": (LISTENER + '    group: no-such-group\n' + TABLE, None, "no-such-group"),
    "listener's table is unknown": (LISTENER + '    table: nosuch\n' + TABLE, None, "nosuch"),
    "listeners is no list": ("listeners: yes\n" + TABLE, 1, "listeners"),
    "tables is no list": (HEAD + "tables: 5\n", 3, "tables"),
    "threads is a word": ("threads: many\n" + HEAD + TABLE, 1, "threads"),
    "negative threads": ("threads: -1\n" + HEAD + TABLE, 1, "threads"),
    "bad log level": ("log: {level: loud}\n" + HEAD + TABLE, 1, "level"),
    "bad log format": ("log: {format: xml}\n" + HEAD + TABLE, 1, "format"),
    "unknown log key": ("log: {colour: red}\n" + HEAD + TABLE, 1, "colour"),
    "duration without a unit": (URL + '    timeout: soon\n', 7, "timeout"),
    "negative duration": (URL + '    timeout: -5s\n', 7, "timeout"),
    "bad size": (URL + '    max_body: huge\n', 7, "max_body"),
    "bad yes or no": (URL + '    tls_verify: perhaps\n', 7, "tls_verify"),
    "bad word": (URL + '    balance: random\n', 7, "balance"),
    "no URL": (HEAD + 'tables:\n  - name: t\n    type: url\n    param: "not a url"\n', None, "param"),
    "another scheme": (HEAD + 'tables:\n  - name: t\n    type: url\n    param: "ftp://h/{}"\n', None,
                       "param"),
    "unknown placeholder": (HEAD + 'tables:\n  - name: t\n    type: url\n    param: "http://h/{nope}"\n',
                            None, "nope"),
    "open brace": (HEAD + 'tables:\n  - name: t\n    type: url\n    param: "http://h/{key"\n', None, "param"),
    "bad status": (URL + '    status: {404: maybe}\n', 7, "status"),
    "status out of range": (URL + '    status: {999: temp}\n', 7, "status"),
    "line break in a header": (URL + '    headers: {X: "a\\r\\nY: b"}\n', 7, "headers"),
    "secret file that is missing": (URL + '    auth_token_file: "{dir}/none"\n', 7, "auth_token_file"),
    "static pair without =": (STATIC_TABLE + "    param: justaword\n", None, "param"),
    "static file that is missing": (STATIC_TABLE + '    param: "file:{dir}/none"\n', None, "none"),
    "chain to nowhere": (HEAD + "tables:\n  - name: t\n    type: chain\n    param: nosuch\n", None, "nosuch"),
    "chain in a circle": (HEAD + "tables:\n  - {name: a, type: chain, param: b}\n"
                          "  - {name: b, type: chain, param: a}\n", None, ""),
    "empty chain": (HEAD + 'tables:\n  - name: t\n    type: chain\n    param: ""\n', None, "param"),
    "unset environment": (STATIC_TABLE + '    param: "a=${E2E_SURELY_UNSET}"\n', None, "E2E_SURELY_UNSET"),
    "no YAML": (HEAD + "tables: [\n", None, ""),
    "tab in YAML": (HEAD + "tables:\n\t- {name: t}\n", 4, "tab"),
    "catch-all without quotes": (STATIC_TABLE + "    entries:\n      ü: @x\n", 7, 'must be in quotes, like "@..."'),
    "star without quotes": (STATIC_TABLE + "    entries:\n      *: a\n", 7, 'must be in quotes, like "*..."'),
    "token of two lines": (URL + '    auth_token: "a\\nb"\n', 7, "auth_token: holds a control character"),
    "token file of many lines": (URL + '    auth_token_file: /etc/passwd\n', 7, "auth_token_file: holds a control"),
    "tab behind blanks": (STATIC_TABLE + "    entries:\n     \ta: b\n", 7, "tab"),
    "not UTF-8": (HEAD + TABLE + "# \udcff\udcfe\n", None, ""),
}


class ConfigurationErrors(Case):
    """Each names file, line and key, ends with 1, and comes before any socket."""

    def write(self, text):
        """A new directory with the file."""
        self.dir = tempdir(self)
        self.file = os.path.join(self.dir, "mapmux.yaml")
        with open(self.file, "wb") as file:
            file.write(text.replace("{dir}", self.dir).encode("utf-8", "surrogateescape"))

    def test_configuration_errors(self):
        for name, (text, line, word) in BAD.items():
            for command in ("check", "serve"):
                with self.subTest(name, command=command):
                    self.write(text)
                    done = mapmux(command, "-c", self.file)
                    errors = done.stderr.decode()
                    self.assertEqual(done.returncode, 1, errors)
                    number = str(line) if line else r"\d+"
                    self.assertRegex(errors, rf"(?m){re.escape(self.file)}:{number}: .*{re.escape(word)}")
                    self.assertFalse(os.path.exists(os.path.join(self.dir, "s")), "a socket was opened")

    def test_message_names_what_is_allowed(self):
        for name, allowed in (("unknown type", "static"), ("unknown protocol", "socketmap"),
                              ("bad log level", "info"),
                              ("bad word", "round-robin"), ("unknown key of a listener", "address")):
            with self.subTest(name):
                self.write(BAD[name][0])
                self.assertIn(allowed, mapmux("check", "-c", self.file).stderr.decode())

    def test_error_in_the_second_file(self):
        self.write(HEAD + TABLE)
        second = os.path.join(self.dir, "second.yaml")
        with open(second, "w", encoding="ascii") as file:
            file.write("\nlisners: []\n")
        done = mapmux("check", "-c", self.file, "-c", second)
        self.assertEqual(done.returncode, 1)
        self.assertIn(f"{second}:2: ", done.stderr.decode())

    def test_missing_file(self):
        done = mapmux("check", "-c", os.path.join(tempdir(self), "none.yaml"))
        self.assertEqual(done.returncode, 1)
        self.assertIn("none.yaml", done.stderr.decode())

    def test_no_listener(self):
        done = mapmux("serve", *STATIC)
        self.assertEqual(done.returncode, 1)
        self.assertIn("listen", done.stderr.decode())


class CommandLine(Case):
    """Options, groups, and their errors."""

    def bad(self, word, *args):
        for command in ("check", "serve"):
            with self.subTest(args=args, command=command):
                done = mapmux(command, *args)
                self.assertEqual(done.returncode, 1, done.stderr)
                self.assertIn(word, done.stderr.decode())

    def test_errors(self):
        where = tempdir(self)
        listen = ("--listen", f"socketmap:unix:{where}/s")
        for word, args in (
                ("param", ("--name", "t", "--type", "static")), ("type", ("--name", "t", "--param", "a=1")),
                ("name", ("--type", "static", "--param", "a=1")),
                ("param", (*STATIC, "--name", "u", "--type", "static")), ("option", ("--option", "a=b")),
                ("colour", (*STATIC, "--option", "colour=red")),
                ("option", (*STATIC, "--option", "novalue")), ("--nonsense", (*STATIC, "--nonsense")),
                ("nosuch", ("--name", "t", "--type", "nosuch", "--param", "x")),
                ("t", (*STATIC, *STATIC)), ("socket", (*STATIC, "--mode", "postfix")),
                ("mode", (*STATIC, "--socket", where + "/s")),
                ("mode", (*STATIC, "--socket", where + "/s", "--mode", "exim")),
                ("threads", (*STATIC, "--threads", "none")),
                ("log-level", (*STATIC, "--log-level", "loud")),
                ("log-format", (*STATIC, "--log-format", "xml"))):
            self.bad(word, *listen, *args)
        for listener in ("unix:/x", "smtp:unix:/x", "socketmap:", "socketmap:unix:", "socketmap:host",
                         "socketmap:127.0.0.1:99999",
                         "socketmap:127.0.0.1:80,colour=red", "socketmap:[::1:80",
                         "socketmap:unix:/x,mode=rwx"):
            self.bad("listen", "--listen", listener, *STATIC)
        self.assertFalse(os.path.exists(where + "/s"))

    def test_groups_in_any_order(self):
        path = tempdir(self) + "/s"
        Mapmux(self, "--param", "k=1", "--name", "a", "--type", "static", "--listen",
               f"socketmap:unix:{path}", "--type", "static", "--param", "k=2",
               "--name", "b", "--name", "c", "--param", "k=3", "--type", "static")
        with Socketmap(path) as client:
            self.assertEqual([client.ask(name, "k")[1] for name in "abc"], ["1", "2", "3"])

    def test_options_of_the_table_named_last(self):
        backend = Backend(self, lambda request: as_json([request.header("Authorization") or "none", "x"]))
        path = tempdir(self) + "/s"
        Mapmux(self, "serve", "--listen", f"socketmap:unix:{path}", "--name", "a", "--type", "url", "--param",
               backend.url + "/{}",
               "--option", "auth_token=T", "--option", "list_separator=;", "--name", "b", "--type", "url",
               "--param", backend.url + "/{}")
        with Socketmap(path) as client:
            self.assertEqual(client.ask("a", "k"), ("OK", "Bearer T;x"))
            self.assertEqual(client.ask("b", "k"), ("OK", "none,x"))

    def test_podop(self):
        """podop's own command lines, as Mailu writes them."""
        backend = Backend(self,
                          lambda request: as_json("me") if request.plain_path.endswith("/a@b.c") else None)
        where = tempdir(self)
        Mapmux(self, "--socket", where + "/p", "--mode", "postfix", "--name", "transport", "--type", "url",
               "--param", backend.url + "/internal/transport/§",
               "--name", "alias", "--type", "url", "--param", backend.url + "/internal/alias/{}")
        with Socketmap(where + "/p") as client:
            self.assertEqual(client.ask("transport", "a@b.c"), ("OK", "me"))
            self.assertEqual(client.ask("alias", "x@b.c")[0], "NOTFOUND")
        self.assertEqual([request.target for request in backend.seen()],
                         ["/internal/transport/a%40b.c", "/internal/alias/x%40b.c"])
        Mapmux(self, "--socket", where + "/d", "--mode", "dovecot", "--name", "quota", "--type", "url",
               "--param", backend.url + "/internal/quota/§")
        with Dict(where + "/d", "quota") as client:
            self.assertEqual(client.lookup("shared/a@b.c").value, "me")
            self.assertEqual(client.lookup("priv/storage", "a@b.c").value, "me")
        self.assertEqual(backend.seen()[-1].target, "/internal/quota/storage/a%40b.c")

    def test_listen_forms(self):
        where, ports = tempdir(self), [free_port() for _ in range(4)]
        Mapmux(self, "--listen", f"socketmap:unix:{where}/s", "--listen", f"dict:unix:{where}/d", "--listen",
               f"socketmap:127.0.0.1:{ports[0]}",
               "--listen", f"socketmap:[::1]:{ports[1]}", "--listen", f"socketmap::{ports[2]}", "--listen",
               f"dict:localhost:{ports[3]}", *STATIC)
        for address in (where + "/s", ("127.0.0.1", ports[0]), ("::1", ports[1]), ("127.0.0.1", ports[2]),
                        ("::1", ports[2])):
            with self.subTest(address=address), Socketmap(address) as client:
                self.assertEqual(client.ask("t", "key"), ("OK", "value"))
        for address in (where + "/d", ("127.0.0.1", ports[3])):
            with self.subTest(address=address), Dict(address, "t") as client:
                self.assertEqual(client.lookup("shared/nothing").letter, "N")

    def test_two_files_and_the_command_line_add_up(self):
        where = tempdir(self)
        paths = []
        for number, name in enumerate("ab"):
            paths.append(f"{where}/{number}.yaml")
            with open(paths[-1], "w", encoding="ascii") as file:
                file.write(document({"listeners": [{"protocol": "socketmap",
                                                    "address": f"unix:{where}/{name}"}],
                                     "tables": [{"name": name, "type": "static", "param": f"key={name}"}]}))
        Mapmux(self, "-c", paths[0], "--config", paths[1], *STATIC, "--threads", "1",
               extra=[f"unix:{where}/a", f"unix:{where}/b"])
        for name in "ab":
            with Socketmap(f"{where}/{name}") as client:
                self.assertEqual([client.ask(table, "key")[1] for table in "abt"], ["a", "b", "value"])

    def test_yaml_as_people_write_it(self):
        path = tempdir(self) + "/s"
        text = f"""\
# a comment
---
threads: 2
log: {{level: info, format: text}}

listeners:
  - protocol: socketmap     # for Postfix
    address: unix:{path}
    mode: "0666"

tables:
  - name: folded
    type: static
    param: >-
      key=value
      other='x'
  - name: 'quoted'
    type: "static"
    param: 'key=it''s'
    timeout: 5s
"""
        Mapmux(self, config=text, extra=["unix:" + path])
        with Socketmap(path) as client:
            self.assertEqual(client.ask("folded", "key"), ("OK", "value"))
            self.assertEqual(client.ask("quoted", "key"), ("OK", "it's"))

    def test_environment(self):
        where = tempdir(self)
        config = {"listeners": [{"protocol": "socketmap", "address": "unix:${E2E_DIR}/s"}],
                  "tables": [{"name": "t", "type": "static", "param": "key=${E2E_VALUE}"}]}
        Mapmux(self, "-c", self.file(where, document(config)),
               env={"E2E_DIR": where, "E2E_VALUE": "from-environment"}, extra=[f"unix:{where}/s"])
        with Socketmap(where + "/s") as client:
            self.assertEqual(client.ask("t", "key"), ("OK", "from-environment"))

    @staticmethod
    def file(where, text):
        path = os.path.join(where, "mapmux.yaml")
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path


class Check(Case):
    """`check` says what would run, and touches nothing."""

    def test_good(self):
        where, port = tempdir(self), free_port()
        args = ("--listen", f"socketmap:unix:{where}/s", "--listen", f"dict:127.0.0.1:{port}", *STATIC,
                "--name", "other", "--type", "url",
                "--param", "http://127.0.0.1:1/{}", "--option", "auth_token=s3cr3t-t0ken", "--option",
                "timeout=7s")
        done = mapmux("check", *args)
        text = done.stdout.decode()
        self.assertEqual(done.returncode, 0, done.stderr)
        for word in (f"{where}/s", str(port), "socketmap", "dict", "other", "static", "url"):
            self.assertIn(word, text)
        self.assertNotIn("s3cr3t-t0ken", text + done.stderr.decode())
        self.assertFalse(os.path.exists(where + "/s"))
        self.assertFalse(answers(("127.0.0.1", port)))

    def test_url_without_a_key(self):
        for param, option, warned in (("http://h/alias/", "method=GET", True), ("http://h/{}", "method=GET", False),
                                      ("http://h/?d={domain}", "method=GET", False),
                                      ("http://h/policy", "method=POST", False)):
            with self.subTest(param):
                done = mapmux("check", "--listen", "http:127.0.0.1:10003", "--name", "t", "--type", "url", "--param",
                              param, "--option", option)
                self.assertEqual(done.returncode, 0)
                self.assertEqual("has no placeholder" in done.stderr.decode(), warned, done.stderr)

    def test_attributes_that_postfix_does_not_send(self):
        """A lock that never locks is told of; a newer Postfix may send more, so it is no error."""
        def told(key, identity):
            done = mapmux("check", "--listen", f"policy:127.0.0.1:10003,table=t,key={key}", *STATIC, "--name", "l",
                          "--type", "ratelimit", "--param", "1/h", "--option", f"identity={identity}")
            self.assertEqual(done.returncode, 0)
            return done.stderr.decode()
        self.assertEqual(told("sender", "sender_domain client_address"), "")
        self.assertIn('warn key: Postfix sends no attribute "sendr"', told("sendr", "sender"))
        self.assertIn('identity: Postfix sends no attribute "sasl_user"', told("sender", "sasl_user sender"))

    def test_beside_a_running_server(self):
        path = tempdir(self) + "/s"
        args = ("--listen", f"socketmap:unix:{path}", *STATIC)
        Mapmux(self, *args)
        self.assertEqual(mapmux("check", *args).returncode, 0)
        with Socketmap(path) as client:
            self.assertEqual(client.ask("t", "key"), ("OK", "value"))

    def test_shipped_configurations(self):
        """Every file in conf/ that is a configuration of ours is a good one."""
        root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        files = glob.glob(os.path.join(root, "conf", "*.yaml"))
        self.assertTrue(files, "no conf/*.yaml")
        for path in files:
            with self.subTest(path):
                done = mapmux("check", "-c", path, cwd=root)
                self.assertEqual(done.returncode, 0, done.stderr.decode())


class Query(Case):
    """`mapmux query` against a running server."""

    @classmethod
    def setUpClass(cls):
        cls.backend = Backend(cls, lambda request: {"/u/key": "of url",
                                                    "/u/a b": "blank"}.get(request.plain_path) or Reply(
            status=503 if request.path.startswith("/u/fail") else 404))
        where = tempdir(cls)
        cls.sm, cls.di, cls.sm_port, cls.di_port = where + "/s", where + "/d", free_port(), free_port()
        Mapmux(cls, config=document({
            "listeners": [{"protocol": "socketmap", "address": "unix:" + cls.sm},
                          {"protocol": "dict", "address": "unix:" + cls.di},
                          {"protocol": "socketmap", "address": f"127.0.0.1:{cls.sm_port}"},
                          {"protocol": "dict", "address": f"127.0.0.1:{cls.di_port}"}],
            "tables": [{"name": "t", "type": "static", "param": "key=value other=second"},
                       url("u", cls.backend.url + "/u/{}"),
                       {"name": "m", "type": "memory", "param": ""}]}))

    def query(self, *args, code=0, stdin=b""):
        """stdout of a query that ends with `code`."""
        done = mapmux("query", *args, stdin=stdin)
        self.assertEqual(done.returncode, code, (args, done.stdout, done.stderr))
        if code == 2:
            self.assertTrue(done.stderr.strip(), "an error is told on stderr")
        return done.stdout.decode()

    def test_socketmap(self):
        for place in (f"unix:{self.sm}", f"inet:127.0.0.1:{self.sm_port}"):
            with self.subTest(place):
                self.assertEqual(self.query(f"socketmap:{place}:t", "key"), "value\n")
                self.assertEqual(self.query(f"socketmap:{place}:u", "a b"), "blank\n")
                self.assertEqual(self.query(f"socketmap:{place}:t", "none", code=1), "")
                self.query(f"socketmap:{place}:u", "fail", code=2)
                self.query(f"socketmap:{place}:nosuch", "key", code=2)

    def test_dict(self):
        for place in (f"unix:{self.di}", f"inet:127.0.0.1:{self.di_port}"):
            with self.subTest(place):
                self.query(f"dict:{place}:m", "--set", "shared/k", "5")
                self.assertEqual(self.query(f"dict:{place}:m", "shared/k"), "5\n")
                self.query(f"dict:{place}:m", "--inc", "shared/k", "3")
                self.assertEqual(self.query(f"dict:{place}:m", "shared/k"), "8\n")
                self.assertIn("shared/k", self.query(f"dict:{place}:m", "--iterate", "shared/"))
                self.query(f"dict:{place}:m", "--unset", "shared/k")
                self.assertEqual(self.query(f"dict:{place}:m", "shared/k", code=1), "")
                self.query(f"dict:{place}:m", "--inc", "shared/k", "3", code=1)
                self.query(f"dict:{place}:u", "shared/fail", code=2)
                self.query(f"dict:{place}:nosuch", "shared/k", code=2)
                self.query(f"dict:{place}:t", "--set", "shared/k", "5", code=2)

    def test_dict_user(self):
        endpoint = f"dict:unix:{self.di}:m"
        self.query("--user", "alice", endpoint, "--set", "priv/k", "hers")
        self.assertEqual(self.query("--user", "alice", endpoint, "priv/k"), "hers\n")
        self.query("--user", "bob", endpoint, "priv/k", code=1)
        self.query(endpoint, "priv/k", code=2)

    def test_several_keys(self):
        lines = self.query(f"socketmap:unix:{self.sm}:t", "key", "other").splitlines()
        self.assertEqual(len(lines), 2)
        self.assertIn("value", lines[0])
        self.assertIn("second", lines[1])
        self.query(f"socketmap:unix:{self.sm}:u", "key", "fail", code=2)

    def test_keys_from_standard_input(self):
        lines = self.query(f"socketmap:unix:{self.sm}:t", "-", stdin="key\nnone\nother\n").splitlines()
        self.assertEqual([word in " ".join(lines) for word in ("value", "second")], [True, True])
        self.query(f"socketmap:unix:{self.sm}:t", "-", stdin="none\nnowhere\n", code=1)

    def test_json(self):
        found = json.loads(self.query("--json", f"socketmap:unix:{self.sm}:t", "key"))
        self.assertEqual((found["status"], found["value"]), ("ok", "value"))
        for key, code in (("none", 1), ("fail", 2)):
            line = self.query("--json", f"socketmap:unix:{self.sm}:u", key, code=code)
            self.assertNotEqual(json.loads(line)["status"], "ok")

    def test_no_server(self):
        self.query(f"socketmap:unix:{self.sm}.none:t", "key", code=2)
        self.query(f"socketmap:inet:127.0.0.1:{free_port()}:t", "key", code=2)
        self.query(f"dict:unix:{self.di}.none:t", "shared/key", code=2)

    def test_bad_arguments(self):
        for args in ((), ("nonsense", "key"), ("socketmap:unix:nothing", "key"),
                     (f"socketmap:unix:{self.sm}:t",), ("dict:unix:x:t", "--set", "shared/k"),
                     ("dict:unix:x:t", "--inc", "shared/k", "many"), ("ftp:unix:x:t", "key")):
            with self.subTest(args):
                self.query(*args, code=2)


class Help(Case):
    """help, and a wrong command."""

    def test_help(self):
        done = mapmux("help")
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        for word in ("--listen", "--config", "--name", "--type", "--param", "--option", "query", "check",
                     "--threads", "url", "static"):
            self.assertIn(word, done.stdout.decode())

    def test_help_for_types(self):
        for name, words in (("url", ("max_body", "auth_token", "status", "timeout", "tls_verify",
                                     "priv_suffix", "{key}")), ("static", ("file:",)),
                            ("memory", ()), ("chain", ())):
            with self.subTest(name):
                done = mapmux("help", name)
                self.assertEqual(done.returncode, 0)
                for word in ("param", *words):
                    self.assertIn(word, done.stdout.decode())

    def test_wherever_it_is_asked_for(self):
        whole, query = mapmux("help").stdout, mapmux("query", "--help").stdout
        self.assertNotEqual(whole, query)
        for args in (["--help"], ["-h"], ["serve", "--help"], ["serve", "-h"], ["check", "--help"],
                     ["convert", "--help"], ["help", "serve"], ["help", "check"], ["help", "convert"], ["help", "--help"]):
            with self.subTest(args):
                done = mapmux(*args)
                self.assertEqual((done.returncode, done.stderr, done.stdout), (0, b"", whole))
        self.assertEqual(mapmux("help", "query").stdout, query)

    def test_unknown(self):
        self.assertEqual(mapmux("help", "nosuch").returncode, 1)
        done = mapmux("explode")
        self.assertEqual(done.returncode, 1)
        self.assertIn("serve, check, query, convert, help, version", done.stderr.decode())


class Sockets(Case):
    """The files of unix sockets."""

    def test_mode_and_owner(self):
        where = tempdir(self)
        Mapmux(self, "--listen", f"socketmap:unix:{where}/a,mode=0660,group=mail", "--listen",
               f"socketmap:unix:{where}/b,mode=0600,user=nobody",
               "--listen", f"dict:unix:{where}/c,mode=0666", *STATIC)
        for name, mode, uid, gid in (("a", 0o660, 0, grp.getgrnam("mail").gr_gid),
                                     ("b", 0o600, pwd.getpwnam("nobody").pw_uid, 0), ("c", 0o666, 0, 0)):
            with self.subTest(name):
                found = os.stat(f"{where}/{name}")
                self.assertTrue(stat.S_ISSOCK(found.st_mode))
                self.assertEqual((stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid), (mode, uid, gid))

    def test_default_mode(self):
        """Nobody else may connect unless the administrator says so, whatever the umask was."""
        where = tempdir(self)
        Mapmux(self, "--listen", f"socketmap:unix:{where}/s", "--listen", f"dict:unix:{where}/d", *STATIC)
        self.assertEqual([stat.S_IMODE(os.stat(f"{where}/{name}").st_mode) for name in "sd"], [0o660, 0o660])

    def test_stale_socket_is_taken_over(self):
        path = tempdir(self) + "/s"
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(path)
        Mapmux(self, "--listen", f"socketmap:unix:{path}", *STATIC)
        with Socketmap(path) as client:
            self.assertEqual(client.ask("t", "key"), ("OK", "value"))

    def test_killed_servers_socket_is_taken_over(self):
        path = tempdir(self) + "/s"
        first = Mapmux(self, "--listen", f"socketmap:unix:{path}", *STATIC)
        first.kill(signal.SIGKILL)
        first.ended()
        self.assertTrue(os.path.exists(path))
        Mapmux(self, "--listen", f"socketmap:unix:{path}", *STATIC)
        with Socketmap(path) as client:
            self.assertEqual(client.ask("t", "key"), ("OK", "value"))

    def test_live_socket_is_left_alone(self):
        path, port = tempdir(self) + "/s", free_port()
        Mapmux(self, "--listen", f"socketmap:unix:{path}", "--listen", f"socketmap:127.0.0.1:{port}", *STATIC)
        for address in (f"unix:{path}", f"127.0.0.1:{port}"):
            done = mapmux("--listen", "socketmap:" + address, "--name", "t", "--type", "static", "--param",
                          "key=wrong")
            self.assertEqual(done.returncode, 1)
            self.assertTrue(done.stderr)
        with Socketmap(path) as client:
            self.assertEqual(client.ask("t", "key"), ("OK", "value"))

    def test_a_name_of_two_addresses(self):
        """Both, or none: clients of the other would reach somebody else. One that this machine lacks may be missing."""
        hosts, port = tempdir(self) + "/hosts", free_port()
        with open(hosts, "w", encoding="ascii") as file:
            for name, addresses in (("two", "12"), ("twice", "11"), ("absent", "13")):
                file.writelines(f"{'192.0.2.1' if last == '3' else '127.0.0.' + last} {name}.test\n" for last in addresses)
        wrap = ["unshare", "--mount", "sh", "-c", f'mount --bind {hosts} /etc/hosts && exec "$@"', "sh"]

        def listen(name):
            return [f"--listen=socketmap:{name}.test:{port}", *STATIC]      # nobody here can resolve it to wait for it

        def ask(address):
            with Socketmap((address, port)) as client:
                return client.ask("t", "key")
        for name, addresses in (("two", "12"), ("twice", "1"), ("absent", "1")):
            mux = Mapmux(self, *listen(name), wrap=wrap)
            wait_until(lambda: " is ready: " in mux.log(), "it listens")
            for last in addresses:
                self.assertEqual(ask("127.0.0." + last), ("OK", "value"))
            mux.stop()
        with socket.create_server(("127.0.0.2", port)):
            done = run([*wrap, binary(), *listen("two")])
        self.assertEqual(done.returncode, 1)
        self.assertIn(f"two.test:{port}: cannot bind: Address already in use", done.stderr.decode())

    def test_what_is_no_socket_is_left_alone(self):
        path = tempdir(self) + "/s"
        with open(path, "w", encoding="ascii") as file:
            file.write("precious")
        self.assertEqual(mapmux("--listen", f"socketmap:unix:{path}", *STATIC).returncode, 1)
        with open(path, encoding="ascii") as file:
            self.assertEqual(file.read(), "precious")

    def test_removed_at_exit(self):
        path = tempdir(self) + "/s"
        mux = Mapmux(self, "--listen", f"socketmap:unix:{path}", *STATIC)
        self.assertTrue(os.path.exists(path))
        mux.stop()
        self.assertFalse(os.path.exists(path))

    def test_missing_directory(self):
        done = mapmux("--listen", f"socketmap:unix:{tempdir(self)}/none/s", *STATIC)
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr.decode(), "none/s: cannot bind: there is no such directory")

    def test_privileges_are_dropped(self):
        where = tempdir(self)
        os.chmod(where, 0o777)
        mux = Mapmux(self, "--listen", f"socketmap:unix:{where}/s", "--user", "nobody", "--group", "nogroup",
                     *STATIC)
        with Socketmap(where + "/s") as client:     # who answers has dropped them
            self.assertEqual(client.ask("t", "key"), ("OK", "value"))
        with open(f"/proc/{mux.pid}/status", encoding="ascii") as file:
            status = file.read()
        uid, gid = pwd.getpwnam("nobody").pw_uid, grp.getgrnam("nogroup").gr_gid
        self.assertRegex(status, rf"(?m)^Uid:\t{uid}\t{uid}\t{uid}\t{uid}$")
        self.assertRegex(status, rf"(?m)^Gid:\t{gid}\t{gid}\t{gid}\t{gid}$")


class Signals(Case):
    """SIGTERM drains, SIGHUP does not kill."""

    def setUp(self):
        self.gate = threading.Event()
        self.backend = Backend(self, self.answer)
        self.mux = serve(self, [url("t", self.backend.url + "/{}"),
                                {"name": "m", "type": "memory", "param": ""}])

    def answer(self, request):
        """/slow is answered when the gate opens."""
        if request.path == "/slow":
            return as_json("late", gate=self.gate)
        return as_json("v")

    def test_term_drains(self):
        clients = [self.mux.socketmap() for _ in range(5)]
        dict_client = self.mux.dict("t")
        for client in clients:
            self.addCleanup(client.close)
            client.request("t", "slow")
        self.addCleanup(dict_client.close)
        late = dict_client.start_lookup("shared/slow")
        self.backend.wait_for(path="/slow")
        time.sleep(0.2)             # all six are asked, or joined to one that is
        self.mux.kill(signal.SIGTERM)
        wait_until(lambda: "stopping" in self.mux.log() or not answers(self.mux.paths["socketmap"]),
                   "it stops", timeout=5)
        self.assertTrue(self.mux.running())
        self.gate.set()
        for client in clients:
            self.assertEqual(client.reply(), ("OK", "late"))
        self.assertEqual(dict_client.finish(late).value, "late")
        self.assertEqual(self.mux.ended(), 0)

    def test_term_closes_the_door_at_once(self):
        """Who comes while the last answers are awaited is refused, and can try elsewhere or again."""
        with self.mux.socketmap() as client:
            client.request("t", "slow")
            self.backend.wait_for(path="/slow")
            self.mux.kill(signal.SIGTERM)
            wait_until(lambda: not answers(self.mux.paths["socketmap"]), "no new connections", timeout=5)
            self.assertTrue(self.mux.running())
            self.gate.set()
            self.assertEqual(client.reply(), ("OK", "late"))
        self.assertEqual(self.mux.ended(), 0)

    def test_term_with_idle_clients_is_quick(self):
        clients = [self.mux.socketmap() for _ in range(20)]
        for client in clients:
            self.addCleanup(client.close)
            client.ask("t", "k")
        start = time.monotonic()
        self.mux.kill(signal.SIGTERM)
        self.assertEqual(self.mux.ended(), 0)
        self.assertLess(time.monotonic() - start, 5)

    def test_term_ends_in_time(self):
        """What is not done within shutdown_timeout is not waited for, though it has time of its own left."""
        mux = serve(self, [url("t", self.backend.url + "/{}", timeout="25s")], shutdown_timeout="1s")
        with mux.socketmap() as client:
            client.request("t", "slow")
            self.backend.wait_for(path="/slow")
            mux.kill(signal.SIGTERM)
            self.assertEqual(mux.ended(timeout=20), 0)
        self.assertIn("still busy after shutdown_timeout", mux.log())

    def test_int_ends(self):
        self.mux.kill(signal.SIGINT)
        self.assertEqual(self.mux.ended(), 0)

    def test_hup_does_not_kill(self):
        with self.mux.socketmap() as client:
            for number in range(5):
                self.mux.kill(signal.SIGHUP)
                self.assertEqual(client.ask("t", f"k{number}"), ("OK", "v"))
        self.assertEqual(self.mux.ask("t", "k"), ("OK", "v"))
        self.assertTrue(self.mux.running())

    def test_leaving_clients_do_not_kill(self):
        for _ in range(50):
            client = self.mux.socketmap()
            client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            client.request("t", "slow")
            client.close()
        self.gate.set()
        self.assertEqual(self.mux.ask("t", "k"), ("OK", "v"))


class Logs(Case):
    """What is written, and what never is."""

    SECRETS = ("s3cret-token", "s3cret-file", "s3cret-environment", "user:s3cret-basic", "s3cret-argument",
               "secret-value", "{PLAIN}hunter2")

    def busy(self, level_args=()):
        """A mapmux that has used every secret; returns it."""
        def answer(request):
            statuses = {"/401": 401, "/503": 503, "/garbage": 200}
            if request.path == "/object":
                return as_json({"password": "{PLAIN}hunter2"})
            if request.path in statuses:
                return Reply("{PLAIN}hunter2", statuses[request.path])
            return as_json("secret-value") if request.method == "GET" else Reply(status=500)
        backend = Backend(self, answer)
        where = tempdir(self)
        with open(where + "/token", "w", encoding="ascii") as file:
            file.write("s3cret-file\n")
        base = backend.url + "/{}"
        config = {"listeners": [{"protocol": name,
                                 "address": f"unix:{where}/{name}"} for name in ("socketmap", "dict")],
                  "tables": [url("a", base, auth_token="s3cret-token"),
                             url("b", base, auth_token_file=where + "/token"),
                             url("c", base, auth_token="${E2E_TOKEN}"),
                             url("d", base, basic_auth="user:s3cret-basic"),
                             url("dead", "http://127.0.0.1:1/{}")]}
        mux = Mapmux(self, *level_args, "--name", "e", "--type", "url", "--param", base, "--option",
                     "auth_token=s3cret-argument",
                     config=document(config), env={"E2E_TOKEN": "s3cret-environment"})
        for table in ("a", "b", "c", "d", "e", "dead"):
            with Socketmap(where + "/socketmap") as client:
                for key in ("key", "401", "503", "garbage", "object"):
                    client.ask(table, key)
            with Dict(where + "/dict", table) as client:
                client.lookup("shared/key")
                client.lookup("shared/503")
                client.change(1, ("set", "shared/k", "secret-value"))
        with Socketmap(where + "/socketmap") as client:
            client.send(b"7:secret-value,")
            client.rest()
        with Dict(where + "/dict", "nosuch"):
            pass
        return mux

    def test_no_secret_in_the_log(self):
        mux = self.busy()
        log = mux.log()
        self.assertTrue(log, "something went wrong often enough to be logged")
        for secret in self.SECRETS:
            self.assertNotIn(secret, log)

    def test_no_secret_in_ps(self):
        mux = self.busy()
        with open(f"/proc/{mux.pid}/cmdline", "rb") as file:
            line = file.read().decode()
        self.assertIn("mapmux", line)
        for secret in self.SECRETS:
            self.assertNotIn(secret, line)

    def test_json_lines(self):
        mux = self.busy(("--log-format", "json"))
        lines = mux.log().splitlines()
        self.assertTrue(lines)
        for line in lines:
            self.assertIsInstance(json.loads(line), dict, line)
        for secret in self.SECRETS:
            self.assertNotIn(secret, mux.log())

    def test_control_characters_cannot_forge_lines(self):
        for form in ("text", "json"):
            with self.subTest(form):
                mux = serve(self, [{"name": "t", "type": "static", "param": "a=1"}],
                            log={"format": form, "level": "debug"})
                mux.ask("no\nforged line\x1b[2J", "k\nforged line")
                with self.assertRaises(AssertionError):
                    mux.look("no\nforged line\x1b[2J", "shared/k\nforged line")
                for line in mux.log().splitlines():
                    self.assertFalse(line.startswith("forged line"), mux.log())
                    self.assertNotIn("\x1b", line)

    def test_log_level(self):
        backend = Backend(self, lambda request: Reply(status=503))
        quiet = serve(self, [url("t", backend.url + "/{}")], log={"level": "error"})
        quiet.ask("nosuch", "k")
        chatty = serve(self, [url("t", backend.url + "/{}")], log={"level": "debug"})
        for mux in (quiet, chatty):
            mux.ask("t", "key-that-debug-shows")
        wait_until(lambda: len(chatty.log()) > len(quiet.log()), "debug tells more than error", timeout=5)
        self.assertNotIn("key-that-debug-shows", quiet.log())


class StaticFile(Case):
    """A file of the static table is read again when it changes."""

    def test_changes(self):
        path = os.path.join(tempdir(self), "map")

        def write(text):
            with open(path + ".new", "w", encoding="utf-8") as file:
                file.write(text)
            os.rename(path + ".new", path)
        write('{"key": "one", "list": ["a", "b"], "yes": true, "no": false, "n": 5}')
        mux = serve(self, [{"name": "t", "type": "static", "param": "file:" + path}])
        self.assertEqual([mux.ask("t", key)[0] for key in ("key", "list", "yes", "no", "none")],
                         ["OK", "OK", "OK", "NOTFOUND", "NOTFOUND"])
        self.assertEqual([mux.ask("t", key)[1] for key in ("key", "list", "yes", "n")],
                         ["one", "a,b", "1", "5"])
        write("# now text\nkey two\n\nnew  with blanks  inside\n")
        wait_until(lambda: mux.ask("t", "key") == ("OK", "two"), "the new file is read")
        self.assertEqual(mux.ask("t", "new"), ("OK", "with blanks  inside"))
        self.assertEqual(mux.ask("t", "list")[0], "NOTFOUND")

    def test_broken_file_keeps_the_old_one(self):
        path = os.path.join(tempdir(self), "map")
        with open(path, "w", encoding="ascii") as file:
            file.write('{"key": "one"}')
        mux = serve(self, [{"name": "t", "type": "static", "param": "file:" + path}])
        self.assertEqual(mux.ask("t", "key"), ("OK", "one"))
        before = mux.log()
        with open(path, "w", encoding="ascii") as file:
            file.write('{"key": "two"')
        wait_until(lambda: mux.ask("t", "key")[0] == "TEMP" or len(mux.log()) > len(before),
                   "the broken file is noticed")
        status, value = mux.ask("t", "key")
        self.assertTrue(status == "TEMP" or (status, value) == ("OK", "one"), (status, value))
        with open(path, "w", encoding="ascii") as file:
            file.write('{"key": "three"}')
        wait_until(lambda: mux.ask("t", "key") == ("OK", "three"), "the mended file is read")


if __name__ == "__main__":
    unittest.main()
