"""A scripted HTTP backend on raw sockets: it answers as told, also wrongly, and records all."""

import json
import os
import socket
import ssl
import threading
import time
import urllib.parse

from .base import PATIENCE, on_cleanup, wait_until


class Request:
    """One request as it came."""

    def __init__(self, line, headers, body, connection):
        self.line = line                        # the raw request line, without CR LF
        self.method, self.target, self.version = (line.split(" ") + ["", "", ""])[:3]
        self.headers = headers                  # [(name, value)], as sent
        self.body = body
        self.connection = connection            # counts from 1

    @property
    def path(self):
        return self.target.split("?", 1)[0]

    @property
    def query(self):
        return self.target.partition("?")[2]

    @property
    def plain_path(self):
        """The path, decoded."""
        return urllib.parse.unquote(self.path)

    def header(self, name):
        """The value of a header that came at most once, else a failure; None without it."""
        found = [value for key, value in self.headers if key.lower() == name.lower()]
        assert len(found) < 2, f"{name} came {len(found)} times"
        return found[0] if found else None

    def json(self):
        return json.loads(self.body)

    def __repr__(self):
        return f"<{self.line} {self.body!r}>"


class Reply:
    """What to answer.

    delay: seconds before the answer; gate: an Event to wait for; cut: close after so many bytes
    of the body; raw: these bytes instead of HTTP, then close; stream: a chunk sent for ever, with a
    pause of so many seconds after each; hangup: close without an answer.
    """

    def __init__(self, body=b"", status=200, *, headers=(), content_type="application/json",
                 delay=0, gate=None, cut=None, raw=None, stream=None, pause=0,
                 hangup=False):
        self.body = body.encode() if isinstance(body, str) else body
        self.status, self.headers, self.content_type = status, headers, content_type
        self.delay, self.gate, self.cut, self.raw = delay, gate, cut, raw
        self.stream, self.pause, self.hangup = stream, pause, hangup


def as_json(value, status=200, **kwargs):
    return Reply(json.dumps(value), status, **kwargs)


