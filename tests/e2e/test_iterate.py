"""Long iterations: what they need of memory, that all stores give the same rows, and clients that leave or do not read."""

import json
import os
import random
import threading
import unittest

from harness import Backend, Case, Dict, Mapmux, Reply, serve, tempdir, url, wait_until
from harness.backend import RawBackend, as_json
from harness.http import Http
from harness.mapmux import sanitized
from harness.redis import Redis
from harness.wire import tab_unescape, text

RECURSE, BY_KEY, BY_VALUE, NO_VALUE, EXACT = 1, 2, 4, 8, 16
PARALLEL = 8            # lookups of one iteration that a url table has under way

MANY = {f"many/user{number:06d}": f"{number:06d} " + "v" * 80 for number in range(30000)}
SIZE = sum(len(name) + len(value) for name, value in MANY.items())

# How often its own size an iteration may take: its rows once, 32 bytes for each, and 256 KiB of output; of url,
# the text of the reply besides while it is read.
ROWS, REPLY, PAGE = 2.2, 2.8, 3.6


def lines_of(client, count=1):
    """All lines of so many iterations, to the end of the last. Client.iterate() looks at each line, and takes its time."""
    parts, ends, last = [client.got], 0, client.got
    client.got = b""
    while ends < count:
        data = client.sock.recv(1 << 20)
        assert data, f"closed behind {b''.join(parts)[-200:]!r}"
        seen = last[-4:] + data     # "\t\n" is an end: each row has something before its own LF
        ends += seen.count(b"\t\n") - last[-4:].count(b"\t\n")
        parts.append(data)
        last = data
    return b"".join(parts).split(b"\n")[:-1]


def rows_of(lines):
    """[(key, value)] of lines that are rows."""
    rows = [line.split(b"\t")[1:] for line in lines if line[:1] == b"+" and line[-1:] != b"\t"]
    return [(text(tab_unescape(key[1:])), text(tab_unescape(value))) for key, value in rows]


def fill(client, data):
    """Writes it through the dict, and leaves."""
    items = [("set", "shared/" + name, value) for name, value in data.items()]
    with client:
        for at in range(0, len(items), 5000):
            assert client.change(at + 1, *items[at:at + 5000]).letter == "O"


def script(case, data):
    """A Lua script that has these rows from its start, and lists what goes on behind the prefix."""
    path = os.path.join(tempdir(case), "rows.lua")
    with open(path, "w", encoding="utf-8") as file:
        file.write("local rows = {}\n")
        for name, value in data.items():
            file.write(f'rows["{name}"] = "{value}"\n')
        file.write("""
function lookup(key, request) return rows[key] end
function iterate(prefix, request)
    local found = {}
    for name, value in pairs(rows) do
        if name:sub(1, #prefix) == prefix then found[name:sub(#prefix + 1)] = value end
    end
    return found
end
""")
    return path


def service(data, names):
    """An HTTP service for these rows: listings are lists of names, or objects."""
    def answer(request):
        path = request.plain_path[1:]
        if not path.endswith("/") and path:
            return as_json(data[path]) if path in data else None
        found = {name[len(path):]: value for name, value in data.items() if name.startswith(path)}
        return list(found) if names else found
    return answer


