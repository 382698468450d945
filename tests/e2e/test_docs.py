"""What the documents show is run: configurations are loaded, commands executed, dialogues held.

A page is worked through from top to bottom. The language of a code block says what it is:

yaml         a complete configuration: checked, and served when a later block asks it; one that is indented is
             more tables for the one before
console      `$ command` lines and their output, stderr included; `$ cat FILE` makes the file beforehand;
             `...` in output is anything
http         requests and what the service at port 8080 answers: METHOD TARGET, headers, body, STATUS body
dns          records that the DNS server at port 53 knows, their names written out
nginx        a server for nginx
main.cf      settings of a private Postfix; a page's lines add up until the next yaml
dovecot      files of a private Dovecot, named by their first line; a dovecot.conf begins a new one, another file
             is added to it or takes the place of its former content
smtp, lmtp, imap, socketmap, dict, tcp, policy, sasl
             lines of the client (C:) and of the server (S:, `...` is anything), spoken for real
dovecot-2.4  not run; the page must say so
"""

import os
import pathlib
import re
import shlex
import shutil
import signal
import smtplib
import subprocess
import unittest

from harness import Backend, Case, Mapmux, Reply, free_port, program, run, tempdir, wait_until
from harness.base import answers
from harness.dns import Knot
from harness.dovecot import BASE, Dovecot
from harness.mapmux import BAD, binary, mapmux, place
from harness.nginx import Nginx
from harness.postfix import Postfix, write_settled
from harness.redis import Redis
from harness.userli import Userli
from harness.wire import Closed, Stream

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGES = ["README.md", *(f"docs/{name}.md" for name in (
    "socketmap", "dict", "dovecot", "tcp", "policy", "sasl", "url", "static", "memory", "redis", "chain", "lua", "dns-mx",
    "userli", "keys", "guard", "cache", "reliability", "http", "dovecot-auth", "ratelimit", "migrate"))]
OF_EVERY_TABLE = ("keys", "guard", "cache")      # pages of settings that are not repeated for each type
PLACES = ("/run/mapmux", "/run/redis", "/etc/mapmux", "/etc/dovecot", "/usr/share/mapmux", "/srv/mapmux", "/srv/vmail",
          "/var/spool/postfix/mapmux", "/tmp/podop.socket")
ENVIRONMENT = {"MAPMUX_PASSWORD": "secret", "MAPMUX_TOKEN": "secret"}
MAIL_UID = 5000     # of the mail users in the pages
USERLI = "https://users.example.org"
PLAIN = ("",)       # blocks that only draw


def blocks(text):
    """The code blocks of a page: (language, line, text)."""
    found, language, start, lines = [], None, 0, []
    for number, line in enumerate(text.split("\n"), 1):
        if language is None and line.startswith("```"):
            language, start, lines = line[3:].strip(), number, []
        elif language is not None and line.startswith("```"):
            found.append((language, start, "\n".join(lines) + "\n"))
            language = None
        elif language is not None:
            lines.append(line)
    assert language is None, f"the block at line {start} does not end"
    return found


def commands(text):
    """(command, output) of a console block; a backslash continues a command."""
    found = []
    lines = iter(text.split("\n")[:-1])
    for line in lines:
        if not line.startswith("$ "):
            found[-1][1] += line + "\n"
            continue
        command = line[2:]
        while command.endswith("\\"):
            command = command[:-1] + next(lines)
        found.append([command, ""])
    return found


def exchanges(text):
    """{(method, target, body): (headers, status, answer)} of an http block."""
    found = {}
    for part in text.strip("\n").split("\n\n"):
        first, *lines = part.split("\n")
        method, target = first.split(" ")
        headers, body = {}, ""
        for number, line in enumerate(lines):
            if re.match(r"\d{3}( |$)", line):
                assert number == len(lines) - 1, f"behind the answer: {part}"
                found[method, target, body] = (headers, int(line[:3]), line[4:])
            elif re.match(r"[A-Za-z-]+: ", line) and not body:
                name, _, value = line.partition(": ")
                headers[name] = value
            else:
                body += line
        assert (method, target, body) in found, f"without an answer: {part}"
    return found


