"""Dict changes and listings on the url table: the requests, and what a failure in their midst means."""

import json
import threading
import time
import unittest

from harness import Backend, Case, Reply, Store, serve, url, wait_until
from harness.backend import as_json


class Writes(Case):
    """Dict changes as HTTP requests, and what a failure in their midst means."""

    def setUp(self):
        self.store, self.script = Store(), {}
        self.backend = Backend(self,
                               lambda request: self.script.get((request.method, request.plain_path)) or self.store(request))
        self.mux = serve(self, [url("kv", self.backend.url + "/kv/{}", timeout="1s")])

    def change(self, *steps, user=""):
        self.backend.forget()
        with self.mux.dict("kv") as client:
            return client.change(1, *steps, user=user)

    def made(self):
        """What was asked: (method, target, body)."""
        return [(request.method, request.target, request.body) for request in self.backend.seen()]

    def test_bodies(self):
        for value, body in (("text", '"text"'), ("5", "5"), ("-1.50", "-1.50"), ('{"a": [1]}', '{"a": [1]}'),
                            ("true", "true"), ("null", "null"),
                            ('"quoted"', '"quoted"'), ("", '""'), ("007", '"007"'), ("{bad", '"{bad"'),
                            ("tab\tnl\nsoh\x01", '"tab\\tnl\\nsoh\\u0001"'),
                            ('say "hi" \\', '"say \\"hi\\" \\\\"'), ("ü日", '"ü日"'), ("1 2", '"1 2"')):
            with self.subTest(value):
                self.assertEqual(self.change(("set", "shared/a b", value)).letter, "O")
                request, = self.backend.seen()
                self.assertEqual((request.method, request.target), ("POST", "/kv/a%20b"))
                self.assertEqual(json.loads(request.body), json.loads(body))
                self.assertTrue(request.header("Content-Type").startswith("application/json"))

    def test_json_text_is_sent_as_it_is(self):
        text = '{"b" : 1.50, "a":[ ]}'
        self.change(("set", "shared/x", text))
        self.assertEqual(self.backend.seen()[0].body, text.encode())

    def test_operations_in_order(self):
        self.store.data["/kv/n"] = 10
        self.assertEqual(self.change(("unset", "shared/old"), ("set", "shared/a", "1"),
                                     ("inc", "shared/n", -3), ("set", "shared/b", "x")).letter, "O")
        self.assertEqual([(method, target) for method, target, _ in self.made()],
                         [("DELETE", "/kv/old"), ("POST", "/kv/a"), ("POST", "/kv/n"), ("POST", "/kv/b")])
        request = self.backend.seen()[2]
        self.assertEqual(json.loads(request.body), {"increment": -3})
        self.assertEqual(request.header("Content-Type"), "application/vnd.mapmux.increment+json")
        self.assertEqual(self.store.data, {"/kv/a": 1, "/kv/n": 7, "/kv/b": "x"})

    def test_private_keys(self):
        self.assertEqual(self.change(("set", "priv/k", "v"), ("unset", "priv/old"), user="al ice").letter,
                         "O")
        self.assertEqual([target for _, target, _ in self.made()], ["/kv/k/al%20ice", "/kv/old/al%20ice"])
        self.assertEqual(self.change(("set", "priv/k", "v")).letter, "F")
        self.assertEqual(self.made(), [])

    def test_nothing_before_commit(self):
        with self.mux.dict("kv") as client:
            client.begin(1)
            client.set(1, "shared/a", "1")
            self.assertEqual(client.lookup("shared/a").letter, "N")
            client.rollback(1)
            client.begin(2)
            client.set(2, "shared/b", "1")
            self.assertEqual(client.commit(2).letter, "O")
        self.assertEqual([target for method, target, _ in self.made() if method == "POST"], ["/kv/b"])

    def test_lost_connection_discards(self):
        with self.mux.dict("kv") as client:
            client.begin(1)
            client.set(1, "shared/a", "1")
            self.assertEqual(client.lookup("shared/x").letter, "N")
        self.assertEqual(self.mux.look("kv", "shared/a").letter, "N")

    def test_missing_keys(self):
        self.assertEqual(self.change(("inc", "shared/none", 5)).letter, "N")
        self.assertEqual(self.store.data, {})
        # quota recalculation unsets a key that may not be there, then sets it
        self.assertEqual(self.change(("unset", "shared/none"), ("set", "shared/none", "5")).letter, "O")
        self.assertEqual(self.store.data, {"/kv/none": 5})

    def test_any_2xx_is_success(self):
        for status in (200, 201, 202, 204):
            self.script["POST", "/kv/a"] = Reply(b"" if status == 204 else b"ignored <html>", status)
            self.assertEqual(self.change(("set", "shared/a", "1")).letter, "O", status)

    def outcome(self, reply, first=False):
        """The commit's letter when the set of shared/bad is answered like this, and the reason is there."""
        self.script["POST", "/kv/bad"] = reply
        before = [("set", "shared/good", "1")] if first else []
        answer = self.change(*before, ("set", "shared/bad", "1"), ("set", "shared/after", "1"))
        self.assertTrue(answer.value, "a failure says why")
        self.assertNotIn("/kv/after", self.store.data, "the first failure stops")
        return answer.letter

    def test_first_operation_refused(self):
        """Its answer is known: nothing was written."""
        for status in (400, 401, 403, 409, 500, 503):
            with self.subTest(status):
                self.assertEqual(self.outcome(Reply(b"{}", status)), "F")

    def test_later_operation_refused(self):
        for status in (403, 500):
            with self.subTest(status):
                self.assertEqual(self.outcome(Reply(b"{}", status), first=True), "W")

    def test_answer_unknown(self):
        for name, reply in (("hangup", Reply(hangup=True)), ("late", Reply(b"{}", 200, delay=2)),
                            ("garbage", Reply(raw=b"nonsense\r\n\r\n"))):
            for first in (False, True):
                with self.subTest(name, first=first):
                    self.assertEqual(self.outcome(reply, first), "W")

    def test_a_write_is_sent_once(self):
        """Never again on its own after its answer was lost."""
        self.script["POST", "/kv/bad"] = Reply(hangup=True)
        self.change(("inc", "shared/bad", "1"))
        time.sleep(0.3)         # a second one would come now
        self.assertEqual(len(self.backend.seen(method="POST", path="/kv/bad")), 1)

    def test_dead_backend(self):
        """No connection: nothing was sent."""
        self.backend.kill()
        self.assertEqual(self.change(("set", "shared/a", "1")).letter, "F")
        self.backend.start()
        self.assertEqual(self.change(("set", "shared/b", "1")).letter, "O")
        self.assertEqual(self.store.data, {"/kv/b": 1})

    def test_empty_transaction(self):
        self.assertEqual(self.change().letter, "O")
        self.assertEqual(self.made(), [])

    def test_large_value(self):
        value = "v" * 100000
        self.assertEqual(self.change(("set", "shared/big", value)).letter, "O")
        self.assertEqual(self.store.data["/kv/big"], value)


