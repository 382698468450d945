"""tcp_table: as bytes on a real socket, asked by postmap, and by a private Postfix's smtpd."""

import contextlib
import os
import time
import unittest

from harness import Backend, Case, Mapmux, Reply, Tcp, free_port, tempdir, url, wait_until
from harness.mapmux import document, mapmux
from harness.postfix import Postfix, Postmap

BAD = {b"": b"400 ", b"get": b"400 ", b"GET key": b"400 ", b"get\tkey": b"400 ", b"5:t key,": b"400 ",
       b"get %": b"400 ", b"get %4": b"400 ", b"get %zz": b"400 ", b"get a%00b": b"400 ", b"get a\0b": b"400 ",
       b"put key value": b"500 ", b"put": b"500 ", b"\x16\x03\x01\x02": b"400 "}


class Wire(Case):
    """One static and one scripted url table, each on a port of its own."""

    @classmethod
    def setUpClass(cls):
        cls.backend = Backend(cls, cls.answer)
        cls.ports = {"t": free_port(), "u": free_port()}
        cls.mux = Mapmux(cls, config=document({
            "listeners": [{"protocol": "tcp", "address": f"127.0.0.1:{port}", "table": name}
                          for name, port in cls.ports.items()],
            "tables": [{"name": "t", "type": "static", "entries": {
                "key": "value", "a b": "with  blanks", "100%": "50% off", "müller": "maß",
                "big": "x" * 4091, "bigger": "x" * 4092, "coded": "%" * 1363 + "xx", "coded more": "%" * 1364}},
                       url("u", cls.backend.url + "/u/{}")]}))

    @staticmethod
    def answer(request):
        """The key is its own value; slow-N waits N milliseconds; status-N is that status."""
        key = request.plain_path.rsplit("/", 1)[1]
        if key.startswith("status-"):
            return Reply(b"", int(key.split("-")[1]))
        reply = Reply(('"%s"' % key).encode())
        if key.startswith("slow-"):
            reply.delay = int(key.split("-")[1]) / 1000
        return reply

    def client(self, table="t"):
        client = Tcp(("127.0.0.1", self.ports[table]))
        self.addCleanup(client.close)
        return client

    def test_reply_bytes(self):
        client = self.client()
        for request, reply in ((b"get key\n", b"200 value\n"), (b"get nope\n", b"500 not found\n"),
                               (b"get a%20b\r\n", b"200 with%20%20blanks\n"), (b"get 100%25\n", b"200 50%25%20off\n"),
                               (b"get m%c3%bcller\n", b"200 ma%C3%9F\n"), (b"get \n", b"500 not found\n")):
            client.send(request)
            self.assertEqual(client.exactly(len(reply)), reply)
        self.assertTrue(client.silent(0.2))

    def test_fragments_at_every_position(self):
        stream, client = b"get key\nget a%20b\r\nfoo\nget nope\n", self.client()
        for cut in range(len(stream) + 1):
            with self.subTest(cut=cut):
                client.send(stream[:cut])
                time.sleep(0.001)
                client.send(stream[cut:])
                self.assertEqual([client.reply()[0] for _ in range(4)], [200, 200, 400, 500])

    def test_pipeline_keeps_its_order(self):
        client = self.client("u")
        client.send(b"get slow-300\nget slow-100\nput x y\nget fast\n")
        self.assertEqual([client.reply() for _ in range(4)],
                         [(200, "slow-300"), (200, "slow-100"), (500, "the table is read only"), (200, "fast")])

    def test_failures_are_400(self):
        client = self.client("u")
        for status in (500, 503, 429):
            code, text = client.ask(f"status-{status}")
            self.assertEqual(code, 400)
            self.assertIn(str(status), text)
        self.assertEqual(client.ask("status-404")[0], 500)
        self.assertEqual(client.ask("good"), (200, "good"))

    def test_replies_fit_or_fail(self):
        client = self.client()
        self.assertEqual(client.ask("big"), (200, "x" * 4091))
        self.assertEqual(client.ask("coded"), (200, "%" * 1363 + "xx"))
        for key in ("bigger", "coded more"):
            code, text = client.ask(key)
            self.assertEqual(code, 400)
            self.assertIn("does not fit", text)
        self.assertIn("does not fit", self.mux.log())

    def test_bad_requests(self):
        """Each is answered in its place, and the stream is still in step."""
        for line, code in BAD.items():
            with self.subTest(line=line):
                client = self.client()
                client.send(b"get key\n" + line + b"\nget key\n")
                self.assertEqual(client.reply(), (200, "value"))
                self.assertEqual(client.until(b"\n")[:4], code)
                self.assertEqual(client.reply(), (200, "value"))

    def test_longest_request(self):
        client = self.client()
        client.send(b"get " + b"x" * 4091 + b"\n")
        self.assertEqual(client.reply()[0], 500)
        client.send(b"get " + b"x" * 4092 + b"\n")
        self.assertEqual(client.reply()[0], 400)
        self.assertEqual(client.rest(), b"")

    def test_endless_lines_are_bounded(self):
        before = self.mux.memory()
        for _ in range(20):
            client = self.client()
            with contextlib.suppress(OSError):
                client.send(b"get " + b"x" * 1000000)
            with contextlib.suppress(AssertionError):
                self.assertEqual(client.reply()[0], 400)
            self.assertNotIn(b"200", client.rest())
        self.assertLess(self.mux.memory() - before, 8 << 20)
        self.assertEqual(self.client().ask("key"), (200, "value"))

    def test_idle_clients_stay(self):
        self.assertIn("default: 0", mapmux("help", "tcp").stdout.decode())

    def test_a_client_too_many(self):
        """He is told to try again, as Postfix understands it; then he is closed."""
        port = free_port()
        Mapmux(self, "--listen", f"tcp:127.0.0.1:{port},table=t,max_connections=1", "--name", "t", "--type",
               "static", "--param", "key=value")

        def admitted():
            client = Tcp(("127.0.0.1", port))
            if client.ask("key") == (200, "value"):
                return client
            return client.close()
        with wait_until(admitted, "room for a client") as one:
            with Tcp(("127.0.0.1", port)) as two:
                self.assertEqual(two.ask("key"), (400, "too many connections"))
                self.assertEqual(two.rest(), b"")
            self.assertEqual(one.ask("key"), (200, "value"))

    def test_table_is_needed(self):
        for extra in ("", ",table=nosuch"):
            done = mapmux("check", "--listen", f"tcp:127.0.0.1:1{extra}", "--name", "t", "--type", "static",
                          "--param", "a=b")
            self.assertEqual(done.returncode, 1)
            self.assertIn(b"table", done.stderr)

    def test_query(self):
        place = f"tcp:127.0.0.1:{self.ports['t']}"
        done = mapmux("query", place, "a b", "100%", "nope", "müller")
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        self.assertEqual(done.stdout.decode(), "a b\twith  blanks\n100%\t50% off\nmüller\tmaß\n")
        self.assertEqual(mapmux("query", place, "nope").returncode, 1)
        done = mapmux("query", "--json", place, "bigger")
        self.assertEqual(done.returncode, 2)
        self.assertIn(b'"status":"temp"', done.stdout)
        self.assertEqual(mapmux("query", f"tcp:127.0.0.1:{free_port()}", "x").returncode, 2)