class Memory(Case):
    """The peak of an iteration in relation to its rows."""

    def measure(self, mux, table, most):
        """Iterates, and returns the peak above what there was before, in sizes of the rows."""
        self.assertEqual(mux.look(table, "shared/none").letter, "N")    # what only the first question needs
        before = mux.memory()
        mux.forget_peak()
        with mux.dict(table) as client:
            client.start_iterate("shared/many/", flags=BY_KEY)
            rows = rows_of(lines_of(client))
        self.assertEqual(rows, [("shared/" + name, value) for name, value in MANY.items()])
        self.check(mux, before, mux.peak(), most)

    def check(self, mux, before, now, most):
        self.assertLess((now - before) / SIZE, most * 4 if sanitized() else most)

    def test_memory(self):
        mux = serve(self, [{"name": "t", "type": "memory"}], threads=1)
        fill(mux.dict("t"), MANY)
        self.measure(mux, "t", ROWS)

    def test_redis(self):
        mux = serve(self, [{"name": "t", "type": "redis", "timeout": "25s",
                            "param": f"redis+unix:{Redis(self, None).path}"}], threads=1)
        fill(mux.dict("t"), MANY)
        self.measure(mux, "t", ROWS)

    def test_lua(self):
        """The script's own tables count as its `memory`: they are there before."""
        path = os.path.join(tempdir(self), "rows.lua")
        with open(path, "w", encoding="utf-8") as file:
            file.write("""
                local rows = {}
                for n = 0, 29999 do rows[string.format("user%06d", n)] = string.format("%06d ", n) .. string.rep("v", 80) end
                function lookup(key) return nil end
                function iterate(prefix, request) return rows end
                """)
        mux = serve(self, [{"name": "t", "type": "lua", "param": path, "memory": "64m", "timeout": "25s",
                            "instructions": 100000000, "cpu_time": "20s"}], threads=1)
        self.measure(mux, "t", ROWS)

    def test_url_object(self):
        backend = Backend(self, service(MANY, False))
        mux = serve(self, [url("t", backend.url + "/{}", max_body="16m", timeout="25s")], threads=1)
        self.measure(mux, "t", REPLY)

    def test_url_names(self):
        backend = Backend(self, service({name: MANY[name] for name in list(MANY)[:8000]}, True))
        mux = serve(self, [url("t", backend.url + "/{}", max_body="16m", timeout="29s")], threads=1)
        self.assertEqual(mux.look("t", "shared/none").letter, "N")
        before = mux.memory()
        mux.forget_peak()
        with mux.dict("t", timeout=40) as client:
            client.start_iterate("shared/many/", flags=BY_KEY)
            rows = rows_of(lines_of(client))
        self.assertEqual(rows, [("shared/" + name, value) for name, value in list(MANY.items())[:8000]])
        # So many of the rows, and curl's handles.
        self.check(mux, before, mux.peak() - (1 << 20), REPLY * 8 / 30)

    def test_http(self):
        mux = serve(self, [{"name": "t", "type": "memory"}], protocols=("dict", "http"), threads=1)
        fill(mux.dict("t"), MANY)
        with Http(mux.paths["http"]) as http:
            self.assertEqual(http.lookup("t", "none").status, 404)
            before = mux.memory()
            mux.forget_peak()
            answer = http.get("/v1/iterate/t", prefix="many/", values="yes", sort="yes")
            self.assertEqual([(row["key"], row["value"]) for row in answer.json()["rows"]], list(MANY.items()))
        self.check(mux, before, mux.peak(), PAGE)

    def test_long_prefix(self):
        """The prefix comes from a client, and each name begins with it."""
        path = os.path.join(tempdir(self), "names.lua")
        with open(path, "w", encoding="utf-8") as file:
            file.write("function iterate(prefix)\n  local t = {}\n"
                       "  for n = 1, 2000 do t[\"n\" .. n] = \"v\" end\n  return t\nend\n")
        mux = serve(self, [{"name": "t", "type": "lua", "param": path, "timeout": "25s"}], threads=1)
        with mux.dict("t") as client:
            self.assertEqual(len(client.iterate("shared/short/").rows), 2000)
            mux.forget_peak()
            before = mux.memory()
            answer = client.iterate("shared/" + "x" * 200000 + "/")
            self.assertEqual((answer.letter, answer.value), ("F", "the answer is larger than 64 MiB"))
        self.assertLess(mux.peak() - before, (400 if sanitized() else 100) << 20)