def zones(text):
    """{top-level domain: records} of a dns block."""
    found = {}
    for line in text.strip("\n").split("\n"):
        name = line.split()[0]
        assert name.endswith("."), f"no complete name: {line}"
        found.setdefault(name.rsplit(".", 2)[1] + ".", []).append(line + "\n")
    return {origin: "".join(lines) for origin, lines in found.items()}


def matches(shown, got):
    """Is this the line that is shown? `...` stands for anything."""
    return re.fullmatch(".*".join(re.escape(part) for part in shown.split("...")), got, re.S) is not None


class Page:
    """One page and the servers that its blocks call for."""

    def __init__(self, case, name):
        self.case, self.name = case, name
        self.text = (ROOT / name).read_text(encoding="utf-8")
        self.blocks = blocks(self.text)
        self.root = tempdir(case)
        self.ports = {":8080": 0, ":8081": free_port(),
                      **{f":{number}": free_port() for number in range(10001, 10007)}}
        self.urls, self.shown, self.asked = {}, {}, set()
        self.backend = Backend(case, self.serve)
        self.ports[":8080"] = self.backend.port
        self.config = self.mux = self.postfix = self.dovecot = None
        self.main_cf, self.dovecot_conf, self.files = {}, None, {}
        self.served = True      # what was configured last has been asked
        for place in PLACES:
            path = self.root + place
            os.makedirs(os.path.dirname(path) if place.endswith(".socket") else path, exist_ok=True)
        os.chown(self.root + "/srv/vmail", MAIL_UID, MAIL_UID)
        if ":6379" in self.text:
            redis = Redis(case, "secret", path=self.root + "/run/redis/redis-server.sock")
            self.ports[":6379"] = redis.port
        for text in (text for language, _, text in self.blocks if language == "dns"):
            self.ports[":53"] = Knot(case, zones(text)).port
        if USERLI in self.text:
            self.urls[USERLI] = self.start_userli().url
        shutil.copy(ROOT / "lua" / "dovecot-auth.lua", self.root + "/usr/share/mapmux")
        self.postmap_dir = os.path.join(self.root, "postmap")
        os.mkdir(self.postmap_dir)
        write_settled(os.path.join(self.postmap_dir, "main.cf"), "compatibility_level = 3.6\n")
        self.doveadm_conf = self.write("doveadm.conf", BASE.format(dir=self.root))
        self.make_files()

    # ---- names ----

    def real(self, text):
        """A page's text with its paths and ports replaced."""
        for place in PLACES:
            text = re.sub(rf"(?<![\w.-]){re.escape(place)}\b", lambda found, place=place: self.root + place, text)
        for port, number in self.ports.items():
            text = re.sub(rf"{port}\b", f":{number}", text)
        for url, other in self.urls.items():
            text = text.replace(url, other)
        return text

    def unreal(self, text):
        """The other way round."""
        text = text.replace(self.root, "")
        for url, other in self.urls.items():
            text = text.replace(other, url)
        for port, number in self.ports.items():
            text = re.sub(rf":{number}\b", port, text)
        return text

    def write(self, name, text):
        path = os.path.join(self.root, name.lstrip("/"))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    def make_files(self):
        """What is shown by `cat`, and what configurations name."""
        for language, _, text in self.blocks:
            for command, output in commands(text) if language == "console" else ():
                if command.startswith("cat /"):
                    self.write(command[4:], output)
        for language, _, text in self.blocks:
            for path in re.findall(r"/etc/mapmux/[\w./-]+", text) if language == "yaml" else ():
                if not os.path.exists(self.root + path):
                    self.write(path, "user:secret\n" if "basic" in path else "secret\n")

    # ---- servers ----

    def serve(self, request):
        """The HTTP service: what the page shows, and 404 otherwise."""
        shown = [key for key in self.shown if key[:2] == (request.method, request.target)]
        if not shown:
            return None
        body = request.body.decode() if request.method == "POST" else ""
        key = next((key for key in shown if matches(key[2], body)), None)
        if key is None:
            return Reply(f"body: {request.body}", 599)
        headers, status, answer = self.shown[key]
        for name, value in headers.items():
            if request.header(name) != value:
                return Reply(f"{name}: {request.header(name)}", 599)
        self.asked.add(key)
        return Reply(self.real(answer), status)

    def start_userli(self):
        """Its double, with what the page says of it."""
        double = Userli(self.case, {"secret": {"postfix", "dovecot"}})
        double.user("alice@example.org", quota=500, per_hour=5, per_day=100)
        double.user("bob@example.org")
        for destination in ("alice@example.org", "bob@example.org"):
            double.alias("info@example.org", destination)
        return double

    def start_mapmux(self):
        if self.mux is None and self.config is not None:
            self.mux = Mapmux(self.case, config=self.config, env=ENVIRONMENT)

    def stop_mapmux(self):
        if self.mux is not None:
            self.mux.stop()
        self.mux = None

    def socket_of(self, protocol):
        found = re.search(rf'protocol: {protocol}, address: "([^"]+)"', self.config)
        assert found, f"no listener for {protocol} in the configuration"
        return place(found.group(1))

    def start_postfix(self):
        self.start_mapmux()
        if self.postfix is None:
            queue = self.root + "/var/spool/postfix"
            if self.name == "README.md":    # what is read first has to work with Debian's master.cf as it is
                self.postfix = Postfix(self.case, self.main_cf, chroot=queue)
            else:
                self.postfix = Postfix(self.case, self.main_cf, {"mapmux": queue + "/mapmux"})
        return self.postfix

    def start_dovecot(self):
        self.start_mapmux()
        if self.dovecot is None:
            assert self.dovecot_conf, "no dovecot.conf was shown before"
            for name, text in self.files.items():
                self.write(name, text)
            self.dovecot = Dovecot(self.case, self.dovecot_conf)
            self.doveadm_conf = self.dovecot.conf
        return self.dovecot

    # ---- blocks ----

    def run(self):
        ran = 0
        for language, line, text in self.blocks:
            handler = getattr(self, "run_" + re.sub(r"[^a-z0-9]", "_", language), None)
            place = f"{self.name}:{line}"
            if language in PLAIN:
                continue
            assert handler, f"{place}: nobody knows how to run a block `{language}`"
            try:
                handler(text)
            except AssertionError as error:
                logs = self.unreal(self.mux.log()[-1500:]) if self.mux else ""
                for server in (self.postfix, self.dovecot):
                    logs += server.log()[-1500:] if server else ""
                raise AssertionError(f"{place}: {error}\n{logs}") from None
            ran += 1
        assert ran, f"{self.name} shows nothing that could be run"
        never = sorted(set(self.shown) - self.asked)
        assert not never, f"{self.name} shows requests that were never made: {never}"
        assert self.served, f"{self.name} shows main.cf or dovecot.conf lines that nothing asks"
        self.stop_mapmux()

    def run_yaml(self, text):
        self.stop_mapmux()
        before = self.config if text.startswith(" ") else ""
        self.config, self.main_cf, self.postfix = before + self.real(text), {}, None
        path = self.write("check.yaml", self.config)
        done = mapmux("check", "-c", path, env=dict(os.environ, **ENVIRONMENT))
        assert done.returncode == 0, done.stderr.decode()
        assert not done.stderr, done.stderr.decode()

    def run_http(self, text):
        self.shown.update(exchanges(text))

    def run_dns(self, text):
        """The server has known them from the start."""

    def run_nginx(self, text):
        for path, _, names in os.walk(self.root + "/srv/mapmux"):
            os.chmod(path, 0o755)
            for name in names:
                os.chmod(os.path.join(path, name), 0o644)
        Nginx(self.case, server=self.real(text), port=self.ports[":8081"])

    def run_main_cf(self, text):
        lines = re.findall(r"(?m)^([a-z_]+)\s*=[ \t]*(.*)$", text)
        assert len(lines) == len(text.strip().split("\n")), text
        self.main_cf = {**self.main_cf, **{name: self.real(value) for name, value in lines}}
        self.postfix, self.served = None, False

    def run_dovecot(self, text):
        name, body = re.fullmatch(r"# (/etc/dovecot/\S+)\n(.*)", text, re.S).groups()
        if self.dovecot:
            self.dovecot.stop()
        self.dovecot, self.served = None, False
        if name.endswith("/dovecot.conf"):
            self.dovecot_conf, self.files = self.real(body), {}
        else:
            self.files[name] = self.real(body)

    def run_dovecot_2_4(self, text):
        assert "not run by the tests" in self.text and text

    def run_smtp(self, text):
        self.served = True
        with self.start_postfix().smtp() as session:
            self.dialogue(text, lambda line: self.smtp_line(session, line), end=None)

    @staticmethod
    def smtp_line(session, line):
        code, answer = session.docmd(line)
        return [f"{code} {part}" for part in answer.decode().split("\n")]

    def run_lmtp(self, text):
        self.served = True
        with smtplib.LMTP(os.path.join(self.start_dovecot().dir, "run/lmtp")) as session:
            session.docmd("LHLO", "localhost")
            in_letter = False

            def say(line):
                nonlocal in_letter
                session.putcmd(line)
                if in_letter and line != ".":
                    return []
                code, answer = session.getreply()
                in_letter = code == 354
                return [f"{code} {part}" for part in answer.decode().split("\n")]
            self.dialogue(text, say, end=None)

    def run_imap(self, text):
        self.served = True
        with self.start_dovecot().imap() as client:
            def ask(line):
                tag = line.split(" ")[0]
                client.send(line.encode() + b"\r\n")
                got = []
                while not got or not got[-1].startswith(tag + " "):
                    got.append(client.until(b"\r\n").decode())
                return got
            self.dialogue(text, ask)

    def run_socketmap(self, text):
        self.start_mapmux()
        with Stream(self.socket_of("socketmap")) as stream:
            def ask(line):
                stream.send(line.encode())
                size = stream.until(b":")
                return [(size + b":" + stream.exactly(int(size) + 1)).decode()]
            self.dialogue(text, ask)

    def run_dict(self, text):
        self.lines("dict", text.replace("<TAB>", "\t"))

    def run_tcp(self, text):
        self.lines("tcp", text)

    def run_policy(self, text):
        self.lines("policy", text)

    def run_sasl(self, text):
        self.lines("sasl", text.replace("<TAB>", "\t"))

    def lines(self, protocol, text):
        """Says each C: line, and compares each S: line with the next that comes."""
        self.start_mapmux()
        with Stream(self.socket_of(protocol)) as stream:
            for line in text.strip("\n").split("\n"):
                assert re.match("[CS]:( |$)", line), line
                if line.startswith("C:"):
                    stream.send(line[3:].encode() + b"\n")
                else:
                    got = stream.until(b"\n").decode()
                    assert matches(line[3:], got), f"shown: {line[3:]!r}; got: {got!r}"
            assert stream.silent(0.05), "more came than is shown"

    @staticmethod
    def dialogue(text, ask, end="logout"):
        """Says each C: line and compares what comes with its S: lines."""
        turns = re.split(r"(?m)^C: ", text)
        assert not turns[0].strip(), f"before the client: {turns[0]}"
        for turn in turns[1:]:
            line, *shown = turn.rstrip("\n").split("\n")
            try:
                got = ask(line)
            except Closed:
                got = ["(closed)"]
            if not shown:
                assert not got or end and end in line, f"{line}: shown without an answer; got {got}"
                continue
            assert all(answer.startswith("S: ") for answer in shown), turn
            wanted = "\n".join(answer[3:] for answer in shown)
            assert matches(wanted, "\n".join(got)), f"{line}\nshown:\n{wanted}\ngot:\n" + "\n".join(got)

    def run_console(self, text):
        for command, output in commands(text):
            words = shlex.split(command, comments=True)
            if words[0] == "make":
                run([program("make", "make"), "-n", *words[1:]], cwd=ROOT).check_returncode()
            elif words[:2] == ["mapmux", "serve"] or words[:2] == ["mapmux", "--socket"]:
                self.stop_mapmux()
                self.mux = Mapmux(self.case, *shlex.split(self.real(command))[1:])
                self.main_cf, self.postfix = {}, None
            else:
                self.start_mapmux()
                got = self.shell(self.real(command))
                assert matches(output, got), f"$ {command}\nshown:\n{output}\ngot:\n{got}"

    def shell(self, command):
        """What the command prints, its paths and ports as in the page."""
        if "doveadm user" in command:
            self.start_dovecot()
        quoted = shlex.quote
        functions = (
            f'mapmux() {{ {quoted(binary())} "$@"; }}\n'
            f'postmap() {{ {quoted(program("postmap", "postfix"))} -c {quoted(self.postmap_dir)} "$@"; }}\n'
            f'doveadm() {{ {quoted(program("doveadm", "dovecot-core"))} -c {quoted(self.doveadm_conf)} "$@"; }}\n')
        done = run(["/bin/sh", "-c", functions + "exec 2>&1\n" + command], timeout=60)
        printed = done.stdout.decode()
        assert not BAD.search(printed), printed
        return re.sub(r"(?m)[ \t]+$", "", self.unreal(printed))


