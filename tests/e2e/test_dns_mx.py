"""The dns-mx table, asked by Postfix's own client, against a real Knot DNS."""

import struct
import threading
import time
import unittest

from harness import Case, free_port, serve, wait_until
from harness.dns import Knot, Road
from harness.mapmux import mapmux
from harness.postfix import Postmap

A, MX, AAAA = 1, 15, 28

ZONE = r"""
mx1.ours      A     192.0.2.1
mx1.ours      AAAA  2001:db8::1
mx2.ours      A     192.0.2.2
other         A     198.51.100.1
other         AAAA  2001:db8:bad::1
hoster        A     192.0.2.1
six           AAAA  2001:db8::1
foreign-six   AAAA  2001:db8:bad::2

named         MX 10 mx1.ours
caps          MX 10 MX1.OuRs
foreign       MX 10 other
addressed     MX 10 hoster
ipv6only      MX 10 six
ipv6foreign   MX 10 foreign-six
nullmx        MX 0  .
nullandmore   MX 0  .
nullandmore   MX 10 mx1.ours
cname         CNAME named
cname2        CNAME cname
dangling      CNAME nowhere.test.
away          CNAME mail.elsewhere.example.
delegated     NS    ns.delegated
ns.delegated  A     127.0.0.1
loop1         CNAME loop2
loop2         CNAME loop1
mxcname       MX 10 alias
alias         CNAME alias2
alias2        CNAME mx1.ours
mxcnameother  MX 10 otheralias
otheralias    CNAME other
ghost         MX 10 nowhere
backup        MX 10 other
backup        MX 20 mx2.ours
first         MX 5  mx1.ours
first         MX 10 other
twins         MX 10 mx1.ours
twins         MX 10 other
both          MX 10 mx1.ours
both          MX 20 mx2.ours
nomx          A     192.0.2.1
nomxforeign   A     198.51.100.1
nomx6         AAAA  2001:db8::1
text          TXT   "no mail here"
_dmarc        MX 10 mx1.ours
xn--mller-kva MX 10 mx1.ours
xn--strae-oqa MX 10 mx1.ours
lamehost      MX 10 mx.broken.test.
halflame      MX 10 mx.broken.test.
halflame      MX 20 mx1.ours
slow          MX 10 mx1.ours
slowhost      MX 10 crawling
crawling      A     192.0.2.1
garbage       MX 10 mx1.ours
yxdomain      TXT   "answered with code 6"
cut           MX 10 mx1.ours
truncated     MX 10 mx1.ours
short         2 MX 10 mx1.ours
zero          0 MX 10 mx1.ours
""" + "".join(f"many MX {n} a-long-name-for-the-mail-exchanger-number-{n}.of-a-big-provider\n"
              f"a-long-name-for-the-mail-exchanger-number-{n}.of-a-big-provider A 198.51.100.{n}\n"
              f"manyours MX {n} a-long-name-for-the-mail-exchanger-number-{n}.of-a-big-provider\n"
              for n in range(1, 61)) + """
manyours MX 99 mx1.ours
""" + "".join(f"toomany MX {n} host{n}.toomany\n" for n in range(150))

NAMES = "mx1.ours.test mx2.ours.test"
ADDRESSES = "192.0.2.1 2001:db8::1"


def dns_mx(name, param, servers, **options):
    return {"name": name, "type": "dns-mx", "param": param, "servers": servers, **options}


class Base(Case):
    """postmap -q at a mapmux whose DNS server is self.knot, or what stands before it."""

    @classmethod
    def start(cls, tables):
        cls.postmap = Postmap(cls)
        cls.mux = serve(cls, tables, ("socketmap", "dict"))

    def query(self, table, key):
        done = self.postmap.query(key, f"socketmap:unix:{self.mux.paths['socketmap']}:{table}")
        return done.returncode, done.stdout.decode().rstrip("\n"), done.stderr.decode()

    def ours(self, table, key, value=None):
        with self.subTest(table=table, key=key):
            self.assertEqual(self.query(table, key), (0, key if value is None else value, ""))

    def not_ours(self, table, *keys):
        for key in keys:
            with self.subTest(table=table, key=key):
                self.assertEqual(self.query(table, key), (1, "", ""))

    def fails(self, table, key, *words):
        with self.subTest(table=table, key=key):
            status, reason = self.mux.ask(table, key)
            self.assertEqual(status, "TEMP", reason)
            for word in words:
                self.assertIn(word, reason)
            code, value, complaint = self.query(table, key)
            self.assertEqual((code, value), (1, ""))
            self.assertTrue(complaint, "an absence is silent, an error is not")


