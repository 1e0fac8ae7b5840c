"""Many threads that ask the same judge at once."""

import json
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from asked_judges import Make, different, lost, wrongly_judged
from judge_server import JudgeServer, wait_until


class TestThreads:
    def test_many_threads_with_few_pairs_each(self, make: Make, server: JudgeServer):
        judge, pairs = make(server), different(300)
        draw = random.Random(0)
        groups = [draw.choices(pairs, k=10) for _ in range(200)]
        with ThreadPoolExecutor(64) as threads:
            found = list(threads.map(judge.verdicts, groups))
        for group, entries in zip(groups, found, strict=True):
            assert (lost(entries), wrongly_judged(group, entries)) == (0, [])
        asked = [tuple(json.loads(pair)) for pair in server.behaviour.pairs]
        assert all(server.behaviour.pairs[json.dumps(pair)] == 1 for pair in asked if pair in set(pairs))
        counts = judge.tally()
        assert counts["judge/pairs"] == 2000
        different_ones = len({pair for group in groups for pair in group})
        assert 2000 - counts["judge/repeats"] - counts["judge/cached"] == different_ones

    def test_closing_lets_nobody_wait(self, make: Make, server: JudgeServer):
        judge, pairs = make(server, timeout=60.0), different(30)
        judge.check()
        server.script.down = "hang"
        with ThreadPoolExecutor(8) as threads:
            futures = [threads.submit(judge.verdicts, pairs[n % 3 :]) for n in range(8)]
            wait_until(lambda: server.behaviour.open >= 30)
            judge.release()
            for future in futures:
                assert future.exception(10) is not None or lost(future.result()) > 0
        server.script.down = ""
        assert lost(judge.verdicts(pairs)) == 0

    def test_closing_and_asking_at_once(self, make: Make, server: JudgeServer):
        judge, pairs = make(server), different(200)
        stop = threading.Event()

        def close() -> None:
            while not stop.is_set():
                judge.release()
                time.sleep(0.002)

        closer = threading.Thread(target=close)
        closer.start()
        with ThreadPoolExecutor(8) as threads:
            futures = [threads.submit(judge.verdicts, [pair]) for pair in pairs]
            for future in futures:
                future.exception(30)
        stop.set()
        closer.join()
        assert wrongly_judged(pairs, judge.verdicts(pairs)) == []
