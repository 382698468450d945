"""The daemon under test: started with a command line or YAML, stopped and looked at."""

import json
import os
import pathlib
import re
import signal

from .base import Daemon, answers, on_cleanup, run, tempdir, wait_until
from .wire import Dict, Socketmap

BAD = re.compile(r"Sanitizer|runtime error|Assertion .*failed|stack smashing|double free")


def binary():
    """The program under test, from MAPMUX, else the build directory of this checkout."""
    path = os.environ.get("MAPMUX")
    if path is None:
        path = str(pathlib.Path(__file__).resolve().parents[3] / "build" / "mapmux")
    if not os.access(path, os.X_OK):
        raise AssertionError(f"no mapmux at {path}: build it, or set MAPMUX")
    return os.path.abspath(path)


def sanitized():
    """Such a program needs several times the memory, and holds it back."""
    with open(binary(), "rb") as file:
        return re.search(b"__(asan|tsan)_init", file.read()) is not None


def mapmux(*args, **kwargs):
    """Runs mapmux to its end (check, query, help). A sanitizer's report is a failure."""
    done = run([binary(), *args], **kwargs)
    assert not BAD.search(done.stderr.decode("utf-8", "replace")), done.stderr.decode("utf-8", "replace")
    return done


def yaml(value):
    """A value as YAML in flow style. Strings are quoted; keys and numbers are plain."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {yaml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(yaml(item) for item in value) + "]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    return str(value)


def document(settings):
    """A configuration file: top-level keys in block style, a list's items one a line."""
    lines = []
    for key, value in settings.items():
        if isinstance(value, list):
            lines.append(f"{key}:")
            lines += [f"  - {yaml(item)}" for item in value]
        else:
            lines.append(f"{key}: {yaml(value)}")
    return "\n".join(lines) + "\n"


def place(address):
    """Where a client finds the listener ADDRESS of the configuration."""
    if address.startswith("unix:"):
        return address[len("unix:"):]
    host, _, port = address.rpartition(":")
    return host.strip("[]") or "127.0.0.1", int(port)


class Mapmux(Daemon):
    """A running mapmux, ready to answer.

    args: its command line; config: YAML text or a dict for document(). The listeners that it
    waits for are found in both; wrap: a command that executes it. When the test ends it must stop
    by SIGTERM with exit code 0.
    """

    def __init__(self, case, *args, config=None, env=None, extra=(), wrap=()):
        self.dir = tempdir(case)
        self.stopped = False
        argv = [*wrap, binary(), *args]
        waits = list(extra)
        if config is not None:
            text = config if isinstance(config, str) else document(config)
            path = os.path.join(self.dir, "mapmux.yaml")
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
            argv += ["-c", path]
            waits += re.findall(r'\baddress: *"?([^",}\n]+)', text)
        for name, value in zip(args, args[1:]):
            if name == "--listen":
                waits.append(value.split(":", 1)[1].split(",")[0])
            elif name == "--socket":
                waits.append("unix:" + value)
        environment = dict(os.environ, **(env or {}))
        super().__init__(argv, os.path.join(self.dir, "log"), env=environment)
        on_cleanup(case, self.stop)
        for address in waits:
            self.wait_ready(lambda where=place(address): answers(where))

    def stop(self):
        """Ends it by SIGTERM and looks for what no run may leave."""
        if self.stopped:
            return
        self.stopped = True
        alive = self.running()
        code = self.end()
        log = self.log()
        assert not BAD.search(log), log[-8000:]
        assert alive, f"mapmux had died with {code}:\n{log[-4000:]}"
        assert code == 0, f"exit code {code} after SIGTERM:\n{log[-4000:]}"

    def ended(self, timeout=20):
        """Waits until it has ended by itself or by an earlier signal; its exit code."""
        code = self.process.wait(timeout)
        self.stopped = True
        self.final = self.log()
        assert not BAD.search(self.final), self.final
        return code

    def counts(self, table, kind):
        """How often the table of that type gave which result, by SIGUSR1: {"ok": 1, "temp": 0, ...}."""
        line = re.compile(rf"table {re.escape(table)} \({kind}\): (ok \d+.*)")
        before = len(line.findall(self.log()))
        self.kill(signal.SIGUSR1)
        said = wait_until(lambda: line.findall(self.log())[before:], f"the summary of {table}")[0]
        return {name: int(number) for name, number in re.findall(r"(\w+) (\d+)", said)}

    def memory(self, what="VmRSS"):
        """Resident bytes."""
        with open(f"/proc/{self.pid}/status", encoding="ascii", errors="replace") as file:
            return int(re.search(what + r":\s*(\d+) kB", file.read()).group(1)) * 1024

    def peak(self):
        """The most resident bytes since forget_peak()."""
        return self.memory("VmHWM")

    def forget_peak(self):
        with open(f"/proc/{self.pid}/clear_refs", "w", encoding="ascii") as file:
            file.write("5")


class Served(Mapmux):
    """A mapmux with one unix socket for each protocol."""

    def __init__(self, case, tables, protocols, **settings):
        where = tempdir(case)
        self.paths = {name: os.path.join(where, name) for name in protocols}
        config = {"listeners": [{"protocol": name, "address": "unix:" + path, "mode": "0666"}
                                for name, path in self.paths.items()]}
        env, wrap = settings.pop("env", None), settings.pop("wrap", ())
        config.update(settings)
        config["tables"] = tables
        super().__init__(case, config=config, env=env, wrap=wrap)

    def socketmap(self):
        return Socketmap(self.paths["socketmap"])

    def dict(self, name, **kwargs):
        return Dict(self.paths["dict"], name, **kwargs)

    def ask(self, table, key):
        """One socketmap lookup on a connection of its own: (status, text)."""
        with self.socketmap() as client:
            return client.ask(table, key)

    def look(self, table, key, user=""):
        """One dict lookup on a connection of its own."""
        with self.dict(table) as client:
            return client.lookup(key, user)


def url(name, param, **options):
    """A url table."""
    return {"name": name, "type": "url", "param": param, **options}


def serve(case, tables, protocols=("socketmap", "dict"), **settings):
    """A running mapmux with these tables, on a unix socket for each protocol."""
    return Served(case, tables, protocols, **settings)
