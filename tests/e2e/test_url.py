"""The url table against a scripted backend: what is asked, and what becomes of each answer."""

import base64
import json
import os
import unittest
import urllib.parse

from harness import Backend, Case, Reply, serve, tempdir, url, wait_until
from harness.backend import as_json


class Status(Case):
    """Which HTTP status means what. The key is the status that the backend gives."""

    @classmethod
    def setUpClass(cls):
        cls.backend = Backend(cls, lambda request: Reply(b'"value"', int(request.path.rsplit("/", 1)[1])))
        base = cls.backend.url + "/s/{}"
        cls.mux = serve(cls, [
            url("plain", base),
            url("strict", base, status={401: "temp", 403: "temp", "4xx": "perm"}),
            url("exact", base, status={503: "temp", "5xx": "notfound", 404: "temp"}),
            url("warned", base), url("quiet", base, status={401: "temp"})])

    def statuses(self, table, wanted):
        for result, codes in wanted.items():
            for code in codes:
                with self.subTest(table=table, code=code):
                    self.assertEqual(self.mux.ask(table, str(code))[0], result)

    def test_default_rules(self):
        self.statuses("plain", {
            "OK": [200], "NOTFOUND": [404, 410, 400, 401, 402, 403, 405, 406, 409, 418, 422, 451],
            "TEMP": [408, 425, 429, 500, 501, 502, 503, 504, 599, 202, 204, 206, 301, 302, 303, 307, 308]})

    def test_the_same_for_dict(self):
        for code, letter in ((200, "O"), (404, "N"), (410, "N"), (400, "N"), (503, "F"), (429, "F"),
                             (204, "F")):
            with self.subTest(code=code):
                answer = self.mux.look("plain", f"shared/{code}")
                self.assertEqual(answer.letter, letter)
                if letter == "F":
                    self.assertTrue(answer.value, "F says why")

    def test_overrides(self):
        self.statuses("strict", {"OK": [200], "TEMP": [401, 403, 500], "PERM": [400, 402, 418]})
        self.statuses("exact", {"OK": [200], "TEMP": [503, 404], "NOTFOUND": [500, 502, 410]})

    def test_reasons_are_given(self):
        status, reason = self.mux.ask("plain", "503")
        self.assertEqual(status, "TEMP")
        self.assertIn("503", reason)

    def test_refused_token_is_warned_of_once_a_minute(self):
        for code in ("401", "403", "401", "403"):
            self.assertEqual(self.mux.ask("warned", code)[0], "NOTFOUND")
            self.assertEqual(self.mux.ask("quiet", "401")[0], "TEMP")
        lines = [line for line in self.mux.log().splitlines() if "warned" in line and ("401" in line or "403" in line)]
        self.assertEqual(len(lines), 1, self.mux.log())


class Redirects(Case):
    """Followed only when told, and only on the same host."""

    def setUp(self):
        self.other = Backend(self, lambda request: as_json("elsewhere"))
        self.backend = Backend(self, self.answer)
        options = {"auth_token": "token-for-one-host"}
        self.mux = serve(self, [url("stay", self.backend.url + "/r/{}", **options),
                                url("follow", self.backend.url + "/r/{}", follow_redirects="yes", **options)])

    def answer(self, request):
        targets = {"/r/here": "/target/here", "/r/full": self.backend.url + "/target/full",
                   "/r/loop": "/r/loop",
                   "/r/away": f"http://localhost:{self.other.port}/away", "/r/file": "file:///etc/hostname"}
        if request.path in targets:
            return Reply(status=302, headers=[("Location", targets[request.path])])
        return as_json("arrived")

    def test_not_followed(self):
        self.assertEqual(self.mux.ask("stay", "here")[0], "TEMP")
        self.assertEqual(self.backend.seen(path="/target/here"), [])

    def test_followed_on_the_same_host(self):
        self.assertEqual(self.mux.ask("follow", "here"), ("OK", "arrived"))
        self.assertEqual(self.mux.ask("follow", "full"), ("OK", "arrived"))

    def test_never_to_another_host(self):
        self.assertEqual(self.mux.ask("follow", "away")[0], "TEMP")
        self.assertEqual(self.other.seen(), [])

    def test_never_to_a_file_nor_for_ever(self):
        self.assertEqual(self.mux.ask("follow", "file")[0], "TEMP")
        self.assertEqual(self.mux.ask("follow", "loop")[0], "TEMP")
        self.assertLess(len(self.backend.seen(path="/r/loop")), 100)