class Backend:
    """A server; handler(request) gives a Reply, a JSON value, or None for 404.

    It can be ended (kill) and started again on the same address."""

    def __init__(self, case, handler, *, host="127.0.0.1", port=0, unix=None, tls=None):
        self.handler, self.host, self.port, self.unix, self.tls = handler, host, port, unix, tls
        self.lock = threading.Lock()
        self.requests, self.connections, self.errors = [], 0, []
        self.listener, self.open, self.alive = None, set(), None
        self.start()
        on_cleanup(case, self.kill)

    @property
    def url(self):
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}"

    def start(self):
        if self.unix:
            self.listener = socket.socket(socket.AF_UNIX)
            if os.path.exists(self.unix):
                os.unlink(self.unix)
            self.listener.bind(self.unix)
        else:
            family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
            self.listener = socket.socket(family)
            self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.listener.bind((self.host, self.port))
            self.port = self.listener.getsockname()[1]
        self.listener.listen(1024)
        self.alive = threading.Event()
        self.alive.set()
        threading.Thread(target=self.accept, args=(self.listener, self.alive), daemon=True).start()

    def kill(self):
        """Nobody listens any more, and all connections are gone."""
        self.alive.clear()
        with self.lock:
            gone, self.open = [self.listener, *self.open], set()
        for sock in gone:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            sock.close()

    def seen(self, **wanted):
        """The requests so far whose attributes are these."""
        with self.lock:
            return [request for request in self.requests
                    if all(getattr(request, name) == value for name, value in wanted.items())]

    def wait_for(self, count=1, **wanted):
        """Waits until so many of such requests have come."""
        return wait_until(lambda: (lambda found: found if len(found) >= count else None)(self.seen(**wanted)),
                          lambda: f"{count} requests {wanted}; came: {self.requests}", pause=0.005)

    def forget(self):
        with self.lock:
            self.requests = []

    def accept(self, listener, alive):
        while alive.is_set():
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            with self.lock:
                self.connections += 1
                number = self.connections
                self.open.add(sock)
            threading.Thread(target=self.serve, args=(sock, number, alive), daemon=True).start()

    def serve(self, plain, number, alive):
        sock = plain
        try:
            if sock.family != socket.AF_UNIX:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.tls:
                plain.settimeout(PATIENCE)
                sock = self.tls.wrap_socket(plain, server_side=True)
                sock.settimeout(None)
                with self.lock:
                    self.open.discard(plain)
                    self.open.add(sock)
            self.converse(sock, number, alive)
        except (OSError, ssl.SSLError, ValueError) as error:
            with self.lock:
                self.errors.append(error)
        finally:
            with self.lock:
                self.open.discard(sock)
                self.open.discard(plain)
            sock.close()

    def converse(self, sock, number, alive):
        got = b""
        while alive.is_set():
            while b"\r\n\r\n" not in got:
                data = sock.recv(65536)
                if not data:
                    return
                got += data
            head, got = got.split(b"\r\n\r\n", 1)
            lines = head.decode("latin-1").split("\r\n")
            headers = [tuple(part.strip() for part in line.split(":", 1)) for line in lines[1:]]
            fields = {name.lower(): value for name, value in headers}
            if fields.get("expect", "").lower() == "100-continue":
                sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            size = int(fields.get("content-length", 0))
            while len(got) < size:
                data = sock.recv(65536)
                if not data:
                    return
                got += data
            body, got = got[:size], got[size:]
            request = Request(lines[0], headers, body, number)
            with self.lock:
                self.requests.append(request)
            reply = self.handler(request)
            if reply is None:
                reply = Reply(b'{"error":"not found"}', 404)
            elif not isinstance(reply, Reply):
                reply = as_json(reply)
            if not self.answer(sock, reply, alive):
                return

    def answer(self, sock, reply, alive):
        """Sends it; False: the connection is over."""
        end = time.monotonic() + reply.delay
        while alive.is_set() and time.monotonic() < end:
            time.sleep(min(0.02, max(0, end - time.monotonic())))
        while reply.gate is not None and alive.is_set() and not reply.gate.wait(0.05):
            pass
        if not alive.is_set() or reply.hangup:
            return False
        if reply.raw is not None:
            sock.sendall(reply.raw)
            return False
        head = [f"HTTP/1.1 {reply.status} Scripted"]
        head += [f"{name}: {value}" for name, value in reply.headers]
        bodyless = reply.status in (204, 304) or reply.status < 200
        if reply.content_type and not bodyless:
            head.append(f"Content-Type: {reply.content_type}")
        if reply.stream is not None:
            head.append("Transfer-Encoding: chunked")
        elif not bodyless:
            head.append(f"Content-Length: {len(reply.body)}")
        top = ("\r\n".join(head) + "\r\n\r\n").encode("latin-1")
        if reply.stream is not None:
            sock.sendall(top)
            while alive.is_set():       # ends by an OSError when the client has had enough
                sock.sendall(b"%x\r\n%b\r\n" % (len(reply.stream), reply.stream))
                time.sleep(reply.pause)
            return False
        if reply.cut is not None:
            sock.sendall(top + reply.body[:reply.cut])
            return False
        sock.sendall(top + (b"" if bodyless else reply.body))
        return True


class RawBackend:
    """An HTTP service at the level of bytes: say(number of the connection, socket, its request) for
    each request, false when the connection is over."""

    def __init__(self, case, say, port=0):
        self.say, self.connections = say, 0
        self.listener = socket.create_server(("127.0.0.1", port), backlog=1024)
        on_cleanup(case, self.stop)
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}/{{}}"
        threading.Thread(target=self.accept, daemon=True).start()

    def stop(self):
        """Takes no more connections; those it has go on."""
        try:
            self.listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.listener.close()

    def accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self.serve, args=(self.connections, sock), daemon=True).start()

    def serve(self, number, sock):
        with sock:
            try:
                request = sock.recv(65536)
                while request and self.say(number, sock, request):
                    request = sock.recv(65536)
            except OSError:
                pass


class Store:
    """A small real HTTP store: GET, POST, DELETE of JSON, increments, lists of names."""

    INCREMENT = "application/vnd.mapmux.increment+json"

    def __init__(self, data=None):
        self.data = dict(data or {})            # decoded path: value
        self.lock = threading.Lock()

    def __call__(self, request):
        path = request.plain_path
        with self.lock:
            if request.method == "GET" and path.endswith("/"):
                names = {key[len(path):].split("/")[0] for key in self.data if key.startswith(path)}
                return sorted(names)
            if request.method == "GET":
                return as_json(self.data[path]) if path in self.data else None
            if request.method == "DELETE":
                return Reply(status=204) if self.data.pop(path, self) is not self else None
            if request.method == "POST" and request.header("Content-Type") == self.INCREMENT:
                if path not in self.data:
                    return None
                self.data[path] = int(self.data[path]) + int(json.loads(request.body)["increment"])
                return Reply(status=204)
            if request.method == "POST":
                self.data[path] = json.loads(request.body)
                return Reply(status=201)
        return Reply(status=405)
