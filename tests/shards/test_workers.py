import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from toy_stream import write_set

from fgvr.shards.workers import say_if_too_many

ROOT = Path(__file__).parents[2]
# Starts two loaders, whose workers then wait for a reader of their large batches, says their numbers, and is killed.
KILLED = """
import multiprocessing, os, sys, time
from pathlib import Path
from fgvr.shards.loading import StepLoader
from fgvr.shards.order import ShuffledOrder
from fgvr.shards.reading import ShardSet
from toy_stream import Numbers
import torch

def collate(items, record):
    return Numbers(torch.zeros(1), ["x" * 1_000_000], record)

sets = [ShardSet(Path(sys.argv[1]), "train", ("seen",))]
order = ShuffledOrder(5, (sets[0].shard_sizes,), (1.0,), window=6)
streams = [StepLoader(sets, lambda example, rng: 0, collate, order, 2, workers=int(sys.argv[2])) for _ in range(2)]
batches = [iter(stream) for stream in streams]
for each in batches:
    next(each)
time.sleep(0.5)
print(*(child.pid for child in multiprocessing.active_children()), flush=True)
os.kill(os.getpid(), 9)
"""


def lives(number: int) -> bool:
    stat = Path(f"/proc/{number}/stat")
    try:
        return stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("workers", [2])
def test_workers_end_when_the_process_that_they_read_for_is_killed(tmp_path: Path, workers: int) -> None:
    folder = write_set(tmp_path / "a", {"train-seen": [20]}, "a")
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    line = [sys.executable, "-W", "ignore", "-c", KILLED, str(folder), str(workers)]
    # they have its stderr open as long as they live
    run = subprocess.run(line, stdout=subprocess.PIPE, text=True, env=environment, timeout=120)
    numbers = [int(number) for number in run.stdout.split()]
    assert run.returncode == -9
    assert len(numbers) == 2 * workers
    deadline = time.monotonic() + 10
    while any(map(lives, numbers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(lives, numbers))


def test_more_workers_than_cores_are_said(caplog: Any) -> None:
    cores = len(os.sched_getaffinity(0))
    say_if_too_many(cores)
    assert not caplog.text
    say_if_too_many(cores + 2)
    assert f"data.workers is {cores + 2}, but there are {cores} cores" in caplog.text