class Readers(Case):
    """Clients that read slowly, or leave."""

    def setUp(self):
        self.mux = serve(self, [{"name": "t", "type": "memory"}], protocols=("dict", "http"), threads=1)
        fill(self.mux.dict("t"), MANY)
        self.before = self.mux.memory()
        self.most = (10 if sanitized() else ROWS) * SIZE

    def holds(self, client, count):
        """What the daemon holds for a client that has asked so often and does not read."""
        for _ in range(count):
            client.start_iterate("shared/many/", flags=RECURSE)
        wait_until(lambda: self.mux.counts("t", "memory")["ok"] > self.asked, "the iteration")
        self.assertEqual(self.mux.look("t", "shared/many/user000007").value, MANY["many/user000007"])
        return self.mux.memory() - self.before

    @property
    def asked(self):
        return len(MANY) // 5000    # commits so far

    def test_slow_reader(self):
        """However much he asks for, one answer waits for him, and others are served. He gets all in the end."""
        self.mux.forget_peak()
        with self.mux.dict("t") as client:
            self.assertLess(self.holds(client, 6), self.most)
            lines = lines_of(client, 6)
            self.assertEqual(len(rows_of(lines)), 6 * len(MANY))
            for number in range(1, 7):
                own = [line for line in lines if line.startswith(b"+%d\t" % number)]
                self.assertEqual((len(own), own[-1]), (len(MANY) + 1, b"+%d\t" % number))
        self.assertLess(self.mux.peak() - self.before, self.most)

    def test_reader_who_leaves(self):
        """What waited for him goes with him."""
        for _ in range(3):
            client = self.mux.dict("t")
            self.assertLess(self.holds(client, 1), self.most)
            client.exactly(1000)
            client.close()
            with Http(self.mux.paths["http"]) as http:
                wait_until(lambda: http.metrics().sum("mapmux_connections", protocol="dict") == 0, "he has gone")
        if not sanitized():
            self.assertLess(self.mux.memory() - self.before, SIZE / 2)

    def test_reader_who_is_silent(self):
        """Who does not take his rows for idle_timeout is closed."""
        where = os.path.join(tempdir(self), "dict")
        http = os.path.join(tempdir(self), "http")
        Mapmux(self, config={
            "threads": 1,
            "listeners": [{"protocol": "dict", "address": "unix:" + where, "idle_timeout": "1s"},
                          {"protocol": "http", "address": "unix:" + http}],
            "tables": [{"name": "t", "type": "memory"}]})
        fill(Dict(where, "t"), dict(list(MANY.items())[:10000]))
        with Dict(where, "t") as client, Http(http) as asker:
            client.start_iterate("shared/many/")
            wait_until(lambda: asker.metrics().sum("mapmux_connections", protocol="dict") == 0, "he was closed")
            self.assertNotIn(b"\n+1\t\n", client.rest())


class Unread(Case):
    """Iterations that come from a service while their client does not read."""

    def test_more_than_may_wait(self):
        """One of 40 MiB waits for as long as it takes; a second one beside it is too much."""
        body = json.dumps({f"n{number:02d}": "x" * (1 << 20) for number in range(40)})
        mux = serve(self, [url("t", Backend(self, lambda _: Reply(body)).url + "/{}", max_body="64m", timeout="25s")],
                    protocols=("dict", "http"), threads=1)
        with mux.dict("t") as client, Http(mux.paths["http"]) as http:
            client.start_iterate("shared/one/")
            wait_until(lambda: http.metrics().get("mapmux_requests_total", protocol="dict", table="t", result="ok"),
                       "the rows")
            self.assertEqual(len(rows_of(lines_of(client))), 40)
            client.start_iterate("shared/one/")
            client.start_iterate("shared/two/")
            wait_until(lambda: http.metrics().sum("mapmux_connections", protocol="dict") == 0, "he was closed")
            self.assertNotIn(b"\t\n", client.rest())
            self.assertEqual(
                http.metrics().get("mapmux_protocol_errors_total", protocol="dict", reason="too_much_unread"), 1)


class Lookups(Case):
    """The lookups for a list of names."""

    def test_client_leaves(self):
        """Eight at a time; they end with their client, and no further one comes."""
        counts, lock = {"running": 0, "most": 0, "asked": 0, "closed": 0}, threading.Lock()

        def say(_, sock, request):
            if request.startswith(b"GET /l/ "):
                body = json.dumps([f"n{number}" for number in range(20000)]).encode()
            else:
                with lock:
                    counts["asked"] += 1
                    counts["running"] += 1
                    counts["most"] = max(counts["most"], counts["running"])
                    answers = counts["asked"] <= 500
                closed = not answers and not sock.recv(1)
                with lock:
                    counts["running"] -= 1
                    counts["closed"] += closed
                if closed:
                    return False
                body = b'"value"'
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
            return True

        backend = RawBackend(self, say)
        mux = serve(self, [url("l", backend.url.replace("{}", "l/{}"), timeout="29s")], threads=1)
        client = mux.dict("l")
        client.start_iterate("shared/")
        wait_until(lambda: counts["running"] == PARALLEL and counts["asked"] >= 500 + PARALLEL, lambda: f"{counts}")
        client.close()
        wait_until(lambda: counts["closed"] == PARALLEL, lambda: f"all lookups end: {counts}")
        self.assertEqual((counts["asked"], counts["most"]), (500 + PARALLEL, PARALLEL))


