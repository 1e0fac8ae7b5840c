"""What befalls one process of a toy run at a chosen moment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from faults import FAULTS
from lightning.pytorch import Callback, LightningModule, Trainer

from fgvr.watchdog.beats import SAMPLING, SCORING, beat


class Befalls(Callback):
    """One fault of one process, before the third batch, as a phase has begun, in a validation, or while it saves.

    Once in a run: a mark in its folder says that it has been.
    """

    def __init__(self, fault: str, rank: int = 0, phase: str = "updating") -> None:
        self.fault, self.rank, self.phase = fault, rank, phase

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if batch_idx == 2 and trainer.global_rank == self.rank:
            if self.phase in (SAMPLING, SCORING):
                beat(self.phase)
            if self.phase not in ("validating", "saving"):
                self._befall(trainer)

    def on_validation_batch_start(self, trainer: Trainer, *_: Any) -> None:
        if self.phase == "validating" and trainer.global_rank == self.rank and trainer.global_step:
            self._befall(trainer)

    def on_save_checkpoint(self, trainer: Trainer, *_: Any) -> None:
        if self.phase == "saving" and trainer.global_rank == self.rank:
            beat("saving a checkpoint")
            self._befall(trainer)

    def _befall(self, trainer: Trainer) -> None:
        mark = Path(trainer.default_root_dir) / "befell"
        if not mark.exists():
            mark.touch()
            FAULTS[self.fault]()


class FlippedBit(Callback):
    """In one process one bit of a weight's exponent becomes another, as step `step` is made."""

    def __init__(self, step: int = 3, rank: int = 1) -> None:
        self.step, self.rank = step, rank

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        if trainer.global_step == self.step and trainer.global_rank == self.rank:
            weight = dict(pl_module.named_parameters())["net.2.weight"]
            weight.data.view(-1).view(torch.int32)[1] ^= 1 << 25