class Iterate(Case):
    """Listings as JSON."""

    @classmethod
    def setUpClass(cls):
        cls.answers = {
            "/i/list/": ["a", "b", "c d", "ü"], "/i/list/a": "1", "/i/list/b": {"x": 1}, "/i/list/c d": 3,
            "/i/list/ü": True,
            "/i/object/": {"a": "1", "b": {"x": 1}, "sub/c": "2"}, "/i/empty/": [], "/i/emptyobject/": {},
            "/i/gap/": ["a", "gone", "b"],
            "/i/gap/a": "1", "/i/gap/b": "2",
            "/i/string/": "text", "/i/number/": 5, "/i/mine//alice": [], "/i/mine/alice": ["x"],
            "/i/exact": "whole",
            "/i/many/": [f"n{number}" for number in range(500)], "/i/evil/": ["../../secret", "a\nb", "ok"],
            "/i/evil/ok": "fine",
            "/i/names/": [None, {}]}
        cls.slow = [0, 0]
        cls.backend = Backend(cls, cls.answer)
        cls.mux = serve(cls, [url("i", cls.backend.url + "/i/{}")], threads=1)

    @classmethod
    def answer(cls, request):
        path = request.plain_path
        if path.startswith("/i/many/n"):
            return as_json(path[len("/i/many/"):])
        return as_json(cls.answers[path]) if path in cls.answers else None

    def iterate(self, path, user="", **kwargs):
        self.backend.forget()
        with self.mux.dict("i") as client:
            return client.iterate(path, user, **kwargs)

    def test_list_of_names(self):
        answer = self.iterate("shared/list/")
        rows = {key: json.loads(value) for key, value in answer.rows}
        self.assertEqual(rows, {"shared/list/a": 1, "shared/list/b": {"x": 1}, "shared/list/c d": 3,
                                "shared/list/ü": True})
        self.assertEqual(len(self.backend.seen()), 5)

    def test_values_that_are_not_wanted_are_not_asked(self):
        answer = self.iterate("shared/list/", flags=9)
        self.assertEqual(sorted(answer.rows), [("shared/list/" + name,
                                                "") for name in ("a", "b", "c d", "ü")])
        self.assertEqual([request.plain_path for request in self.backend.seen()], ["/i/list/"])

    def test_object(self):
        answer = self.iterate("shared/object/", flags=1)
        self.assertEqual({key: json.loads(value) for key, value in answer.rows},
                         {"shared/object/a": 1, "shared/object/b": {"x": 1}, "shared/object/sub/c": 2})
        self.assertEqual(len(self.backend.seen()), 1)
        self.assertEqual(sorted(key for key, _ in self.iterate("shared/object/").rows),
                         ["shared/object/a", "shared/object/b"])

    def test_empty(self):
        for name in ("empty", "emptyobject", "nosuch"):
            answer = self.iterate(f"shared/{name}/")
            self.assertEqual((answer.letter, answer.rows), ("O", []), name)

    def test_name_that_has_gone(self):
        self.assertEqual(sorted(self.iterate("shared/gap/").rows),
                         [("shared/gap/a", "1"), ("shared/gap/b", "2")])

    def test_failure_in_the_midst(self):
        """A service of its own: requests of the iteration that is given up may reach it late."""
        def answer(request):
            if request.path.endswith("/bad"):
                return Reply(status=503)
            return as_json(["a", "bad", "b"] if request.path.endswith("/") else "value")

        backend = Backend(self, answer)
        with serve(self, [url("i", backend.url + "/{}")]).dict("i") as client:
            self.assertEqual(client.iterate("shared/x/").letter, "F")

    def test_not_a_list(self):
        for name in ("string", "number", "names"):
            self.assertEqual(self.iterate(f"shared/{name}/").letter, "F", name)

    def test_row_limit(self):
        answer = self.iterate("shared/many/", rows=7)
        self.assertEqual((answer.letter, len(answer.rows)), ("O", 7))

    def test_exact_key(self):
        answer = self.iterate("shared/exact", flags=16)
        self.assertEqual((answer.letter, answer.rows), ("O", [("shared/exact", "whole")]))
        answer = self.iterate("shared/none", flags=16)
        self.assertEqual((answer.letter, answer.rows), ("O", []))

    def test_many(self):
        answer = self.iterate("shared/many/")
        self.assertEqual(sorted(answer.rows), sorted((f"shared/many/n{number}",
                                                      f"n{number}") for number in range(500)))

    def test_client_leaves(self):
        """Eight lookups at a time, and no further ones for a client who has gone."""
        gate = threading.Event()
        self.addCleanup(gate.set)

        def answer(request):
            if request.path == "/l/":
                return as_json([f"n{number}" for number in range(200)])
            return as_json("v", gate=gate)
        backend = Backend(self, answer)
        mux = serve(self, [url("l", backend.url + "/l/{}")], threads=1)
        client = mux.dict("l")
        client.start_iterate("shared/")
        wait_until(lambda: len(backend.seen()) == 9, "the list and eight lookups")
        time.sleep(0.3)         # a ninth one would come now
        self.assertEqual(len(backend.seen()), 9)
        client.close()
        time.sleep(0.3)         # nothing shows when mapmux has seen that
        gate.set()
        time.sleep(0.3)         # and so would those that nobody waits for
        self.assertEqual(len(backend.seen()), 9)

    def test_hostile_names(self):
        """A backend's names cannot leave their place either."""
        answer = self.iterate("shared/evil/")
        self.assertIn(answer.letter, ("O", "F"))
        for request in self.backend.seen():
            self.assertTrue(request.plain_path.startswith("/i/evil/"), request)
            self.assertNotIn("..", request.plain_path)
        if answer.letter == "O":
            self.assertEqual([row for row in answer.rows if ".." not in row[0] and "\n" not in row[0]],
                             [("shared/evil/ok", "fine")])

    def test_hostile_prefix(self):
        for path in ("shared/../", "shared/a/../../", "shared//etc/", "shared/a\n/"):
            answer = self.iterate(path)
            self.assertEqual(answer.rows, [])
            self.assertEqual(self.backend.seen(), [], path)


if __name__ == "__main__":
    unittest.main()