class Matching(Base):
    """What is ours."""

    @classmethod
    def setUpClass(cls):
        cls.knot = Knot(cls, {"test.": ZONE, "broken.test.": None})
        cls.road = Road(cls, cls.knot)
        servers = cls.road.address
        cls.start([
            dns_mx("name", NAMES, servers), dns_mx("address", ADDRESSES, servers),
            dns_mx("mixed", "mx2.ours.test 192.0.2.1", servers),
            dns_mx("capital", "MX1.Ours.Test.", servers),
            dns_mx("v6", "2001:DB8:0:0::1", servers),
            dns_mx("best", NAMES, servers, match="best"), dns_mx("all", NAMES, servers, match="all"),
            dns_mx("alladdress", ADDRESSES + " 192.0.2.2", servers, match="all"),
            dns_mx("implicit", NAMES + " " + ADDRESSES, servers, implicit="yes"),
            dns_mx("implicitname", "nomx.test", servers, implicit="yes"),
            dns_mx("six", "mx1.ours.test", f"[::1]:{cls.knot.port}")])

    def test_by_name(self):
        self.ours("name", "named.test")
        self.ours("name", "caps.test")
        self.ours("capital", "named.test")
        self.not_ours("name", "foreign.test")

    def test_key_in_capitals_and_with_a_dot(self):
        self.ours("name", "NAMED.Test", "named.test")
        self.ours("name", "named.test.", "named.test")

    def test_key_is_an_address(self):
        self.ours("name", "user@named.test", "named.test")
        self.ours("name", 'odd"@"user@named.test', "named.test")
        self.not_ours("name", "user@foreign.test", "named.test@foreign.test")

    def test_by_address(self):
        self.ours("address", "addressed.test")
        self.ours("address", "named.test")
        self.ours("mixed", "addressed.test")
        self.not_ours("address", "foreign.test")
        self.not_ours("name", "addressed.test")

    def test_host_with_ipv6_only(self):
        self.ours("address", "ipv6only.test")
        self.ours("v6", "ipv6only.test")
        self.not_ours("address", "ipv6foreign.test")
        self.not_ours("name", "ipv6only.test")

    def test_null_mx(self):
        self.not_ours("name", "nullmx.test")
        self.not_ours("implicit", "nullmx.test")
        self.ours("name", "nullandmore.test")

    def test_absent(self):
        self.not_ours("name", "nosuch.test", "text.test", "deep.nosuch.test")
        self.not_ours("implicit", "nosuch.test", "text.test")

    def test_domain_is_a_cname(self):
        self.ours("name", "cname.test")
        self.ours("name", "cname2.test")
        self.not_ours("name", "dangling.test")

    def test_cname_loop(self):
        self.fails("name", "loop1.test")

    def test_mx_is_a_cname(self):
        self.ours("name", "mxcname.test")
        self.ours("address", "mxcname.test")
        self.ours("v6", "mxcname.test")
        self.not_ours("name", "mxcnameother.test")
        self.not_ours("address", "mxcnameother.test")

    def test_mx_without_address(self):
        self.not_ours("address", "ghost.test")
        self.not_ours("name", "ghost.test")

    def test_match_any(self):
        for domain in ("backup", "first", "twins", "both"):
            self.ours("name", domain + ".test")

    def test_match_best(self):
        for domain in ("first", "twins", "both", "named"):
            self.ours("best", domain + ".test")
        self.not_ours("best", "backup.test", "foreign.test", "nullmx.test")

    def test_match_all(self):
        for domain in ("both", "named", "mxcname"):
            self.ours("all", domain + ".test")
            self.ours("alladdress", domain + ".test")
        self.not_ours("all", "backup.test", "first.test", "twins.test", "foreign.test", "ghost.test")
        self.not_ours("alladdress", "backup.test", "first.test", "twins.test")

    def test_implicit(self):
        self.ours("implicit", "nomx.test")
        self.ours("implicit", "nomx6.test")
        self.ours("implicit", "mx1.ours.test")
        self.ours("implicitname", "nomx.test")
        self.ours("implicit", "named.test")
        self.not_ours("implicit", "nomxforeign.test")
        self.not_ours("address", "nomx.test", "nomx6.test")

    def test_idn(self):
        self.ours("name", "xn--mller-kva.test")
        self.ours("name", "müller.test", "xn--mller-kva.test")
        self.ours("name", "MÜLLER.test", "xn--mller-kva.test")
        self.ours("name", "user@mu\u0308ller.test", "xn--mller-kva.test")
        self.ours("name", "straße.test", "xn--strae-oqa.test")

    def test_underscore(self):
        self.ours("name", "_dmarc.test")

    def test_names_that_are_none_are_not_asked_for(self):
        self.road.forget()
        for key in ("a b.test", "a..test", ".named.test", "*", "[192.0.2.1]", "user@[192.0.2.1]", "a/b.test",
                    "-a.test", "a-.test", "x" * 64 + ".test", ".".join(["abcdefg"] * 40), "user@", "@", ".",
                    "na\\med.test", "named.test\t", "\u2028.test", "a%b.test", "x" * 3000 + "@" + "y" * 3000,
                    "ü" * 300 + ".test", "a'b.test", "a;b.test", "a,b.test"):
            with self.subTest(key=key[:40]):
                self.assertEqual(self.mux.ask("name", key)[0], "NOTFOUND")
        self.assertEqual(self.mux.ask("name", b"\xff\xfe.test")[0], "NOTFOUND")
        self.assertEqual(self.road.seen(), [])

    def test_sixty_mx_by_tcp(self):
        self.road.forget()
        self.not_ours("name", "many.test")
        self.assertEqual([tcp for _, kind, tcp in self.road.seen("many.test")], [False, True])
        self.ours("name", "manyours.test")
        self.not_ours("address", "many.test")
        self.ours("address", "manyours.test")
        self.not_ours("all", "manyours.test")

    def test_too_many_hosts_are_no_absence(self):
        self.fails("address", "toomany.test", "100 MX hosts")

    def test_ipv6_server(self):
        self.ours("six", "named.test")

    def test_servfail(self):
        self.fails("name", "broken.test", "SERVFAIL")
        self.fails("name", "lamehost.test", "mx.broken.test")
        self.ours("name", "halflame.test")
        self.fails("best", "halflame.test")

    def test_refused(self):
        self.fails("name", "served.elsewhere.example")

    def test_a_server_that_does_not_resolve_knows_no_absence(self):
        self.fails("name", "a.delegated.test", "does not resolve")
        self.fails("name", "away.test", "does not resolve")

    def test_dict(self):
        self.assertEqual(self.mux.look("name", "shared/named.test").value, "named.test")
        self.assertEqual(self.mux.look("name", "shared/foreign.test").letter, "N")
        self.assertEqual(self.mux.look("name", "shared/broken.test").letter, "F")