class Postmaps(Case):
    """`postmap -q` over tcp."""

    KEYS = ["plain", "with space", "two  spaces", "100%", "%41", "a+b", "tab\there", "müller@exämple.test", "日本", "<>",
            '"first last"@example.test', "back\\slash", "a=b", "[192.0.2.1]"]

    @classmethod
    def setUpClass(cls):
        cls.postmap, cls.port = Postmap(cls), free_port()
        cls.file = os.path.join(tempdir(cls), "table.json")
        with open(cls.file, "w", encoding="utf-8") as file:
            file.write("{" + ",".join(f"{json_text(key)}: {json_text('found: ' + key)}" for key in cls.KEYS) + "}")
        Mapmux(cls, "--listen", f"tcp:127.0.0.1:{cls.port},table=t", "--name", "t", "--type", "static", "--param",
               "file:" + cls.file)
        cls.map = f"tcp:127.0.0.1:{cls.port}"

    def test_keys(self):
        for key in self.KEYS:
            with self.subTest(key=key):
                done = self.postmap.query(key, self.map)
                self.assertEqual((done.returncode, done.stdout.decode(), done.stderr), (0, f"found: {key}\n", b""))

    def test_not_found(self):
        done = self.postmap.query("nobody", self.map)
        self.assertEqual((done.returncode, done.stdout, done.stderr), (1, b"", b""))

    def test_many_on_one_connection(self):
        lines = "".join(f"{key}\n" for key in self.KEYS * 20)
        done = self.postmap.query("-", self.map, stdin=lines)
        self.assertEqual(done.returncode, 0)
        self.assertEqual(done.stdout.decode(), "".join(f"{key}\tfound: {key}\n" for key in self.KEYS * 20))