class Pages(Case):
    """Each page is run; none is without something to run."""

    def page(self, name):
        page = Page(self, name)
        page.run()
        return page

    def test_socketmap(self):
        self.page("docs/socketmap.md")

    def test_dict(self):
        self.page("docs/dict.md")

    def test_dovecot(self):
        self.page("docs/dovecot.md")

    def test_tcp(self):
        self.page("docs/tcp.md")

    def test_policy(self):
        self.page("docs/policy.md")

    def test_sasl(self):
        self.page("docs/sasl.md")

    def test_url(self):
        self.page("docs/url.md")

    def test_static(self):
        self.page("docs/static.md")

    def test_memory(self):
        self.page("docs/memory.md")

    def test_redis(self):
        self.page("docs/redis.md")

    def test_lua(self):
        self.page("docs/lua.md")

    def test_dns_mx(self):
        self.page("docs/dns-mx.md")

    def test_userli(self):
        self.page("docs/userli.md")

    def test_migrate(self):
        self.page("docs/migrate.md")

    def test_ratelimit(self):
        self.page("docs/ratelimit.md")

    def test_chain(self):
        self.page("docs/chain.md")

    def test_reliability(self):
        self.page("docs/reliability.md")

    def test_tests_that_are_named(self):
        """What docs/reliability.md promises is shown by tests that exist."""
        text = (ROOT / "docs/reliability.md").read_text(encoding="utf-8")
        named = re.findall(r"`(e2e|faults)_(\w+)`(?: `(\w+)\.(test_\w+)`)?", text)
        self.assertGreater(len(named), 30)
        for part, file, case, test in named:
            source = (ROOT / f"tests/{part}/test_{file}.py").read_text(encoding="utf-8")
            with self.subTest(file=file, test=test):
                self.assertTrue(not test or re.search(rf"(?s)\nclass {case}\((?:(?!\nclass ).)*\n    def {test}\(", source))

    def test_keys(self):
        self.page("docs/keys.md")

    def test_guard(self):
        self.page("docs/guard.md")

    def test_http(self):
        self.page("docs/http.md")

    def test_dovecot_auth(self):
        self.page("docs/dovecot-auth.md")

    def test_readme(self):
        self.page("README.md")

    def test_all_pages_are_run(self):
        """A new page must be added here, or have nothing to run."""
        listed = {"README.md", *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))}
        for name in sorted(listed - set(PAGES)):
            found = [language for language, _, _ in blocks((ROOT / name).read_text(encoding="utf-8"))]
            bad = [language for language in found if hasattr(Page, "run_" + re.sub(r"[^a-z0-9]", "_", language))
                   and language not in ("console",)]
            self.assertEqual(bad, [], f"{name} is not run by this test")

    def test_links(self):
        """Files and headings that the pages point to are there."""
        for name in PAGES:
            text = (ROOT / name).read_text(encoding="utf-8")
            for target in re.findall(r"\]\(([^)\s]+)\)", text):
                if target.startswith("http"):
                    continue
                path, _, anchor = target.partition("#")
                file = (ROOT / name).parent / path if path else ROOT / name
                with self.subTest(page=name, link=target):
                    self.assertTrue(file.exists())
                    headings = re.findall(r"(?m)^#+ (.*)$", file.read_text(encoding="utf-8"))
                    anchors = [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings]
                    self.assertTrue(not anchor or anchor in anchors, anchors)


