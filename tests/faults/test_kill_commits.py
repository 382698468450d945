"""mapmux is killed while commits run to a Redis: what was acknowledged is there, and nothing twice."""

import os
import random
import signal
import threading
import time
import unittest

from harness import Case, Dict, Mapmux, tempdir
from harness.mapmux import document
from harness.redis import PASSWORD, Redis
from harness.wire import Closed

KILLS = int(os.environ.get("FAULTS_KILLS", 1000))
CLIENTS = 4
LIFE = 0.03     # seconds at most that a process may answer before it is killed


class Writer:
    """One client: each transaction counts one up and leaves a mark with its own number, so that the
    counter tells whether any was applied twice, or in part."""

    def __init__(self, path, name, over):
        self.path, self.name, self.over = path, name, over
        self.sent, self.acked, self.wrong = 0, set(), []
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while not self.over.is_set():
            try:
                with Dict(self.path, "t") as client:
                    while not self.over.is_set():
                        self.commit(client)
            except (OSError, Closed):
                time.sleep(0.002)       # until the next process listens

    def commit(self, client):
        self.sent += 1
        number = self.sent
        answer = client.change(number, ("set", f"shared/mark/{self.name}/{number}", "1"),
                               ("inc", f"shared/count/{self.name}", 1))
        if answer.letter == "O":
            self.acked.add(number)
        else:
            self.wrong.append((answer.letter, answer.value))


class Killed(Case):
    """kill -9 at a random moment, and a new process at once; Redis lives."""

    def test_commits(self):
        redis = Redis(self)
        path, over = os.path.join(tempdir(self), "dict"), threading.Event()
        config = document({
            "listeners": [{"protocol": "dict", "address": "unix:" + path}],
            "tables": [{"name": "t", "type": "redis", "param": f"redis+unix:{redis.path}",
                        "password": PASSWORD}]})
        for name in range(CLIENTS):
            redis.do("SET", f"count/{name}", 0)
        mux = Mapmux(self, config=config)
        writers = [Writer(path, name, over) for name in range(CLIENTS)]
        self.addCleanup(over.set)
        for _ in range(KILLS):
            time.sleep(random.uniform(0, LIFE))
            mux.kill(signal.SIGKILL)
            self.assertEqual(mux.ended(), -signal.SIGKILL)
            mux = Mapmux(self, config=config)
        over.set()
        for writer in writers:
            writer.thread.join(60)
            self.assertFalse(writer.thread.is_alive(), "a commit was never answered")
        sent, acked = sum(writer.sent for writer in writers), sum(len(writer.acked) for writer in writers)
        self.assertGreater(acked, KILLS // 2, "hardly a commit between the kills")
        self.assertGreater(sent, acked, "no kill met a commit")
        for writer in writers:
            self.judge(redis, writer)

    def judge(self, redis, writer):
        self.assertEqual(writer.wrong, [])
        marks = {int(key.rpartition(b"/")[2]) for key in redis.do("KEYS", f"mark/{writer.name}/*")}
        self.assertEqual(writer.acked - marks, set(), "acknowledged, and not there")
        self.assertLessEqual(marks, set(range(1, writer.sent + 1)))
        self.assertEqual(int(redis.do("GET", f"count/{writer.name}")), len(marks),
                         "a transaction was applied twice, or in part")


if __name__ == "__main__":
    unittest.main()
