"""What a hostile review found: clients, backends and neighbours at their worst."""

import os
import signal
import socket
import stat
import subprocess
import threading
import unittest

from harness import Backend, Case, Mapmux, Reply, Socketmap, free_port, serve, tempdir, url, wait_until
from harness.backend import RawBackend
from harness.base import answers
from harness.mapmux import binary, place
from harness.wire import netstring


class Clients(Case):
    """Clients that leave, stall or shout."""

    def test_answers_of_a_vanished_client_reach_nobody(self):
        """His output buffer is used again: it once came with his answers in it."""
        mux = serve(self, [{"name": "t", "type": "static", "param": "his=secret mine=value"}],
                    ("socketmap",), threads=1)
        for _ in range(20):
            with mux.socketmap() as client:
                client.send(netstring("t his") * 3)
            self.assertEqual(mux.ask("t", "mine"), ("OK", "value"))

    def test_large_answers_do_not_strand_what_was_asked_behind_them(self):
        """More than the output may hold, taken by the socket at once: the decoder goes on."""
        address = f"127.0.0.1:{free_port()}"
        Mapmux(self, "--listen", f"socketmap:{address}", "--name", "t", "--type", "static",
               "--param", "k=" + "x" * 20000)
        for ends in (False, True):
            with self.subTest(ends=ends), Socketmap(place(address)) as client:
                client.send(netstring("t k") * 200)
                if ends:
                    client.half_close()
                self.assertEqual({client.reply() for _ in range(200)}, {("OK", "x" * 20000)})

    def test_a_log_that_nobody_reads_blocks_nobody(self):
        """A full pipe, or the journal's full socket, behind stderr: lines are lost, answers are not."""
        def sockets():
            return [end.detach() for end in socket.socketpair()]

        for name, make in (("pipe", os.pipe), ("socket", sockets)):
            with self.subTest(name):
                path, (reader, writer) = tempdir(self) + "/s", make()
                self.addCleanup(os.close, reader)
                daemon = subprocess.Popen([binary(), "--listen", f"socketmap:unix:{path}", "--name",
                                           "t", "--type", "static", "--param", "k=v"], stderr=writer)
                self.addCleanup(daemon.wait)
                self.addCleanup(daemon.kill)
                wait_until(lambda: answers(path), "the daemon answers")
                filler = (os.dup(writer) if name == "socket" else
                          os.open(f"/proc/self/fd/{writer}", os.O_WRONLY | os.O_NONBLOCK))
                os.close(writer)
                fill(filler)
                with Socketmap(path) as client:
                    self.assertEqual(client.ask("nobody", "k")[0], "PERM")     # and a line of the log
                    self.assertEqual(client.ask("t", "k"), ("OK", "v"))
                daemon.terminate()
                self.assertEqual(daemon.wait(20), 0)
                os.close(filler)


def fill(descriptor):
    """Writes to a pipe or socket until it takes no more, and leaves other descriptors of it alone."""
    try:
        while True:
            if stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                with socket.socket(fileno=os.dup(descriptor)) as end:
                    end.send(b"x" * 512, socket.MSG_DONTWAIT)
            else:
                os.write(descriptor, b"x" * 512)
    except BlockingIOError:
        pass


FOUND = b'HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n"v"'
ABSENT = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"


class Backends(Case):
    """HTTP services that do not keep to HTTP."""

    def test_a_reply_nobody_asked_for_answers_nobody(self):
        """It once was the answer to the next lookup: a user who exists bounced."""
        heard, said = threading.Event(), threading.Event()

        def say(number, sock, _):
            sock.sendall(FOUND)
            if number == 1:
                heard.wait(10)
                sock.sendall(ABSENT)
                said.set()
            return True

        backend = RawBackend(self, say)
        mux = serve(self, [url("u", backend.url)], threads=1)
        self.assertEqual(mux.ask("u", "one"), ("OK", "v"))
        heard.set()
        self.assertTrue(said.wait(10))
        for _ in range(3):      # loopback: what was said has arrived, and the loop looks at it first
            self.assertEqual(mux.ask("u", "two"), ("OK", "v"))
        self.assertEqual(backend.connections, 2)

    def test_a_cut_head_says_nothing(self):
        """A server that dies behind its first line has not answered."""
        for line in (b"HTTP/1.1 404 Not Found", b"HTTP/1.1 200 OK", b"HTTP/1.1 100 Continue\r\n"):
            for cut in (b"", b"\r\n", b"\r\nContent-Le", b"\r\nContent-Length: 3\r\n"):
                with self.subTest(line=line, cut=cut):
                    backend = RawBackend(self, lambda _number, sock, _request: sock.sendall(line + cut))
                    mux = serve(self, [url("u", backend.url)], threads=1)
                    self.assertEqual(mux.ask("u", "key")[0], "TEMP")
                    with mux.dict("u") as client:
                        self.assertEqual(client.change(1, ("set", "shared/k", "v")).letter, "W")
                        self.assertEqual(client.change(2, ("unset", "shared/k")).letter, "W")

    def test_trailers_are_no_cut_head(self):
        chunked = b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n"v"\r\n0\r\nX-Sum: 1\r\n\r\n'
        backend = RawBackend(self, lambda _number, sock, _request: sock.sendall(chunked) is None)
        mux = serve(self, [url("u", backend.url)], threads=1)
        for _ in range(2):
            self.assertEqual(mux.ask("u", "key"), ("OK", "v"))

    def test_a_404_that_means_temp_does_not_acknowledge_a_write(self):
        """`status: {404: temp}`: the proxy before the service says it while that is away."""
        backend = RawBackend(self, lambda _number, sock, _request: sock.sendall(ABSENT) is None)
        mux = serve(self, [url("u", backend.url), url("t", backend.url, status={404: "temp"})], threads=1)
        for table, letters in (("u", "FON"), ("t", "FFF")):
            with self.subTest(table=table), mux.dict(table) as client:
                got = [client.change(n, step).letter for n, step in enumerate((
                    ("set", "shared/k", "v"), ("unset", "shared/k"), ("inc", "shared/k", 1)))]
                self.assertEqual("".join(got), letters)


class Successors(Case):
    """A daemon that still drains, and the next one on its socket."""

    def test_the_successors_socket_stays(self):
        """Its file may get the inode number that the old one's had: the old daemon removed it."""
        gate = threading.Event()
        backend = Backend(self, lambda _: Reply(b'"v"', gate=gate))
        path, busy = tempdir(self) + "/s", f"127.0.0.1:{free_port()}"
        old = Mapmux(self, "--listen", f"socketmap:unix:{path}", "--listen", f"socketmap:{busy}",
                     "--name", "u", "--type", "url", "--param", backend.url + "/{}")
        with Socketmap(place(busy)) as client:
            client.request("u", "key")
            backend.wait_for(1)
            number = os.stat(path).st_ino
            old.kill(signal.SIGTERM)
            wait_until(lambda: not answers(path), "the door is closed")
            for _ in range(100):        # most file systems give the number away again soon
                os.unlink(path)
                with socket.socket(socket.AF_UNIX) as successor:
                    successor.bind(path)
                if os.stat(path).st_ino == number:
                    break
            gate.set()
            self.assertEqual(client.reply(), ("OK", "v"))
        self.assertEqual(old.ended(), 0)
        self.assertTrue(os.path.exists(path))


if __name__ == "__main__":
    unittest.main()
