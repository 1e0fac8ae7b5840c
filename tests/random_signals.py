"""Small real trainings of two processes, told at random moments to end, and gone on with until they are complete."""

from __future__ import annotations

import os
import random
import signal
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml
from ledger import assert_same_story, book_of
from lightning.pytorch import Callback
from ports import free_port
from random_kills import begin, end
from rl_run import grpo_config, learn_sft

from fgvr.checkpoints.format import checkpoints_in, verify_checkpoint
from fgvr.errors import AGAIN

WORLD = 2
CASES: dict[str, tuple[str, ...]] = {
    "unequal ranks": ("--trainer.strategy=ddp", "--trainer.callbacks+=random_signals.SlowSecond"),
    "loader workers": ("--trainer.strategy=ddp", "--data.init_args.workers=2"),
    "fsdp2": ("--trainer.strategy=fsdp2", "--trainer.callbacks+=random_signals.SlowSecond"),
}


class SlowSecond(Callback):
    """Has the second process lag behind the first, which then waits in the middle of a pass."""

    def on_train_batch_start(self, trainer: Any, *_: Any) -> None:
        time.sleep(0.1 * trainer.global_rank)


def begin_ranks(config: Path, run: Path, *options: str) -> list[int]:
    shared = {
        "WORLD_SIZE": str(WORLD),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "TORCHELASTIC_RUN_ID": "x",
    }
    ranks = [{"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(WORLD)]
    return [begin(config, run, f"--trainer.devices={WORLD}", *options, **shared, **rank) for rank in ranks]


def tell_to_end(children: list[int], run: Path, wait: float) -> set[int]:
    """Sends SIGUSR1 to every process of every rank, `wait` seconds after its first batch; the codes they end with."""
    before, late = len(book_of(run)), time.monotonic() + 200
    while len(book_of(run)) == before and time.monotonic() < late:
        time.sleep(0.02)
    time.sleep(wait)
    for child in children:
        with suppress(ProcessLookupError):
            os.killpg(child, signal.SIGUSR1)
    return {os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children}


def saved(run: Path) -> int:
    """The newest step of a checkpoint; every one that bears a name must be whole."""
    return max((verify_checkpoint(path).step for path in checkpoints_in(run / "checkpoints")), default=0)


def signal_runs(signals: int = 20, cases: list[str] | None = None, seed: int = 0) -> None:
    """Tells runs to end and compares what becomes of them.

    Args:
        signals: how many in each case.
        cases: of "unequal ranks" (one process lags), "loader workers" and "fsdp2"; by default all.
        seed: of the moments.
    """
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        learn_sft(folder)
        for name in cases or CASES:
            _signal(folder, name, CASES[name], signals, random.Random(f"{seed}/{name}"))
            print(f"{name}: {signals} of {signals} signals ended in a whole checkpoint and an exact resume", flush=True)


def _signal(folder: Path, name: str, options: tuple[str, ...], signals: int, dice: random.Random) -> None:
    config = grpo_config(folder, name.replace(" ", "-"), {"class_path": "ledger.Ledger"})
    settings = yaml.safe_load(config.read_text())
    settings["trainer"]["max_steps"] = 8 * signals  # a start takes some steps until it is told to end
    settings["run"] |= {"save_every": 10**6, "keep": 2}
    config.write_text(yaml.safe_dump(settings))
    whole, run = folder / f"{name}-whole", folder / f"{name}-told"
    for child in begin_ranks(config, whole, *options):
        end(child, whole)
    for _ in range(signals):
        before = saved(run)
        codes = tell_to_end(begin_ranks(config, run, *options), run, dice.random())
        assert codes == {AGAIN}, (name, codes, run.with_suffix(".log").read_text()[-2000:])
        assert saved(run) > before, (name, before)
    for child in begin_ranks(config, run, *options):
        end(child, run)
    assert assert_same_story(run, whole) >= 0