BIG = 12345678901234567890
VALUES = {      # name: (JSON text, socketmap, dict: a text, or the letter N or F)
    "string": ('"text"', "text", "text"), "blanks": ('" a  b "', " a  b ", " a  b "),
    "unicode": ('"\\u00fc\\u65e5 ü"', "ü日 ü", "ü日 ü"), "pair": ('"\\ud83d\\ude00"', "😀", "😀"),
    "slash": ('"a\\/b\\\\c\\"d"', 'a/b\\c"d', 'a/b\\c"d'), "tab": ('"a\\tb"', "a\tb", "a\tb"),
    "digits": ('"007"', "007", "007"), "one": ("1", "1", "1"), "zero": ("0", "0", "0"),
    "minus": ("-3", "-3", "-3"),
    "half": ("1.5", "1.5", "1.5"), "tenth": ("0.1", "0.1", "0.1"),
    "beyond double": ("9007199254740993",) + ("9007199254740993",) * 2,
    "beyond 64 bits": (str(BIG), str(BIG), str(BIG)), "spaced": (" \n 5 \n", "5", "5"),
    "true": ("true", "1", "true"), "false": ("false", ("NOTFOUND",), "false"),
    "null": ("null", ("NOTFOUND",), ("N",)), "empty list": ("[]", ("NOTFOUND",), []),
    "list": ('["a","b c"]', "a,b c", ["a", "b c"]), "one item": ('["a"]', "a", ["a"]),
    "mixed list": ('["a",1]', "a,1", ["a", 1]), "nested list": ('["a",["b"]]', ("TEMP",), ["a", ["b"]]),
    "list of objects": ('[{"a":1}]', ("TEMP",), [{"a": 1}]),
    "object": ('{"a":{"b":[1,null,"ü"]}}', ("TEMP",), {"a": {"b": [1, None, "ü"]}}),
    "empty object": ("{}", ("TEMP",), {}),
    "nul": ('"a\\u0000b"', ("TEMP",), ("F",)), "line break": ('"a\\nb"', ("TEMP",), "a\nb"),
    "carriage return": ('"a\\rb"', ("TEMP",), "a\rb"),
    "break in a list": ('["a","b\\nc"]', ("TEMP",), ["a", "b\nc"]),
    "long": (json.dumps("v" * 90000), "v" * 90000, "v" * 90000),
    "too long": (json.dumps("v" * 100001), ("TEMP",), None),
    "just too long": (json.dumps("v" * 99998), ("TEMP",), None),
}
GARBAGE = {
    "empty": b"", "blank": b" ", "html": b"<html>no</html>", "open string": b'"text', "open list": b'["a"',
    "word": b"text",
    "two values": b'"a" "b"', "trailing": b'"a"x', "comma": b'["a",]', "python": b"True",
    "bad escape": b'"\\x"',
    "bad utf-8": b'"\xff\xfe"', "lone surrogate": b'"\\ud800"', "cut utf-8": b'"\xc3"',
    "nan": b"NaN", "plus": b"+1", "bom only": b"\xef\xbb\xbf", "deep": b"[" * 100000,
    "deep, closed": b"[" * 50000 + b"]" * 50000,
}


