"""A private redis-server, and a client for it that says what it means."""

import os
import signal
import socket
import threading

from .base import Daemon, answers, connect, free_port, on_cleanup, program, tempdir

PASSWORD = "p@ss/wo:rd?"


class Client:
    """Commands one by one; an error of the server is an exception."""

    def __init__(self, address, password=None):
        self.sock = connect(address)
        self.file = self.sock.makefile("rb")
        if password:
            self("AUTH", password)

    def __call__(self, *words):
        words = [word if isinstance(word, bytes) else str(word).encode() for word in words]
        self.sock.sendall(b"*%d\r\n" % len(words) +
                          b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words))
        return self.read()

    def read(self):
        line = self.file.readline()[:-2]
        kind, rest = line[:1], line[1:]
        if kind == b"-":
            raise RuntimeError(rest.decode())
        if kind == b"+":
            return rest
        if kind == b":":
            return int(rest)
        if kind == b"$":
            return None if int(rest) < 0 else self.file.read(int(rest) + 2)[:-2]
        assert kind == b"*", line
        return None if int(rest) < 0 else [self.read() for _ in range(int(rest))]

    def close(self):
        self.file.close()
        self.sock.close()


class Redis:
    """On a unix socket and on a port, with a password; it keeps its data when it is started again."""

    def __init__(self, case, password=PASSWORD, path=None):
        self.dir, self.port, self.password = tempdir(case), free_port(), password
        self.path = path or os.path.join(self.dir, "redis.sock")
        self.daemon = None
        self.start()
        on_cleanup(case, self.stop)

    def start(self):
        argv = [program("redis-server", "redis-server"), "--port", str(self.port), "--bind", "127.0.0.1",
                "--unixsocket", self.path, "--unixsocketperm", "777", "--dir", self.dir, "--save", "",
                "--appendonly", "yes", "--appendfsync", "always"]
        if self.password:
            argv += ["--requirepass", self.password]
        self.daemon = Daemon(argv, os.path.join(self.dir, "log"))
        self.daemon.wait_ready(lambda: answers(self.path) and self.serves())

    def serves(self):
        try:
            self.do("PING")
            return True
        except (OSError, RuntimeError):
            return False

    def do(self, *words):
        client = Client(self.path, self.password)
        try:
            return client(*words)
        finally:
            client.close()

    def stop(self):
        """As by a power cut; on a stopped one as well."""
        if self.daemon.running():
            self.daemon.end(signal.SIGKILL)


class Script:
    """A server that sends `greeting` unasked and answers each read with the next of `replies`, then
    with the last one again; None is no answer, b"" hangs up."""

    def __init__(self, case, *replies, greeting=b""):
        self.replies, self.greeting, self.got = list(replies), greeting, []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.open = []
        on_cleanup(case, self.close)
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            self.open.append(sock)
            threading.Thread(target=self.serve, args=(sock,), daemon=True).start()

    def serve(self, sock):
        at = 0
        try:
            sock.sendall(self.greeting)
            while True:
                data = sock.recv(65536)
                if not data:
                    return
                self.got.append(data)
                reply = self.replies[min(at, len(self.replies) - 1)]
                at += 1
                if reply == b"":
                    return
                if reply is not None:
                    sock.sendall(reply)
        except OSError:
            pass
        finally:
            sock.close()

    def close(self):
        for sock in (self.listener, *self.open):
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            sock.close()
