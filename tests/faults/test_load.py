"""The load itself: it finds what is wrong, so that the other tests can fail."""

import collections
import os
import socket
import threading
import time
import unittest

from harness import tempdir, wait_until
from harness.wire import netstring

from load import FaultCase

KEYS = 9
BAD = {         # what the server makes of which key: (the word of the timeline, what it sends instead of the truth)
    "k1": ("wrong", b"OK v11"), "k2": ("wrong", b"OK v3"), "k3": ("absent", b"NOTFOUND "), "k4": ("perm", b"PERM no"),
    "k5": ("temp", b"TEMP later"), "k6": ("lost", None), "x7": ("wrong", b"OK v7"), "x8": ("wrong", b"OK "),
}
DICT_WORDS = {b"OK": b"O", b"NOTFOUND": b"N", b"PERM": b"F", b"TEMP": b"F"}


class Liar:
    """A server of socketmap or dict on a unix socket that counts its lies by their words."""

    def __init__(self, case, protocol):
        self.path, self.protocol, self.told = os.path.join(tempdir(case), "s"), protocol, collections.Counter()
        self.lock = threading.Lock()
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen(100)
        case.addCleanup(self.listener.close)
        case.addCleanup(self.listener.shutdown, socket.SHUT_RDWR)
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(sock,), daemon=True).start()

    def serve(self, sock):
        number = 0
        with sock, sock.makefile("rb") as file:
            while line := self.question(file):
                key = line.split(b" " if self.protocol == "socketmap" else b"/")[1].decode()
                truth = (b"OK v" + key[1:].encode()) if key[0] == "k" else b"NOTFOUND "
                word, answer = BAD.get(key, ("ok" if key[0] == "k" else "notfound", truth))
                if self.protocol == "dict" and word == "perm":
                    word = "temp"       # the same to Dovecot
                with self.lock:
                    self.told[word] += 1
                if answer is None:
                    return
                number += 1
                sock.sendall(self.framed(answer, number))

    def question(self, file):
        if self.protocol == "dict":
            line = file.readline()
            return line[1:-2] if line[:1] != b"H" else file.readline()[1:-2]
        size = b""
        while (byte := file.read(1)) not in (b":", b""):
            size += byte
        return file.read(int(size) + 1)[:-1] if size else b""

    def framed(self, answer, number):
        if self.protocol == "socketmap":
            return netstring(answer)
        word, _, text = answer.partition(b" ")
        return b"*%d\n+%d\t%b%b\n" % (number, number, DICT_WORDS[word], text)


class Load(FaultCase):
    """What it counts is what was done to it."""

    def test_counts(self):
        for protocol in ("socketmap", "dict"):
            with self.subTest(protocol):
                self.loads = []
                liar = Liar(self, protocol)
                self.load(liar.path, protocol, keys=KEYS, every=4, rate=300, connections=5)
                wait_until(lambda: sum(liar.told.values()) > 200, lambda: liar.told)
                line, = self.timelines()
                found = {word: line.total(word) for word in liar.told}
                self.assertEqual(found, liar.told, str(line))
                self.assertGreater(min(liar.told.values()), 0)
                self.assertEqual(line.total("asked"), sum(liar.told.values()))
                self.assertEqual(set(found), {"ok", "notfound", "temp", "absent", "wrong", "lost"}
                                 | ({"perm"} if protocol == "socketmap" else set()))
                self.assertRaises(AssertionError, self.assert_true_answers, line)

    def test_a_silent_server(self):
        """What is not answered is lost, and nothing is asked meanwhile."""
        path = os.path.join(tempdir(self), "s")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
            listener.listen(100)
            self.load(path, rate=200, connections=10, patience=0.2)
            time.sleep(1)
            line, = self.timelines()
        self.assertEqual((line.total("asked"), line.total("lost")), (10, 10), str(line))
        self.assertGreater(line.total("held"), 50)

    def test_nobody(self):
        self.load(os.path.join(tempdir(self), "s"), rate=200)
        time.sleep(0.5)
        line, = self.timelines()
        self.assertEqual(line.total("asked"), 0)
        self.assertGreater(line.total("refused"), 20)

    def test_windows(self):
        """TEMP before a fault, or to what was asked after it, is seen."""
        liar = Liar(self, "socketmap")
        self.load(liar.path, keys=KEYS, rate=300, connections=5)
        time.sleep(3)
        line, = self.timelines()
        self.assertGreater(line.total("temp"), 10)
        for start, end, good in ((-1, 5, True), (1.5, 5, False), (-1, 1, False)):
            self.faults = [(line.begin + start, line.begin + end)]
            with self.subTest(start=start, end=end):
                if good:
                    self.assert_temp_within(line)
                else:
                    self.assertRaises(AssertionError, self.assert_temp_within, line)


if __name__ == "__main__":
    unittest.main()