class Settings(Case):
    """The pages and the program name the same settings and defaults."""

    def help(self, *topic):
        done = mapmux("help", *topic)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout.decode()

    @staticmethod
    def rows(page):
        """{setting: default} of the tables of a page."""
        found = {}
        text = (ROOT / f"docs/{page}.md").read_text(encoding="utf-8")
        for cells in re.findall(r"(?m)^\| (`[^|]*`) \| ([^|]*) \|", text):
            for name in re.findall(r"`([\w.]+)`", cells[0]):
                found.setdefault(name, cells[1].strip())
        return found

    def test_tables_of_settings(self):
        version = re.match(r"mapmux (\S+?):", self.help()).group(1)
        common = {name: default for page in OF_EVERY_TABLE for name, default in self.rows(page).items()}
        for topic in ("url", "static", "memory", "redis", "chain", "lua", "dns-mx", "userli", "ratelimit",
                      "socketmap", "dict", "tcp", "policy", "sasl", "http"):
            listed = re.findall(r"(?m)^  ([a-z][\w.]*): [A-Za-z]\S*(?:, or (\w+): FILE)?(?: \((.*)\))?$", self.help(topic))
            self.assertGreaterEqual(len(listed), 5, topic)
            rows = {**common, **self.rows(topic)}
            for name, twin, default in listed:
                with self.subTest(topic=topic, setting=name):
                    self.assertIn(name, rows)
                    self.assertTrue(not twin or twin in rows, twin)
                    if default.startswith("default "):
                        self.assertEqual(rows[name].replace("VERSION", version), default[len("default "):])
                    elif default == "must be given":
                        self.assertEqual(rows[name], "required")

    def test_examples_load(self):
        for name in ("mapmux.yaml", "demo.yaml"):
            done = mapmux("check", "-c", str(ROOT / "conf" / name))
            self.assertEqual((done.returncode, done.stderr), (0, b""))

    def test_example_shows_every_key(self):
        text = (ROOT / "conf/mapmux.yaml").read_text(encoding="utf-8")
        for topic in ("url", "redis", "lua", "dns-mx", "userli", "socketmap", "dict", "tcp", "policy", "sasl", "http"):
            for name in re.findall(r"(?m)^  ([a-z]\w*): [A-Za-z]", self.help(topic)):
                with self.subTest(topic=topic, key=name):
                    self.assertRegex(text, rf"\b{name}:")