class Order(Case):
    """All stores give the same rows in the same order."""

    DATA = {f"tree/{branch}{leaf}": value for branch, leaf, value in (
        ("", "b", "2"), ("", "a", "3"), ("", "c", "1"), ("", "B", "2"), ("", "ü", "1"), ("", "a b", "zz"), ("", "a!", "3"),
        ("sub/", "x", "2"), ("sub/", "y", "0"), ("sub/deeper/", "z", "1"), ("", "sub", "own value"))}

    @classmethod
    def setUpClass(cls):
        rng = random.Random(7)
        cls.data = dict(cls.DATA)
        cls.data.update({f"tree/n{rng.randrange(10**6)}": f"w{rng.randrange(40)}" for _ in range(200)})
        cls.data["other/tree/a"] = "elsewhere"
        file = os.path.join(tempdir(cls), "rows.json")
        with open(file, "w", encoding="utf-8") as out:
            json.dump(cls.data, out)
        shuffled = list(cls.data.items())
        rng.shuffle(shuffled)
        backends = [Backend(cls, service(dict(shuffled), names)) for names in (True, False)]
        cls.mux = serve(cls, [
            {"name": "memory", "type": "memory"},
            {"name": "redis", "type": "redis", "param": f"redis+unix:{Redis(cls, None).path}"},
            {"name": "static", "type": "static", "param": "file:" + file},
            {"name": "lua", "type": "lua", "param": script(cls, cls.data)},
            url("names", backends[0].url + "/{}"), url("object", backends[1].url + "/{}")])
        fill(cls.mux.dict("memory"), cls.data)
        fill(cls.mux.dict("redis"), cls.data)

    STORES = ("memory", "redis", "static", "lua", "names", "object")

    def expected(self, path, flags, most):
        rows = [(name, "" if flags & NO_VALUE else value) for name, value in self.data.items()
                if (name == path if flags & EXACT else
                    name.startswith(path) and (flags & RECURSE or "/" not in name[len(path):]))]
        by_value = flags & BY_VALUE and not flags & NO_VALUE
        rows.sort(key=lambda row: (row[1].encode() if by_value else b"", row[0].encode()))
        return [("shared/" + name, value) for name, value in rows[:most or None]]

    def check(self, path, flags, most=0, ordered=True):
        for store in self.STORES:
            with self.subTest(store, path=path, flags=flags, most=most), self.mux.dict(store) as client:
                answer = client.iterate("shared/" + path, flags=flags, rows=most)
                self.assertEqual(answer.letter, "O", answer.value)
                rows = answer.rows if ordered else sorted(answer.rows, key=lambda row: row[0].encode())
                self.assertEqual(rows, self.expected(path, flags, most))

    def test_by_key(self):
        for flags in (BY_KEY, BY_KEY | RECURSE, BY_KEY | NO_VALUE, BY_KEY | RECURSE | NO_VALUE):
            for most in (0, 1, 5, 100, 1000):
                self.check("tree/", flags, most)

    def test_by_value(self):
        for flags in (BY_VALUE, BY_VALUE | RECURSE, BY_VALUE | NO_VALUE):
            for most in (0, 1, 5, 100, 1000):
                self.check("tree/", flags, most)

    def test_unsorted(self):
        """As the service lists them; the same rows all the same."""
        for flags in (0, RECURSE, NO_VALUE, RECURSE | NO_VALUE):
            self.check("tree/", flags, ordered=False)

    def test_below(self):
        for flags in (BY_KEY, BY_VALUE | RECURSE):
            self.check("tree/sub/", flags)
            self.check("tree/none/", flags)

    def test_exact_key(self):
        for path in ("tree/a", "tree/sub", "tree/none", "tree/ü"):
            for flags in (EXACT, EXACT | RECURSE | BY_KEY, EXACT | NO_VALUE):
                self.check(path, flags)


if __name__ == "__main__":
    unittest.main()