class Caching(Base):
    """An answer is asked for once, as long as its TTL allows."""

    @classmethod
    def setUpClass(cls):
        cls.knot = Knot(cls, {"test.": ZONE, "broken.test.": None}, negative=2)
        cls.road = Road(cls, cls.knot)
        cls.start([dns_mx("name", NAMES, cls.road.address),
                   dns_mx("none", NAMES, cls.road.address, cache_entries=0),
                   dns_mx("small", NAMES, cls.road.address, cache_entries=2),
                   dns_mx("brief", NAMES, cls.road.address, max_ttl="1s")])

    def asked(self, table, key):
        """How many questions a lookup costs."""
        self.road.forget()
        self.query(table, key)
        return len(self.road.seen())

    def test_kept(self):
        self.assertEqual(self.asked("name", "named.test"), 1)
        self.assertEqual(self.asked("name", "named.test"), 0)
        self.assertEqual(self.asked("name", "user@NAMED.test."), 0)
        self.ours("name", "named.test")

    def test_absence_is_kept_as_the_soa_says(self):
        self.assertEqual(self.asked("name", "nosuch1.test"), 1)
        self.assertEqual(self.asked("name", "nosuch1.test"), 0)
        time.sleep(2.2)
        self.assertEqual(self.asked("name", "nosuch1.test"), 1)

    def test_expires(self):
        self.assertEqual(self.asked("name", "short.test"), 1)
        self.assertEqual(self.asked("name", "short.test"), 0)
        time.sleep(2.2)
        self.assertEqual(self.asked("name", "short.test"), 1)

    def test_ttl_zero_is_not_kept(self):
        self.assertEqual(self.asked("name", "zero.test"), 1)
        self.assertEqual(self.asked("name", "zero.test"), 1)

    def test_max_ttl(self):
        self.assertEqual(self.asked("brief", "named.test"), 1)
        self.assertEqual(self.asked("brief", "named.test"), 0)
        time.sleep(1.2)
        self.assertEqual(self.asked("brief", "named.test"), 1)

    def test_failures_are_not_kept(self):
        self.assertGreater(self.asked("name", "broken.test"), 0)
        self.assertGreater(self.asked("name", "broken.test"), 0)

    def test_switched_off(self):
        self.assertEqual(self.asked("none", "named.test"), 1)
        self.assertEqual(self.asked("none", "named.test"), 1)

    def test_bounded(self):
        for domain in ("named", "both", "twins"):
            self.assertEqual(self.asked("small", domain + ".test"), 1)
        self.assertEqual(self.asked("small", "twins.test"), 0)
        self.assertEqual(self.asked("small", "both.test"), 0)
        self.assertEqual(self.asked("small", "named.test"), 1)