class Values(Case):
    """JSON bodies and what Postfix and Dovecot get of them."""

    @classmethod
    def setUpClass(cls):
        cls.backend = Backend(cls, cls.answer)
        base = cls.backend.url + "/v/{}"
        cls.mux = serve(cls, [
            url("v", base), url("lines", base, list_separator=" "),
            url("deep", base, value="/data/0/mail~1box"),
            url("whole", base, value=""), url("notempty", base, empty="notfound"),
            url("empty", base, empty="ok")])

    @staticmethod
    def answer(request):
        name = request.plain_path[len("/v/"):]
        if name in VALUES:
            return Reply(VALUES[name][0])
        if name in GARBAGE:
            return Reply(GARBAGE[name])
        if name == "found":
            return as_json({"data": [{"mail/box": "here", "n": 1}]})
        if name == "void":
            return as_json("")
        if name == "charset":
            return Reply('"ü"', content_type="application/json; charset=utf-8")
        return None

    def test_socketmap_values(self):
        for name, (text, wanted, _) in VALUES.items():
            with self.subTest(name, json=text[:60]):
                status, value = self.mux.ask("v", name)
                self.assertEqual((status, value) if status == "OK" else (status,),
                                 wanted if isinstance(wanted, tuple) else ("OK", wanted))

    def test_dict_values(self):
        for name, (text, _, wanted) in VALUES.items():
            if wanted is None:
                continue
            with self.subTest(name, json=text[:60]):
                answer = self.mux.look("v", "shared/" + name)
                if isinstance(wanted, tuple):
                    self.assertEqual(answer.letter, *wanted)
                    continue
                self.assertEqual(answer.letter, "O", answer)
                if isinstance(wanted, str):
                    self.assertEqual(answer.value, wanted)
                else:
                    self.assertEqual(json.loads(answer.value), wanted)

    def test_garbage_is_temporary(self):
        for name in GARBAGE:
            with self.subTest(name):
                self.assertEqual(self.mux.ask("v", name)[0], "TEMP")
                self.assertEqual(self.mux.look("v", "shared/" + name).letter, "F")

    def test_separator(self):
        self.assertEqual(self.mux.ask("lines", "list"), ("OK", "a b c"))

    def test_pointer(self):
        self.assertEqual(self.mux.ask("deep", "found"), ("OK", "here"))
        self.assertEqual(self.mux.look("deep", "shared/found").value, "here")
        self.assertNotEqual(self.mux.ask("deep", "string")[0], "OK")

    def test_object_names_the_option(self):
        """In the log, which may have had its one line of this second already."""
        def named():
            self.assertEqual(self.mux.ask("v", "object")[0], "TEMP")
            return [line for line in self.mux.log().splitlines() if "value" in line and "object" in line]
        wait_until(named, lambda: f"the log names the option `value`:\n{self.mux.log()}", timeout=5,
                   pause=0.2)

    def test_empty_value(self):
        self.assertEqual(self.mux.ask("notempty", "void")[0], "NOTFOUND")
        self.assertEqual(self.mux.ask("empty", "void"), ("OK", ""))

    def test_charset(self):
        self.assertEqual(self.mux.ask("v", "charset"), ("OK", "ü"))


HOSTILE = ["..", ".", "../x", "x/..", "x/../y", "a/./b", "./a", "a/.", "/etc/passwd", "/", "//host/x",
           "../../../etc/passwd",
           "a\rb", "a\nb", "a\r\nX-Evil: 1", "a HTTP/1.1\r\nHost: evil\r\n\r\n", "a\tb", "a\x01b", "\x1b[0m",
           "a\0b", "\0"]
ENCODED = {     # key: (in a path, in a query)
    "plain": ("plain", "plain"), "Az09-._~": ("Az09-._~",) * 2, "a@b.c": ("a%40b.c",) * 2,
    "a b": ("a%20b",) * 2,
    "a+b": ("a%2Bb",) * 2, "a/b": ("a/b", "a%2Fb"), "a/b/": ("a/b/", "a%2Fb%2F"), "a?b": ("a%3Fb",) * 2,
    "a#b": ("a%23b",) * 2,
    "a&b=c;d": ("a%26b%3Dc%3Bd",) * 2, "100%": ("100%25",) * 2,
    "%2e%2e/x": ("%252e%252e/x", "%252e%252e%2Fx"),
    "%00": ("%2500",) * 2, "%0d%0aX: y": ("%250d%250aX%3A%20y",) * 2, "ü日": ("%C3%BC%E6%97%A5",) * 2,
    "\udcff\udcfe": ("%FF%FE",) * 2, "\"'<>": ("%22%27%3C%3E",) * 2, "{}": ("%7B%7D",) * 2,
    "{key}{user}§": ("%7Bkey%7D%7Buser%7D%C2%A7",) * 2,
    "[::1]:80": ("%5B%3A%3A1%5D%3A80",) * 2, "!$()*,|\\^`": ("%21%24%28%29%2A%2C%7C%5C%5E%60",) * 2,
    "...": ("...",) * 2,
    "..a": ("..a",) * 2, "http://evil/": ("http%3A//evil/", "http%3A%2F%2Fevil%2F"),
    "a\\..\\b": ("a%5C..%5Cb",) * 2,
}


