"""The steady load of the fault tests, and what its answers may be."""

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import tempfile
import time

from harness import Case, Socketmap, wait_until

RATE = int(os.environ.get("FAULTS_RATE", 2000))     # questions a second of each load
CONNECTIONS = 50
LATE = 1.0      # seconds: a question asked so long before a fault may still be under way in it
SETTLE = 0.8    # a quiet moment before a fault and one behind it

# The cache that is to hide faults: what it keeps is old at once, and good enough for an hour.
STALE = {"ttl": "300ms", "negative_ttl": "300ms", "stale": "1h", "stale_timeout": "200ms"}


def steady():
    """The load's program, from STEADY, else the build directory of this checkout."""
    path = os.environ.get("STEADY")
    return path or str(pathlib.Path(__file__).resolve().parents[2] / "build" / "tests" / "faults" / "steady")


class Steady:
    """A load on one table of a socket: RATE questions a second over 50 connections, every tenth for a
    key that does not exist, until it is stopped.

    options: those of the program (`steady`), with _ for -."""

    def __init__(self, case, path, protocol="socketmap", **options):
        options = {"rate": RATE, "connections": CONNECTIONS, "keys": 211, **options}
        self.rate, self.connections = options["rate"], options["connections"]
        self.name = f"{protocol} {options.get('table', 't')}"
        argv = [steady(), protocol, "unix:" + path]
        for name, value in options.items():
            argv += ["--" + name.replace("_", "-"), str(value)]
        self.samples = tempfile.TemporaryFile()
        case.addCleanup(self.samples.close)
        self.process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=self.samples)
        case.addCleanup(self.kill)

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()

    def stop(self):
        """Ends it, and waits until all that was asked is answered or lost."""
        self.process.send_signal(signal.SIGTERM)
        out = self.process.communicate(timeout=60)[0]
        self.samples.seek(0)
        said = self.samples.read().decode("utf-8", "replace")
        assert self.process.returncode == 0, said
        return Timeline(json.loads(out), self, said)


class Timeline:
    """What came of the questions, in slots of 100 ms. All times are those of time.monotonic()."""

    def __init__(self, data, load, samples):
        self.name, self.rate, self.samples = load.name, load.rate, samples
        self.begin, self.slot, self.connects = data["start"], data["slot"], data["connects"]
        self.slots = [dict(zip(data["columns"], row)) for row in data["slots"]]
        # The load ends in mid-slot, and behind that nothing is asked: not a time to look at rates.
        asked = [index for index, slot in enumerate(self.slots) if slot["asked"] + slot["held"] + slot["refused"]]
        self.end = self.when(asked[-1] if asked else 0)

    def when(self, index):
        return self.begin + index * self.slot

    def total(self, *columns, start=0, end=float("inf")):
        """Of the slots that lie between these moments as a whole."""
        return sum(slot[column] for index, slot in enumerate(self.slots) for column in columns
                   if self.when(index) >= start and self.when(index + 1) <= end)

    def outside(self, column, faults, before=0.0, behind=0.0):
        """What stands in slots that touch none of the faults, each so much longer."""
        return {round(self.when(index) - self.begin, 1): slot[column] for index, slot in enumerate(self.slots)
                if slot[column] and not any(self.when(index + 1) > start - before and self.when(index) < end + behind
                                            for start, end in faults)}

    def __str__(self):
        moments = "\n".join(f"{index * self.slot:6.1f} s: " + ", ".join(f"{name} {n}" for name, n in slot.items() if n)
                            for index, slot in enumerate(self.slots))
        return f"\n{self.name}, begun at {self.begin:.3f}:\n{moments}\n{self.samples}"


class FaultCase(Case):
    """Loads, faults, and the judgement of each load's timeline."""

    def setUp(self):
        self.loads, self.faults = [], []

    def load(self, path, *args, **options):
        self.loads.append(Steady(self, path, *args, **options))
        return self.loads[-1]

    @contextlib.contextmanager
    def fault(self, *, grace=0.5, settle=SETTLE, behind=SETTLE):
        """What is done inside is the fault; its effects may outlast it by the grace (seconds)."""
        time.sleep(settle)
        start = time.monotonic()
        yield
        end = time.monotonic() + grace
        self.faults.append((start, end))
        time.sleep(grace + behind)

    def timelines(self):
        """Stops the loads: the timeline of each, in the order they were started."""
        lines = [load.stop() for load in self.loads]
        shown = "".join(f"fault: {start:.3f} to {end:.3f}\n" for start, end in self.faults)
        for line in lines:
            line.samples += shown
        return lines

    def assert_true_answers(self, line, lost=False):
        """The heart of all these tests. `lost`: mapmux itself was killed."""
        for column in ("wrong", "absent", "perm", *(() if lost else ("lost", "refused"))):
            self.assertEqual(line.total(column), 0, f"{column}: {line}")
        self.assertGreater(line.total("ok", start=line.end - SETTLE / 2), 0, f"it answers at the end: {line}")
        self.assertGreater(line.total("notfound"), 0, str(line))

    def assert_steady(self, line):
        """Outside of the faults the load was about what it claims to be, whoever else used the machine:
        mostly it is all of it, but a quarter is enough for what is judged here."""
        quiet = [index for index in range(len(line.slots))
                 if line.when(index + 1) <= line.end
                 and not any(line.when(index + 1) > start and line.when(index) < end for start, end in self.faults)]
        asked = sum(line.slots[index]["asked"] for index in quiet)
        self.assertGreater(asked, 0.25 * line.rate * line.slot * len(quiet), f"too slow a machine, or mapmux: {line}")

    def assert_temp_within(self, line, behind=15.0):
        """TEMP is answered only after a fault has begun, and not to questions asked after its end."""
        self.assertEqual(line.outside("temp", self.faults, behind=behind), {}, str(line))
        self.assertEqual(line.outside("temp_asked", self.faults, before=LATE), {}, str(line))

    def assert_faulty(self, line):
        """All as it must be, and the fault was one."""
        self.assert_true_answers(line)
        self.assert_steady(line)
        self.assert_temp_within(line)
        self.assertGreater(line.total("temp"), 0, f"the fault had no effect: {line}")

    def assert_untouched(self, line):
        """Not one TEMP."""
        self.assert_true_answers(line)
        self.assert_steady(line)
        self.assertEqual(line.total("temp"), 0, str(line))


def warm(path, table, keys, found="k#", missing="x#"):
    """Asks for all keys on so many connections that each worker has some: it has a memory of its own."""
    clients = [Socketmap(path) for _ in range(16)]
    asked = [name.replace("#", str(number)) for name in (found, missing) for number in range(keys)]
    for client in clients:
        for key in asked:
            client.request(table, key)
    for client in clients:
        said = [client.reply()[0] for _ in asked]
        assert said == ["OK"] * keys + ["NOTFOUND"] * keys, said
        client.close()


def has_log(daemon, text):
    """Waits until the daemon's log says it."""
    return wait_until(lambda: text in daemon.log(), lambda: f"{text!r} in:\n{daemon.log()}")