class BadRoad(Base):
    """What happens to answers on their way."""

    @classmethod
    def setUpClass(cls):
        cls.knot = Knot(cls, {"test.": ZONE, "broken.test.": None})
        cls.road = Road(cls, cls.knot, cls.treat)
        cls.dead, cls.lame = free_port(), Knot(cls, {"lame.example.": ""})
        cls.start([dns_mx("name", NAMES, cls.road.address, timeout="3s"),
                   dns_mx("address", ADDRESSES, cls.road.address, timeout="3s"),
                   dns_mx("patient", NAMES, cls.road.address, timeout="20s"),
                   dns_mx("two", NAMES, f"127.0.0.1:{cls.dead} {cls.road.address}"),
                   dns_mx("lamefirst", NAMES, f"{cls.lame.address},{cls.road.address}"),
                   dns_mx("lame", NAMES, cls.lame.address),
                   dns_mx("dead", NAMES, f"127.0.0.1:{cls.dead}")])

    @staticmethod
    def treat(name, kind, is_tcp, answer):
        if name in ("slow.test", "crawling.test"):
            return None
        if name == "garbage.test":      # the question as it was, then nonsense
            end = answer.index(b"\4test\0") + 10
            return answer[:end] + bytes(range(256))
        if name == "yxdomain.test":
            return answer[:3] + bytes([answer[3] & 0xf0 | 6]) + answer[4:]
        if name == "cut.test":
            return answer[:answer.index(b"\4test\0") + 10 + 14]
        if name == "truncated.test":
            flags = struct.unpack_from(">H", answer, 2)[0] | 0x0200
            return answer[:2] + struct.pack(">H", flags) + answer[4:]
        return answer

    def test_times_out_while_others_are_answered(self):
        results, started = {}, time.monotonic()

        def ask():
            results["slow"] = self.mux.ask("name", "slow.test")
            results["seconds"] = time.monotonic() - started
        waiting = threading.Thread(target=ask)
        waiting.start()
        wait_until(lambda: self.road.seen("slow.test"), "the slow question is out")
        with self.mux.socketmap() as client:
            for n in range(100):
                self.assertEqual(client.ask("name", f"nosuch{n}.test")[0], "NOTFOUND")
                self.assertEqual(client.ask("name", "named.test"), ("OK", "named.test"))
        self.assertNotIn("slow", results, "the slow one is still waited for")
        waiting.join(20)
        self.assertEqual(results["slow"][0], "TEMP")
        self.assertTrue(2.5 < results["seconds"] < 4.5, results)

    def test_gives_up_by_itself(self):
        started = time.monotonic()
        status, reason = self.mux.ask("patient", "slow.test")
        self.assertEqual(status, "TEMP")
        self.assertIn("no answer", reason)
        self.assertLess(time.monotonic() - started, 12)
        self.assertEqual(len(self.road.seen("slow.test")) >= 3, True, "it was tried again")

    def test_host_times_out(self):
        self.fails("address", "slowhost.test")
        self.not_ours("name", "foreign.test")

    def test_garbage(self):
        before = self.mux.counts("patient", "dns-mx")["temp"]
        self.assertEqual(self.mux.ask("patient", "garbage.test")[0], "TEMP")
        self.assertEqual(self.mux.counts("patient", "dns-mx")["temp"], before + 1)
        self.assertRegex(self.mux.log(), r"question failed table=patient\b.*malformed")
        self.fails("name", "garbage.test", "malformed")
        self.fails("name", "cut.test", "malformed")
        self.ours("name", "named.test")

    def test_an_error_without_a_name_of_its_own(self):
        self.fails("name", "yxdomain.test", "answer with an error")

    def test_stays_truncated(self):
        self.fails("name", "truncated.test", "truncated")
        self.assertIn(("truncated.test", MX, True), self.road.seen())

    def test_several_servers(self):
        self.ours("two", "named.test")
        self.ours("lamefirst", "named.test")
        self.not_ours("lamefirst", "foreign.test")

    def test_lame_server(self):
        self.fails("lame", "named.test", "SERVFAIL")

    def test_nobody_there(self):
        self.fails("dead", "named.test", "out of reach")

    def test_a_client_that_leaves(self):
        for _ in range(20):
            client = self.mux.socketmap()
            client.request("name", "slow.test")
            client.close()
        self.ours("name", "both.test")

    def test_failures_are_logged_with_the_table(self):
        self.fails("dead", "named.test")
        self.assertRegex(self.mux.log(), r"table=dead\b.*out of reach")


