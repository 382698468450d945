"""Raw clients: socketmap, tcp_table, policy, sasl, Dovecot dict, IMAP. They check what they read and guess nothing."""

import base64
import re
import socket
import urllib.parse

from .base import PATIENCE, connect


class Closed(AssertionError):
    """The server closed the connection where an answer was due."""


class Stream:
    """A connection whose reads end with the wanted bytes, Closed, or a time-out."""

    def __init__(self, address, timeout=PATIENCE):
        self.sock = connect(address, timeout)
        if self.sock.family != socket.AF_UNIX:
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.got = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.sock.close()

    def send(self, data):
        self.sock.sendall(data)

    def half_close(self):
        self.sock.shutdown(socket.SHUT_WR)

    def fill(self):
        try:
            data = self.sock.recv(65536)
        except ConnectionResetError:
            data = b""
        if not data:
            raise Closed(f"closed; unread: {self.got[:200]!r}")
        self.got += data

    def exactly(self, count):
        while len(self.got) < count:
            self.fill()
        data, self.got = self.got[:count], self.got[count:]
        return data

    def until(self, mark):
        while mark not in self.got:
            self.fill()
        data, self.got = self.got.split(mark, 1)
        return data

    def rest(self):
        """All that comes until the server closes."""
        try:
            while True:
                self.fill()
        except Closed:
            data, self.got = self.got, b""
            return data

    def silent(self, seconds):
        """True if nothing comes for so long and the connection stays open."""
        if self.got:
            return False
        self.sock.settimeout(seconds)
        try:
            self.fill()
            return False
        except Closed:
            return False
        except socket.timeout:
            return True
        finally:
            self.sock.settimeout(PATIENCE)


def octets(text):
    return text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text


def text(data):
    return data.decode("utf-8", "surrogateescape")


def netstring(payload):
    payload = octets(payload)
    return b"%d:%b," % (len(payload), payload)


class Socketmap(Stream):
    """Postfix's side of socketmap."""

    def request(self, table, key):
        self.send(netstring(octets(table) + b" " + octets(key)))

    def reply(self):
        """(status, text) of the next reply; anything but a proper netstring is a failure."""
        head = self.until(b":")
        assert re.fullmatch(rb"0|[1-9][0-9]{0,9}", head), f"length {head[:100]!r}"
        payload = self.exactly(int(head))
        assert self.exactly(1) == b",", "a netstring ends in a comma"
        assert len(payload) <= 100000, f"Postfix refuses a reply of {len(payload)} bytes"
        assert b" " in payload, f"no space in {payload!r}: older Postfix reads `OK` as not found"
        status, value = payload.split(b" ", 1)
        assert status in (b"OK", b"NOTFOUND", b"TEMP", b"TIMEOUT", b"PERM"), payload
        return text(status), text(value)

    def ask(self, table, key):
        self.request(table, key)
        return self.reply()


class Tcp(Stream):
    """Postfix's side of tcp_table."""

    def request(self, key):
        self.send(b"get " + octets(urllib.parse.quote_from_bytes(octets(key), safe="!\"#$&'()*+,/:;<=>?@[\\]^`{|}")) + b"\n")

    def reply(self):
        """(code, text) of the next reply; what Postfix would not read is a failure."""
        line = self.until(b"\n")
        assert len(line) < 4096, f"Postfix refuses a reply of {len(line) + 1} bytes"
        found = re.fullmatch(rb"([245]00) ((?:[ -$&-~]|%[0-9A-Fa-f]{2})*)", line)
        assert found, f"no reply: {line[:200]!r}"
        return int(found.group(1)), text(urllib.parse.unquote_to_bytes(found.group(2)))

    def ask(self, key):
        self.request(key)
        return self.reply()


class Policy(Stream):
    """Postfix's side of policy delegation."""

    def request(self, **attributes):
        self.send(b"".join(octets(f"{name}={value}\n") for name, value in attributes.items()) + b"\n")

    def reply(self):
        """The action; anything but one attribute and an empty line is a failure."""
        line = self.until(b"\n")
        assert self.exactly(1) == b"\n", f"no empty line behind {line!r}"
        assert line.startswith(b"action=") and line != b"action=" and b"\r" not in line, f"no action: {line!r}"
        return text(line[len(b"action="):])

    def ask(self, **attributes):
        self.request(**attributes)
        return self.reply()


