"""What every helper needs: private directories, free ports, programs, waiting."""

import atexit
import ctypes
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest

PR_SET_PDEATHSIG = 1    # of Linux's prctl
PATIENCE = 20.0         # seconds until a thing that should happen soon counts as not happening
SEARCH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])

_daemons = []           # those started and not yet forgotten: their logs explain a failure


class Case(unittest.TestCase):
    """A test that prints the logs of its daemons when it fails."""
    maxDiff = None
    longMessage = True

    def run(self, result=None):
        result = result or self.defaultTestResult()
        before = len(result.failures) + len(result.errors)
        done = super().run(result)
        if len(result.failures) + len(result.errors) > before:
            for daemon in _daemons:
                sys.stderr.write(f"\n--- log of {daemon.argv[0]} in {self.id()}:\n{daemon.last_words()}\n")
        _daemons[:] = [daemon for daemon in _daemons if daemon.running()]
        return done


def on_cleanup(case, function, *args):
    """Runs function after the test, or after the class when `case` is one."""
    add = case.addClassCleanup if isinstance(case, type) else case.addCleanup
    add(function, *args)


def program(name, package):
    """The path of a program. One that is missing is a failure: nothing is skipped."""
    path = shutil.which(name, path=SEARCH)
    if path is None:
        raise AssertionError(f"{name} is missing: install Debian's package {package}")
    return path


def run(argv, *, stdin=b"", timeout=PATIENCE, env=None, cwd=None):
    """Runs a command to its end; stdout and stderr are bytes."""
    if isinstance(stdin, str):
        stdin = stdin.encode()
    try:
        return subprocess.run(argv, input=stdin, capture_output=True, timeout=timeout, env=env,
                              cwd=cwd, check=False)
    except subprocess.TimeoutExpired as late:
        raise AssertionError(f"{argv} has not ended after {timeout:g} s: {late.stdout!r} {late.stderr!r}") from None


def tempdir(case):
    """A private directory that other users may enter, short enough for unix sockets in it."""
    base = tempfile.gettempdir()
    path = tempfile.mkdtemp(prefix="mapmux-e2e-", dir=base if len(base) < 40 else os.sep + "tmp")
    os.chmod(path, 0o755)
    on_cleanup(case, shutil.rmtree, path, True)
    return path


def free_port():
    """A port on which nothing listens, and which no other test of this suite is given.

    It lies below the range of the kernel's own choices, so that no outgoing connection has it.
    """
    for port in random.sample(range(10000, 32000), 2000):
        guard = socket.socket(socket.AF_UNIX)
        try:
            guard.bind(f"\0mapmux-e2e-port-{port}")
            for family, host in ((socket.AF_INET, ""), (socket.AF_INET6, "::")):
                with socket.socket(family) as probe:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    if family == socket.AF_INET6:
                        probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                    probe.bind((host, port))
        except OSError:
            guard.close()
            continue
        atexit.register(guard.close)    # reserved until this process ends
        return port
    raise AssertionError("no free port")


def wait_until(condition, what, timeout=PATIENCE, pause=0.02):
    """Polls until condition() is true and returns its value."""
    end = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"after {timeout:g} s still not so: {what() if callable(what) else what}")
        time.sleep(pause)


def die_with_parent():
    """In a child, before its program starts: a killed test run leaves no daemon behind."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def answers(address):
    """Does something accept connections there? Address: a path, or (host, port)."""
    try:
        connect(address, timeout=2).close()
        return True
    except OSError:
        return False


def connect(address, timeout=PATIENCE):
    """A stream socket to a unix path or to (host, port)."""
    if isinstance(address, tuple):
        return socket.create_connection(address, timeout)
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.settimeout(timeout)
        sock.connect(address)
    except OSError:
        sock.close()
        raise
    return sock


class Daemon:
    """A program that runs in the foreground until it is told to stop. Ended by its own pid."""

    def __init__(self, argv, log, *, env=None, cwd=None):
        self.argv, self.log_path = argv, log
        with open(log, "ab") as out:
            self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out,
                                            stderr=out, env=env, cwd=cwd,
                                            preexec_fn=die_with_parent)
        self.pid = self.process.pid
        self.final = None       # the log as it was at the end: its file may be gone
        _daemons.append(self)

    def log(self):
        with open(self.log_path, "rb") as file:
            return file.read().decode("utf-8", "replace")

    def last_words(self):
        """The end of the log, also after the directory has gone."""
        return (self.log() if self.final is None else self.final)[-8000:]

    def running(self):
        return self.process.poll() is None

    def wait_ready(self, ready, timeout=PATIENCE):
        """Polls ready(); a process that ends meanwhile is a failure that shows its log."""
        def check():
            if not self.running():
                raise AssertionError(f"{self.argv[0]} ended with {self.process.returncode}:\n{self.log()}")
            return ready()
        wait_until(check, lambda: f"{self.argv[0]} answers; its log:\n{self.log()}", timeout)

    def kill(self, number):
        """Sends it a signal."""
        self.process.send_signal(number)

    def end(self, number=signal.SIGTERM, timeout=PATIENCE):
        """Stops it and returns its exit code; one that does not stop is killed and is a failure."""
        if self.running():
            self.kill(number)
        try:
            code = self.process.wait(timeout)
            self.final = self.log()
            return code
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            self.final = self.log()
            raise AssertionError(f"{self.argv[0]} did not stop within {timeout:g} s:\n{self.log()}") from None
