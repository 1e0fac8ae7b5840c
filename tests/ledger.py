"""What a run that is killed again and again has done, told by itself: one book that no start ever cuts back."""

from __future__ import annotations

import hashlib
import json
import os
from collections import defaultdict
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from fgvr.checkpoints.format import checkpoints_in, read_checkpoint
from fgvr.checkpoints.sharded import own_rows

Phase = Literal["starting", "scoring", "sampling", "updating", "saving", "validating", "between", "ending"]
BOOK, PHASE = "ledger.jsonl", "phase"


class Ledger(Callback):
    """Adds a line for each training batch to `BOOK`, in one write, and has the phase the run is in stand in `PHASE`.

    Of several processes the first one does. A line holds the process, epoch, batch, optimiser steps, uids, seed,
    rewards, and hashes of completions and weights.
    """

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        folder = Path(trainer.default_root_dir)
        folder.mkdir(parents=True, exist_ok=True)
        self._book = os.open(folder / BOOK, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._phase = os.open(folder / PHASE, os.O_WRONLY | os.O_CREAT)
        self._enter("starting")

    def on_train_batch_start(self, *_: Any) -> None:
        self._enter("sampling")

    def on_before_backward(self, *_: Any) -> None:
        self._enter("updating")

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        rollouts = getattr(pl_module, "last_rollouts", None)
        groups = rollouts.groups if rollouts is not None else []
        said = [completion.text for group in groups for completion in group.rollout.completions]
        row = {
            "process": os.getpid(),
            "epoch": batch.record.epoch,
            "batch": batch.record.step,
            "step": trainer.global_step,
            "uids": list(batch.record.uids),
            "seed": torch.initial_seed(),
            "rewards": [repr(group.rewards.tolist()) for group in groups],
            "completions": hashlib.sha256(json.dumps(said).encode()).hexdigest(),
            "weights": _digest(pl_module),
        }
        if trainer.is_global_zero:
            os.write(self._book, json.dumps(row).encode() + b"\n")

    def on_save_checkpoint(self, *_: Any) -> None:
        self._enter("saving")

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._enter("validating" if trainer.state.fn == "fit" and not trainer.sanity_checking else "scoring")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._enter("between")

    def on_train_end(self, *_: Any) -> None:
        self._enter("ending")

    def _enter(self, phase: Phase) -> None:
        os.pwrite(self._phase, phase.ljust(10).encode(), 0)


def phase_of(run: Path) -> str:
    """Where the run was when its process ended."""
    file = run / PHASE
    return file.read_text().strip() if file.exists() else "starting"


def forget_phase(run: Path) -> None:
    """So that the next start is not taken to be where the last one ended."""
    (run / PHASE).unlink(missing_ok=True)


def book_of(run: Path) -> list[dict[str, Any]]:
    """The lines of all starts; one that was cut off in its writing is nobody's."""
    file = run / BOOK
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def assert_same_story(run: Path, whole: Path) -> int:
    """Whatever was done again was done alike, and nothing else was; returns how many batches were done again.

    Every batch of the run that nobody disturbed is there, with its samples, seed, rewards, completions and weights, and
    the last checkpoint holds the same bits.
    """
    told, expected = _by_batch(run), _by_batch(whole)
    assert told.keys() == expected.keys()
    for batch, rows in told.items():
        assert {json.dumps(row) for row in rows} == {json.dumps(expected[batch][0])}, batch
    assert all(len(rows) == 1 for rows in expected.values())
    logs = [{file.name: file.read_bytes() for file in one.glob("*.jsonl") if file.name != BOOK} for one in (run, whole)]
    assert logs[0] == logs[1]
    ours, theirs = (read_checkpoint(checkpoints_in(one / "checkpoints")[-1]) for one in (run, whole))
    assert ours["global_step"] == theirs["global_step"]
    for name, weight in theirs["state_dict"].items():
        assert torch.equal(ours["state_dict"][name], weight), name
    return sum(len(rows) - 1 for rows in told.values())


def _by_batch(run: Path) -> dict[tuple[int, int], list[dict[str, Any]]]:
    found: dict[tuple[int, int], list[dict[str, Any]]] = defaultdict(list)
    for row in book_of(run):
        del row["process"]
        found[row["epoch"], row["batch"]].append(row)
    return dict(found)


def _digest(module: LightningModule) -> str:
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(own_rows(value).cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