class Configuration(Case):
    """What `mapmux check` says."""

    def check(self, param, *options):
        args = ["--name", "mx", "--type", "dns-mx", "--param", param]
        for option in options:
            args += ["--option", option]
        done = mapmux("check", "--listen", "socketmap:127.0.0.1:1", *args)
        return done.returncode, done.stdout.decode() + done.stderr.decode()

    def test_good(self):
        for param, *options in (("mx.example.org",), ("mx.example.org 192.0.2.1 2001:db8::1", "match=all"),
                                ("mx.müller.example",), ("mx_1.example.org.",),
                                ("mx.example.org", "servers=127.0.0.1"),
                                ("mx.example.org", "servers=127.0.0.1:5353, ::1 [::1]:53"),
                                ("mx.example.org", "cache_entries=0", "implicit=yes", "max_ttl=5m")):
            with self.subTest(param=param, options=options):
                code, text = self.check(param, *options)
                self.assertEqual(code, 0, text)

    def test_bad(self):
        for word, param, *options in (
                ("needed", ""), ("192.0.2.300", "192.0.2.300"), ("host name", "mx/1.example.org"),
                ("host name", "mx.example.org 2001:db8::x"), ("any, best, all", "mx.example.org", "match=some"),
                ("servers", "mx.example.org", "servers=dns.example.org"),
                ("servers", "mx.example.org", "servers=127.0.0.1:99999"),
                ("servers", "mx.example.org", "servers=/run/dns"),
                ("cache_entries", "mx.example.org", "cache_entries=-1")):
            with self.subTest(param=param, options=options):
                code, text = self.check(param, *options)
                self.assertEqual(code, 1, text)
                self.assertIn(word, text)


if __name__ == "__main__":
    unittest.main()
