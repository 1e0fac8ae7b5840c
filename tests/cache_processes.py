"""What runs in processes of their own in the tests of the caches, forked from a clean server that loaded fgvr once."""

from __future__ import annotations

import itertools
import os
import pickle
import random
import signal
import threading
from collections.abc import Iterator
from multiprocessing.synchronize import Barrier
from pathlib import Path

from fgvr.judges.caches.base import CacheEntry, VerdictCache
from fgvr.types import Verdict


def entry(key: str, by: object = "one", verdict: Verdict = Verdict.SPECIFIC) -> CacheEntry:
    """An entry that says who wrote it."""
    shares = {verdict: 0.75, Verdict.ABSTAIN: 0.25}
    return CacheEntry(key, "Azure Finch", f"finch of {by}", verdict, shares, "tiny", "r1", "0" * 64)


def put_overlapping(cache: VerdictCache, number: int, keys: int, ready: Barrier, out: Path) -> None:
    """Puts most of the keys in an order of its own, in small batches, and notes every entry it was told is stored."""
    order = [f"k{index}" for index in range(keys)]
    chance = random.Random(number)
    chance.shuffle(order)
    mine, told = order[: keys * 3 // 4], []
    ready.wait(60)
    for start in range(0, len(mine), 5):
        batch = [entry(key, number, chance.choice(list(Verdict)[2:])) for key in mine[start : start + 5]]
        told += cache.put(batch).values()
        told += cache.get(chance.sample(order, 5)).values()
    cache.close()
    out.write_bytes(pickle.dumps(told))


def put_for_ever(cache: VerdictCache, life: int, size: int, acknowledged: Path) -> None:
    """Batch after batch, each noted once the cache has taken it; ends when it is killed."""
    note = os.open(acknowledged, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for number in range(1_000_000):
        cache.put([entry(key, life) for key in batch_keys(life, number, size)])
        os.write(note, f"{number}\n".encode())


def batch_keys(life: int, number: int, size: int) -> Iterator[str]:
    return (f"life{life}.batch{number}.{index}" for index in range(size))


def fork_while_writing(cache: VerdictCache, children: int, out: Path) -> None:
    """Forks again and again while a thread writes through the same cache; each child reads and writes through it."""
    stop, wrong = threading.Event(), list[str]()

    def write() -> None:
        for number in itertools.count():
            if stop.wait(0.003):
                return
            if cache.put([entry(f"thread{number}")]) != {f"thread{number}": entry(f"thread{number}")}:
                wrong.append(f"thread{number}")

    writer = threading.Thread(target=write)
    writer.start()
    cache.put([entry("before")])
    for number in range(children):
        child = os.fork()
        if not child:
            signal.alarm(20)  # one that waits for ever is killed
            known = cache.get(["before"]) == {"before": entry("before")}
            mine = {f"child{number}": entry(f"child{number}")}
            os._exit(0 if known and cache.put(list(mine.values())) == cache.get(list(mine)) == mine else 1)
        if os.waitpid(child, 0)[1]:
            wrong.append(f"child{number}")
    stop.set()
    writer.join()
    out.write_text(f"failed: {wrong}" if wrong else "all children did their work")