class Sasl(Stream):
    """Postfix's side of Dovecot's auth protocol; it has read the greeting and said who it is."""

    def __init__(self, address, rip="192.0.2.1"):
        super().__init__(address)
        self.rip, self.number = rip, 0
        self.greeting = self.until(b"DONE\n")
        self.send(b"VERSION\t1\t0\nCPID\t4711\n")

    def auth(self, mech, response=None, service="smtp"):
        """Sends AUTH with the next id, which it returns."""
        self.number += 1
        line = f"AUTH\t{self.number}\t{mech}\tservice={service}\tnologin\tlip=192.0.2.25\trip={self.rip}"
        if response is not None:
            line += "\tresp=" + (base64.b64encode(response).decode() or "=")
        self.send(line.encode() + b"\n")
        return self.number

    def cont(self, response):
        self.send(b"CONT\t%d\t%b\n" % (self.number, base64.b64encode(response)))

    def reply(self):
        """The fields of the next line: (word, id, rest of the fields)."""
        word, number, *fields = text(self.until(b"\n")).split("\t")
        assert word in ("OK", "CONT", "FAIL"), word
        return word, int(number), fields

    def plain(self, user, password):
        """("OK" or "FAIL", {"user": ..., "reason": ...})."""
        number = self.auth("PLAIN", b"\0" + octets(user) + b"\0" + octets(password))
        word, about, fields = self.reply()
        assert about == number, (about, number)
        return word, dict(field.partition("=")[::2] for field in fields)

    def login(self, user, password):
        """The same by LOGIN."""
        number = self.auth("LOGIN")
        for wanted, response in ((b"Username:", user), (b"Password:", password)):
            assert self.reply() == ("CONT", number, [base64.b64encode(wanted).decode()])
            self.cont(octets(response))
        word, _, fields = self.reply()
        return word, dict(field.partition("=")[::2] for field in fields)


ESCAPE = {0x00: b"\x010", 0x01: b"\x011", 0x09: b"\x01t", 0x0a: b"\x01n", 0x0d: b"\x01r"}
UNESCAPE = {b"0"[0]: b"\x00", b"1"[0]: b"\x01", b"t"[0]: b"\t", b"n"[0]: b"\n", b"r"[0]: b"\r"}


def tab_escape(value):
    return b"".join(ESCAPE.get(byte, bytes([byte])) for byte in octets(value))


def tab_unescape(data):
    if b"\x01" not in data:
        return data
    out, at = bytearray(), 0
    while at < len(data):
        if data[at] == 1:
            at += 1
            if at < len(data):
                out += UNESCAPE.get(data[at], data[at:at + 1])
        else:
            out.append(data[at])
        at += 1
    return bytes(out)


class Answer:
    """What came for one L, I or C."""

    def __init__(self, command):
        self.command = command
        self.id = None          # async id, once given
        self.letter = None      # O M N F W; for an iteration O or F
        self.value = None       # O of a lookup; the text of F and W
        self.values = []        # M
        self.rows = []          # iteration: (key, value)

    def __repr__(self):
        return f"<{self.command!r}: {self.letter} {self.value!r} {self.rows or ''}>"


