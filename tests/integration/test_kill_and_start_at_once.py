"""`kill -9` of a run's own process, then the same command at once: what the run leaves behind is in nobody's way."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

import pytest
from rl_run import ends, grpo_config, sft_config, start
from warm_start import Started

MANY = [pytest.mark.slow, pytest.mark.timeout(1500)]


def trains(samples: Path, since: int) -> bool:
    return samples.exists() and samples.stat().st_mtime_ns > since


def started_and_killed(config: Path, run: Path, workers: int, delay: float) -> Started:
    """Kills the run alone, not its workers, some time after it has begun to train, as it must."""
    samples = run / "samples.jsonl"
    since = samples.stat().st_mtime_ns if samples.exists() else 0
    process = start(config, run, "--data.init_args.workers", str(workers), "--trainer.max_steps", "100000")
    deadline = time.monotonic() + 120
    while not trains(samples, since) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(delay)
    process.kill()
    assert process.wait() == -signal.SIGKILL, process.communicate()[0]
    return process


@pytest.mark.parametrize(
    ("method", "workers", "times"),
    [
        ("sft", 4, 2),
        *(pytest.param(method, workers, 6, marks=MANY) for method in ("sft", "rl") for workers in (1, 4)),
    ],
)
def test_a_killed_run_is_in_nobodys_way(tmp_path: Path, method: str, workers: int, times: int) -> None:
    config = sft_config(tmp_path)
    if method == "rl":
        ends(start(config, tmp_path / "sft", "--trainer.max_steps", "4"))
        config = grpo_config(tmp_path, "rl", max_start_failures=1.0)  # what is tried here is not how well it learns
    dice = random.Random(workers)
    killed = [started_and_killed(config, tmp_path / "run", workers, dice.random() / 2) for _ in range(times)]
    for process in killed:
        process.communicate(timeout=10)  # comes back when the last that it has started has ended
