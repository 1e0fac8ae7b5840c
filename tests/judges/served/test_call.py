"""Many threads that ask the same judge at once."""

import json
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from asked_judges import Make, different, lost, wrongly_judged
from judge_server import JudgeServer, wait_until

from fgvr.errors import UserError


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

    def test_two_threads_that_ask_the_same_ask_once(self, make: Make, server: JudgeServer):
        judge, pairs = make(server), different(40)
        judge.check()
        judge.tally()
        server.script.delay = 0.3
        with ThreadPoolExecutor(4) as threads:
            found = list(threads.map(judge.verdicts, [pairs, pairs[::-1], pairs[:20], pairs[20:]]))
        assert found[0] == found[1][::-1] == found[2] + found[3]
        assert max(server.behaviour.pairs[json.dumps(list(pair))] for pair in pairs) == 1
        counts = judge.tally()
        assert counts["judge/repeats"] + counts["judge/cached"] == 80

    def test_who_waits_for_another_thread_learns_of_its_failure(self, make: Make, server: JudgeServer):
        judge, pair = make(server), ("Ruby Finch", "Crimson Bunting")
        judge.check()
        server.script.delay, server.script.down = 0.5, "401"
        with ThreadPoolExecutor(2) as threads:
            both = [threads.submit(judge.verdicts, [pair]) for _ in range(2)]
            assert all(isinstance(future.exception(), UserError) for future in both)
        server.script.down = ""
        assert lost(judge.verdicts([pair])) == 0
