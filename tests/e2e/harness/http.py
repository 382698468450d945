"""A client of the http listener, and a strict reader of the Prometheus text format."""

import http.client
import json
import math
import re
import socket
import urllib.parse

from .base import PATIENCE

NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*\Z")
SAMPLE = re.compile(r'([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{((?:[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\["\\n])*",?)*)\})? (\S+)\Z')
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(,|\Z)')
SUFFIXES = {"histogram": ("_bucket", "_sum", "_count"), "counter": ("",), "gauge": ("",)}


class Answer:
    def __init__(self, response):
        self.status, self.body = response.status, response.read()
        self.headers = {name.lower(): value for name, value in response.getheaders()}

    def json(self):
        return json.loads(self.body)

    def __repr__(self):
        return f"<{self.status} {self.body[:300]!r}>"


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("mapmux", timeout=PATIENCE)
        self.where = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.where)


class Http:
    """One kept connection to (host, port), or to a unix path."""

    def __init__(self, address, token=None):
        self.headers = {"Authorization": f"Bearer {token}"} if token is not None else {}
        self.connection = (http.client.HTTPConnection(*address, timeout=PATIENCE)
                           if isinstance(address, tuple) else UnixConnection(address))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.connection.close()

    def ask(self, method, target, body=None, headers=None):
        self.connection.request(method, target, body, {**self.headers, **(headers or {})})
        return Answer(self.connection.getresponse())

    def get(self, target, **params):
        return self.ask("GET", target + ("?" + urllib.parse.urlencode(params) if params else ""))

    def lookup(self, table, key, **params):
        return self.get("/v1/lookup/" + urllib.parse.quote(table, safe=""), key=key, **params)

    def metrics(self):
        answer = self.get("/metrics")
        assert answer.status == 200, answer
        assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8", answer.headers
        return Metrics(answer.body.decode())


class Metrics:
    """A page of metrics, each line of which was looked at."""

    def __init__(self, text):
        self.types, self.samples, self.family = {}, {}, None
        assert text.endswith("\n"), "the last line does not end"
        for line in text[:-1].split("\n"):
            self.read(line)
        for name, kind in self.types.items():
            if kind == "histogram":
                self.check_histograms(name)

    def read(self, line):
        if line.startswith("# HELP "):
            self.family, text = line[7:].split(" ", 1)
            assert NAME.match(self.family) and text, line
            assert self.family not in self.types, f"{self.family} comes in two places"
        elif line.startswith("# TYPE "):
            name, kind = line[7:].split(" ")
            assert name == self.family and kind in SUFFIXES, line
            self.types[name] = kind
        else:
            self.read_sample(line)

    def read_sample(self, line):
        found = SAMPLE.match(line)
        assert found, f"no sample: {line!r}"
        name, inside, value = found.groups()
        kind = self.types[self.family]
        assert name in [self.family + suffix for suffix in SUFFIXES[kind]], f"{name} in {self.family}"
        assert kind != "counter" or name.endswith("_total"), name
        labels, rest = {}, inside or ""
        while rest:
            part = LABEL.match(rest)
            assert part and part.group(1) not in labels, line
            labels[part.group(1)] = re.sub(r"\\(.)", lambda m: "\n" if m.group(1) == "n" else m.group(1),
                                           part.group(2))
            rest = rest[part.end():]
        key = (name, frozenset(labels.items()))
        assert key not in self.samples, f"twice: {line}"
        self.samples[key] = float(value)
        assert math.isfinite(self.samples[key]) and self.samples[key] >= 0, line

    def check_histograms(self, name):
        series = {}
        for (sample, labels), value in self.samples.items():
            if sample == name + "_bucket":
                rest = {key: text for key, text in labels if key != "le"}
                series.setdefault(frozenset(rest.items()), []).append((float(dict(labels)["le"]), value))
        for labels, buckets in series.items():
            ends = [end for end, _ in sorted(buckets)]
            counts = [count for _, count in sorted(buckets)]
            assert ends[0] == 0.0001 and ends[-2:] == [30, math.inf], ends
            assert counts == sorted(counts), f"{name} {labels} is not cumulative: {counts}"
            assert counts[-1] == self.samples[(name + "_count", labels)], labels
            assert (name + "_sum", labels) in self.samples, labels
        counted = {labels for sample, labels in self.samples if sample == name + "_count"}
        assert counted == set(series), "a histogram without buckets"

    def get(self, name, **labels):
        """The value of that very sample; None: there is none."""
        return self.samples.get((name, frozenset(labels.items())))

    def all(self, name, **labels):
        """{labels: value} of all samples with at least these labels."""
        return {rest: value for (sample, rest), value in self.samples.items()
                if sample == name and set(labels.items()) <= set(rest)}

    def sum(self, name, **labels):
        return sum(self.all(name, **labels).values())