class Manual(Case):
    """The manual page is complete and well-formed."""

    def setUp(self):
        self.path = str(ROOT / "docs/mapmux.8")
        groff = program("groff", "groff-base")
        done = run([groff, "-K", "utf8", "-T", "utf8", "-P", "-cbou", "-mdoc", "-ww", self.path])
        self.assertEqual((done.returncode, done.stderr.decode()), (0, ""))
        self.text = re.sub(r"\s+", " ", re.sub("\u2010\\s+", "", done.stdout.decode()))

    def test_every_option_and_command(self):
        shown = mapmux("help").stdout.decode() + mapmux("query", "--help").stdout.decode()
        options = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", shown))
        self.assertGreater(len(options), 20)
        for name in sorted(options):
            self.assertRegex(self.text, rf"(?<![\w-]){name}(?![\w-])")
        for command in re.findall(r"(?m)^  mapmux \[?(\w+)", shown):
            self.assertRegex(self.text, rf"mapmux \[?{command}\b")

    def test_every_type_and_protocol(self):
        shown = mapmux("help").stdout.decode()
        names = re.findall(r"(?m)^  (\w+)  +\S", shown.split("Protocols", 1)[1])
        self.assertGreaterEqual(len(names), 6)
        for name in names:
            self.assertRegex(self.text, rf"\b{name}\b")

    def test_sections(self):
        for name in ("NAME", "SYNOPSIS", "DESCRIPTION", "ENVIRONMENT", "FILES", "EXIT STATUS", "EXAMPLES", "SIGNALS"):
            self.assertIn(name, self.text)