class Encoding(Case):
    """What of a key reaches the network."""

    @classmethod
    def setUpClass(cls):
        cls.backend = Backend(cls, lambda request: as_json("value"))
        base = cls.backend.url
        cls.mux = serve(cls, [
            url("path", base + "/p/{}"), url("query", base + "/q?k={}&x=1"), url("podop", base + "/p/§"),
            url("names",
                base + "/n/{table}/{scope}/{user}/{key}/{localpart}/{domain}/§?k={key}&u={user}&again={}"),
            url("braces", base + "/{{x}}/{key}"), url("suffix", base + "/s/{}", priv_suffix="/of/{user}"),
            url("nosuffix", base + "/s/{}", priv_suffix=""), url("default", base + "/d/{}")])

    def target(self, ask):
        """The one request that ask() makes: its target."""
        self.backend.forget()
        ask()
        found = self.backend.seen()
        self.assertEqual(len(found), 1, found)
        self.assertEqual((found[0].method, found[0].version), ("GET", "HTTP/1.1"))
        return found[0].target

    def test_paths_and_queries(self):
        for key, (path, query) in ENCODED.items():
            with self.subTest(key):
                self.assertEqual(self.target(lambda: self.mux.ask("path", key)), "/p/" + path)
                self.assertEqual(self.target(lambda: self.mux.ask("podop", key)), "/p/" + path)
                self.assertEqual(self.target(lambda: self.mux.ask("query", key)), f"/q?k={query}&x=1")
                self.assertEqual(self.target(lambda: self.mux.look("path", "shared/" + key)), "/p/" + path)

    def test_hostile_keys_never_reach_the_network(self):
        for key in HOSTILE:
            for table in ("path", "query", "podop", "names"):
                with self.subTest(key, table=table):
                    self.backend.forget()
                    # A NUL may be refused before there is a table to ask: no client of ours can send one.
                    self.assertIn(self.mux.ask(table, key)[0],
                                  ("NOTFOUND", "PERM") if "\0" in key else ("NOTFOUND",))
                    self.assertIn(self.mux.look(table, "shared/" + key, "user").letter,
                                  "NF" if "\0" in key else "N")
                    self.assertEqual(self.backend.seen(), [])

    def test_hostile_users_never_leave_their_place(self):
        for user in ("..", "../admin", "x/../../y", ".", "a\r\nX-Evil: 1", "a\nb"):
            for table in ("default", "suffix", "names"):
                with self.subTest(user, table=table):
                    self.backend.forget()
                    self.assertNotEqual(self.mux.look(table, "priv/key", user).letter, "O")
                    self.assertEqual(self.backend.seen(), [])
        for user, part in (("a?b#c%", "a%3Fb%23c%25"), ("al ice@example.test", "al%20ice%40example.test")):
            self.assertEqual(self.target(lambda: self.mux.look("default", "priv/key", user)),
                             "/d/key/" + part)

    def test_hostile_keys_are_not_written(self):
        for key in ("../x", "a\r\nb", "/x", "a/../b"):
            with self.subTest(key):
                self.backend.forget()
                with self.mux.dict("path") as client:
                    self.assertNotEqual(client.change(1, ("set", "shared/" + key, "v")).letter, "O")
                self.assertEqual(self.backend.seen(), [])

    def test_placeholders(self):
        self.assertEqual(self.target(lambda: self.mux.look("names", "shared/a@b.c", "u@x")),
                         "/n/names/shared/u%40x/a%40b.c/a/b.c/a%40b.c?k=a%40b.c&u=u%40x&again=a%40b.c")

    def test_braces(self):
        target = self.target(lambda: self.mux.ask("braces", "k"))
        self.assertEqual(urllib.parse.unquote(target), "/{x}/k")

    def test_private_keys(self):
        look = self.mux.look
        self.assertEqual(self.target(lambda: look("default", "priv/quota/x", "a@b.c")), "/d/quota/x/a%40b.c")
        self.assertEqual(self.target(lambda: look("suffix", "priv/k", "alice")), "/s/k/of/alice")
        self.assertEqual(self.target(lambda: look("nosuffix", "priv/k", "alice")), "/s/k")
        self.assertEqual(self.target(lambda: look("default", "shared/k", "alice")), "/d/k")

    def test_private_key_without_user(self):
        self.backend.forget()
        self.assertEqual(self.mux.look("default", "priv/k").letter, "F")
        self.assertEqual(self.backend.seen(), [])

    def test_key_without_scope(self):
        self.backend.forget()
        self.assertEqual(self.mux.look("default", "etc/k").letter, "F")
        self.assertEqual(self.backend.seen(), [])


