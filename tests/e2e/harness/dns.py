"""A private Knot DNS with zones made for the test, and a bad road to it that loses and spoils."""

import os
import socket
import struct
import threading

from .base import Daemon, free_port, on_cleanup, program, tempdir

CONF = """\
server:
    rundir: "{dir}"
    listen: [ "127.0.0.1@{port}", "::1@{port}" ]
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
log:
  - target: stderr
    any: info
database:
    storage: "{dir}"
template:
  - id: default
    storage: "{dir}"
    zonefile-sync: -1
    journal-content: none
zone:
{zones}
"""

SOA = """\
$ORIGIN {origin}
$TTL {ttl}
@ SOA ns hostmaster 1 3600 600 86400 {negative}
@ NS ns
ns A 127.0.0.1
"""


def question(name, kind=6):
    """A query message; SOA if nothing else is asked."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.strip(".").split("."))
    return struct.pack(">HHHHHH", 4711, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">HH", kind, 1)


def question_name(message):
    """The name that a query or its answer is about, in small letters."""
    labels, at = [], 12
    while message[at]:
        labels.append(message[at + 1:at + 1 + message[at]].decode("latin-1").lower())
        at += 1 + message[at]
    return ".".join(labels), struct.unpack_from(">H", message, at + 1)[0]


class Knot:
    """A server. zones: {origin: records}; None instead of records: its file is missing (SERVFAIL)."""

    def __init__(self, case, zones, *, ttl=300, negative=60):
        self.dir, self.port = tempdir(case), free_port()
        names = []
        for origin, records in zones.items():
            names.append(f'  - domain: "{origin}"\n    file: "{origin}zone"\n')
            if records is not None:
                self.write(origin, SOA.format(origin=origin, ttl=ttl, negative=negative) + records)
        conf = os.path.join(self.dir, "knot.conf")
        with open(conf, "w", encoding="ascii") as file:
            file.write(CONF.format(dir=self.dir, port=self.port, zones="".join(names)))
        self.origins = [origin for origin, records in zones.items() if records is not None]
        self.daemon = Daemon([program("knotd", "knot"), "-c", conf], os.path.join(self.dir, "log"))
        on_cleanup(case, self.stop)
        self.daemon.wait_ready(self.serves)

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def write(self, origin, text):
        with open(os.path.join(self.dir, origin + "zone"), "w", encoding="utf-8") as file:
            file.write(text)

    def serves(self):
        """Does it answer for each of its zones?"""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(0.5)
            try:
                for origin in self.origins:
                    sock.sendto(question(origin), ("127.0.0.1", self.port))
                    if sock.recv(4096)[3] & 15:
                        return False
            except OSError:
                return False
        return True

    def stop(self):
        if self.daemon.running():
            self.daemon.end()


class Road:
    """Stands before a DNS server, on UDP and TCP, and counts what is asked.

    treat(name, kind, is_tcp, answer) gives what is sent instead of the answer; None: nothing.
    """

    def __init__(self, case, target, treat=None):
        self.target, self.treat = target, treat or (lambda name, kind, is_tcp, answer: answer)
        self.port, self.lock, self.asked = free_port(), threading.Lock(), []
        self.alive = True
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind(("127.0.0.1", self.port))
        self.tcp = socket.socket()
        self.tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.tcp.bind(("127.0.0.1", self.port))
        self.tcp.listen(16)
        on_cleanup(case, self.close)
        for loop in (self.by_udp, self.by_tcp):
            threading.Thread(target=loop, daemon=True).start()

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def close(self):
        self.alive = False
        for sock in (self.udp, self.tcp):
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            sock.close()

    def seen(self, name=None):
        """What was asked so far: (name, type, is_tcp)."""
        with self.lock:
            return [item for item in self.asked if name in (None, item[0])]

    def forget(self):
        with self.lock:
            self.asked = []

    def note(self, message, is_tcp):
        name, kind = question_name(message)
        with self.lock:
            self.asked.append((name, kind, is_tcp))
        return name, kind

    def by_udp(self):
        while self.alive:
            try:
                message, peer = self.udp.recvfrom(65535)
            except OSError:
                return
            if not message:
                continue
            threading.Thread(target=self.one_udp, args=(message, peer), daemon=True).start()

    def one_udp(self, message, peer):
        name, kind = self.note(message, False)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(5)
            try:
                sock.sendto(message, ("127.0.0.1", self.target.port))
                answer = self.treat(name, kind, False, sock.recv(65535))
                if answer is not None:
                    self.udp.sendto(answer, peer)
            except OSError:
                pass

    def by_tcp(self):
        while self.alive:
            try:
                sock, _ = self.tcp.accept()
            except OSError:
                return
            threading.Thread(target=self.one_tcp, args=(sock,), daemon=True).start()

    def one_tcp(self, client):
        def get(sock):
            head = sock.recv(2, socket.MSG_WAITALL)
            return sock.recv(struct.unpack(">H", head)[0], socket.MSG_WAITALL) if len(head) == 2 else None

        with client, socket.create_connection(("127.0.0.1", self.target.port), 5) as server:
            try:
                while message := get(client):
                    name, kind = self.note(message, True)
                    server.sendall(struct.pack(">H", len(message)) + message)
                    answer = self.treat(name, kind, True, get(server))
                    if answer is not None:
                        client.sendall(struct.pack(">H", len(answer)) + answer)
            except OSError:
                pass