class Dict(Stream):
    """Dovecot's side of its dict protocol. Replies are matched to commands as Dovecot does,
    and every reply that would crash or mislead Dovecot is a failure."""

    def __init__(self, address, name, *, major=3, minor=None, user="", timeout=PATIENCE):
        super().__init__(address, timeout)
        self.major = major
        self.minor = {2: 2, 3: 2, 4: 0}.get(major, 0) if minor is None else minor
        self.can_async = major >= 3 or self.minor >= 1
        self.pending = []
        self.framing = None     # "async" or "sync", as the first reply was
        self.order = []         # answers in the order in which they ended
        self.line("H%d" % major, str(self.minor), "0", user if major == 2 else "", name)

    def line(self, head, *fields):
        """One command: letter and first field, further fields."""
        self.send(b"\t".join([octets(head)] + [tab_escape(field) for field in fields]) + b"\n")

    def ask(self, *fields):
        answer = Answer(fields)
        self.pending.append(answer)
        self.line(*fields)
        return answer

    # commands that are answered: these return at once, finish() waits

    def start_lookup(self, key, user=""):
        head = b"L" + tab_escape(key)
        return self.ask(head) if self.major == 2 else self.ask(head, user)

    def start_iterate(self, path, user="", flags=0, rows=0):
        fields = [f"I{flags}", str(rows), path]
        return self.ask(*fields) if self.major == 2 else self.ask(*fields, user)

    def start_commit(self, number):
        return self.ask(f"C{number}")

    def lookup(self, key, user=""):
        return self.finish(self.start_lookup(key, user))

    def iterate(self, path, user="", flags=0, rows=0):
        return self.finish(self.start_iterate(path, user, flags, rows))

    def commit(self, number):
        return self.finish(self.start_commit(number))

    # commands without an answer

    def begin(self, number, user="", expire=0):
        fields = {2: (), 3: (user,)}.get(self.major, (user, str(expire)))
        self.line(f"B{number}", *fields)

    def set(self, number, key, value):
        self.line(f"S{number}", key, value)

    def unset(self, number, key):
        self.line(f"U{number}", key)

    def inc(self, number, key, diff):
        self.line(f"A{number}", key, str(diff))

    def rollback(self, number):
        self.line(f"R{number}")

    def change(self, number, *steps, user=""):
        """A whole transaction. Steps: ("set", key, value), ("unset", key), ("inc", key, n)."""
        self.begin(number, user)
        for name, *args in steps:
            getattr(self, name)(number, *args)
        return self.commit(number)

    # replies

    def finish(self, answer):
        while answer.letter is None:
            self.step()
        return answer

    def step(self):
        """Reads one line."""
        line = self.until(b"\n")
        assert self.pending, f"reply without a pending command: {line!r}"
        if line[:1] in (b"*", b"+") and re.match(rb"[*+][0-9]+(\t|$)", line):
            assert self.can_async, f"async reply to version {self.major}.{self.minor}: {line!r}"
            assert self.framing != "sync", f"async after sync replies: {line!r}"
            self.framing = "async"
            head, _, body = line.partition(b"\t")
            number = int(head[1:])
            if line[:1] == b"*":
                assert 0 < number < 2**32, line
                free = [answer for answer in self.pending if answer.id is None]
                assert free, f"{line!r}, but no command waits for an id"
                assert number not in [answer.id for answer in self.pending], f"{line!r} twice"
                free[0].id = number
                return
            known = [answer for answer in self.pending if answer.id == number]
            assert known, f"{line!r} was never announced"
            self.take(known[0], body)
        else:
            assert self.framing != "async", f"sync after async replies: {line!r}"
            self.framing = "sync"
            self.take(self.pending[0], line)

    def take(self, answer, body):
        kind = octets(answer.command[0])[:1]
        fields = [tab_unescape(field) for field in body.split(b"\t")]
        letter, first = text(fields[0][:1]), fields[0][1:]
        if kind == b"I":
            if letter == "O":
                assert len(fields) >= 2, f"a row without TAB aborts Dovecot: {body!r}"
                path = octets(answer.command[2])
                assert first.startswith(path), f"row {first!r} outside of {path!r} aborts Dovecot"
                assert len(fields) == 2, f"further fields are further values: {body!r}"
                answer.rows.append((text(first), text(fields[1])))
                return
            assert letter in ("", "F"), f"{body!r} to an iteration crashes Dovecot"
            answer.letter, answer.value = letter or "O", text(first)
        elif kind == b"L":
            assert letter in ("O", "M", "N", "F"), f"{body!r} to a lookup crashes Dovecot"
            answer.letter, answer.value = letter, text(first)
            if letter == "M":
                answer.values = [text(tab_unescape(part)) for part in first.split(b"\t")]
                assert first, "an empty M crashes Dovecot"
        else:
            assert letter in ("O", "N", "F", "W"), f"{body!r} to a commit crashes Dovecot"
            assert first in (b"", octets(answer.command[0])[1:]), f"{body!r}: whose answer is it?"
            answer.letter = letter
            answer.value = text(fields[1]) if letter in "FW" and len(fields) > 1 else ""
        self.pending.remove(answer)
        self.order.append(answer)


class Imap(Stream):
    """As much IMAP as the tests need, literals included."""

    def __init__(self, address):
        super().__init__(address)
        self.count = 0
        self.greeting = self.until(b"\r\n")
        assert self.greeting.startswith(b"* OK"), self.greeting

    def command(self, line, literal=None):
        """(OK, NO or BAD; the tagged line's rest; all untagged bytes).

        A literal stands at the end of the line as {}: its length is put there."""
        self.count += 1
        tag = b"t%d" % self.count
        if literal is None:
            self.send(tag + b" " + octets(line) + b"\r\n")
        else:
            literal = octets(literal)
            head, tail = octets(line).split(b"{}")
            self.send(tag + b" " + head + b"{%d}\r\n" % len(literal))
            ready = self.until(b"\r\n")
            assert ready.startswith(b"+"), ready
            self.send(literal + tail + b"\r\n")
        untagged = b""
        while True:
            part = self.until(b"\r\n")
            if part.startswith(tag + b" "):
                status, rest = part[len(tag) + 1:].split(b" ", 1)
                return text(status), text(rest), untagged
            untagged += part + b"\r\n"
            size = re.search(rb"\{(\d+)\}$", part)
            if size:
                untagged += self.exactly(int(size.group(1)))