def json_text(value):
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"').replace("\t", "\\t") + '"'


class Smtpd(Case):
    """A private Postfix whose maps are tcp: tables."""

    @classmethod
    def setUpClass(cls):
        cls.down = False
        cls.backend = Backend(cls, cls.answer)
        ports = {name: free_port() for name in ("domain", "mailbox", "alias")}
        cls.mux = Mapmux(cls, config=document({
            "listeners": [{"protocol": "tcp", "address": f"127.0.0.1:{port}", "table": name}
                          for name, port in ports.items()],
            "tables": [{**url(name, f"{cls.backend.url}/{name}/{{}}"), "lowercase": "yes"} for name in ports]}))
        cls.postfix = Postfix(cls, {"virtual_alias_domains": "", "allow_percent_hack": "no",
                                    "allow_untrusted_routing": "yes",
                                    "virtual_mailbox_domains": f"tcp:127.0.0.1:{ports['domain']}",
                                    "virtual_mailbox_maps": f"tcp:127.0.0.1:{ports['mailbox']}",
                                    "virtual_alias_maps": f"tcp:127.0.0.1:{ports['alias']}"})

    @classmethod
    def answer(cls, request):
        if cls.down:
            return Reply(b"", 503)
        _, table, key = request.plain_path.split("/", 2)
        user, _, domain = key.rpartition("@")
        if table == "domain":
            return True if key.endswith(".tcp.test") else None
        if table == "alias":
            return [f"known@{domain}", "someone@elsewhere.test"] if user == "many" else None
        return True if user in ("known", "100%", '"first last"') else None

    def expect(self, recipient, code, **kwargs):
        got, text = self.postfix.send(recipient, **kwargs)
        self.assertEqual(got, code, f"{recipient}: {got} {text}\n{self.postfix.log()[-3000:]}")

    def test_users(self):
        for user, code in (("known", 250), ("KNOWN", 250), ("100%", 250), ('"first last"', 250), ("many", 250),
                           ("nobody", 550), ("100%25", 550)):
            with self.subTest(user=user):
                self.expect(f"{user}@users.tcp.test", code)

    def test_unknown_domain(self):
        self.expect("known@elsewhere.test", 554)

    def test_failing_backend_defers_and_comes_back(self):
        type(self).down = True
        try:
            self.expect("known@failing.tcp.test", 451, sender="one@failing.test")
            self.expect("nobody@failing.tcp.test", 451, sender="two@failing.test")
        finally:
            type(self).down = False
        self.postfix.reload()
        self.expect("known@failing.tcp.test", 250, sender="one@failing.test")
        self.expect("nobody@failing.tcp.test", 550, sender="two@failing.test")


if __name__ == "__main__":
    unittest.main()