class Demo(Case):
    """`make run`: the lines that its script prints are true."""

    def test_printed_lines(self):
        self.assertIn("conf/demo.sh", run([program("make", "make"), "-n", "run"], cwd=ROOT).stdout.decode())
        where, port = tempdir(self), free_port()
        for name in ("build", "conf"):
            os.mkdir(os.path.join(where, name))
        for name in ("demo.sh", "demo.yaml"):   # copies: their port is fixed, and another demo may have it
            text = (ROOT / "conf" / name).read_text(encoding="utf-8")
            self.assertIn(":10001", text)
            with open(os.path.join(where, "conf", name), "w", encoding="utf-8") as file:
                file.write(text.replace(":10001", f":{port}"))
        with open(os.path.join(where, "out"), "wb") as out:
            demo = subprocess.Popen(["/bin/sh", "conf/demo.sh", binary()], cwd=where, stdout=out, stderr=out,
                                    stdin=subprocess.DEVNULL, start_new_session=True)

        def printed():
            with open(os.path.join(where, "out"), encoding="utf-8") as file:
                return file.read()

        try:
            wait_until(lambda: "Ctrl-C" in printed() or demo.poll() is not None, "the demo is up")
            text = printed()
            self.assertIn("alice@mail.example.org\n", text)
            lines = re.findall(r"(?m)^  (postmap .*|doveadm .*)$", text)
            self.assertEqual(len(lines), 2, text)
            conf = os.path.join(where, "doveadm.conf")
            write_settled(os.path.join(where, "main.cf"), "compatibility_level = 3.6\n")
            with open(conf, "w", encoding="utf-8") as file:
                file.write(BASE.format(dir=where))
            for line, wanted in zip(lines, ("alice@mail.example.org", "hello")):
                name, *words = shlex.split(line)
                done = run([program(name, "postfix or dovecot-core"), "-c", where if name == "postmap" else conf, *words])
                self.assertEqual((done.returncode, done.stdout.decode().rstrip(), done.stderr), (0, wanted, b""))
        finally:
            if demo.poll() is None:
                demo.send_signal(signal.SIGTERM)
            demo.wait(20)
        self.assertEqual(demo.returncode, 0, printed())
        self.assertFalse(answers(("127.0.0.1", port)), "mapmux was left behind")


if __name__ == "__main__":
    unittest.main()