class Headers(Case):
    """What goes with a request."""

    @classmethod
    def setUpClass(cls):
        cls.backend = Backend(cls, lambda request: as_json("value"))
        where, base = tempdir(cls), cls.backend.url + "/{}"
        cls.token_file, password = os.path.join(where, "token"), os.path.join(where, "basic")
        for path, text in ((cls.token_file, "t0ken-of-file\n"), (password, "user:of file\n")):
            with open(path, "w", encoding="ascii") as file:
                file.write(text)
        cls.mux = serve(cls, [
            url("plain", base), url("extra", base, headers={"X-One": "1", "X-Two": "two words",
                                                            "Accept": "text/x"}),
            url("token", base, auth_token="s3cret-token"), url("file", base, auth_token_file=cls.token_file),
            url("named", base, auth_token="s3cret-token", auth_header="X-Auth: Token"),
            url("basic", base, basic_auth="user:pass:word"), url("basicfile", base, basic_auth_file=password),
            url("agent", base, user_agent="postfix-lookup/1"),
            url("environment", base, auth_token="${E2E_TOKEN}")],
            env={"E2E_TOKEN": "t0ken-of-environment"})

    def ask(self, table):
        self.backend.forget()
        self.assertEqual(self.mux.ask(table, "key"), ("OK", "value"))
        return self.backend.seen()[0]

    def test_plain(self):
        request = self.ask("plain")
        self.assertEqual(request.header("Host"), f"127.0.0.1:{self.backend.port}")
        self.assertIn("mapmux", request.header("User-Agent"))
        self.assertIsNone(request.header("Authorization"))
        self.assertEqual(request.body, b"")

    def test_headers(self):
        request = self.ask("extra")
        self.assertEqual([request.header(name) for name in ("X-One", "X-Two", "Accept")],
                         ["1", "two words", "text/x"])

    def test_tokens(self):
        self.assertEqual(self.ask("token").header("Authorization"), "Bearer s3cret-token")
        self.assertEqual(self.ask("file").header("Authorization"), "Bearer t0ken-of-file")
        self.assertEqual(self.ask("environment").header("Authorization"), "Bearer t0ken-of-environment")
        request = self.ask("named")
        self.assertEqual(request.header("X-Auth"), "Token s3cret-token")
        self.assertIsNone(request.header("Authorization"))

    def test_basic(self):
        for table, pair in (("basic", b"user:pass:word"), ("basicfile", b"user:of file")):
            self.assertEqual(self.ask(table).header("Authorization"),
                             "Basic " + base64.b64encode(pair).decode())

    def test_agent(self):
        self.assertEqual(self.ask("agent").header("User-Agent"), "postfix-lookup/1")

    def test_tables_do_not_share_them(self):
        """They share connections, perhaps; never what is sent on them."""
        for _ in range(3):
            self.assertIsNotNone(self.ask("token").header("Authorization"))
            request = self.ask("plain")
            self.assertIsNone(request.header("Authorization"))
            self.assertIsNone(request.header("X-One"))

    def test_log_has_no_secret(self):
        for table in ("token", "file", "named", "basic", "environment"):
            self.ask(table)
        for secret in ("s3cret-token", "t0ken-of-file", "pass:word", "t0ken-of-environment"):
            self.assertNotIn(secret, self.mux.log())


if __name__ == "__main__":
    unittest.main()
