"""The random numbers of a training step, as a function of the step alone."""

from __future__ import annotations

import hashlib
import random
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer


class StepSeeds(Callback):
    """Seeds torch, numpy and random before each training step from (seed, epoch, batch, rank).

    Dropout and sampling in a step then do not depend on what ran before it (a validation, a restart), so a resumed
    run repeats an uninterrupted one.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        place = f"{self.seed}/{trainer.current_epoch}/{batch_idx}/{trainer.global_rank}"
        number = int.from_bytes(hashlib.sha256(place.encode()).digest()[:8], "big") >> 1
        torch.manual_seed(number)
        random.seed(number)
        np.random.seed(number % 2**32)


def seed_of_run(trainer: Trainer) -> int:
    """The seed that its training steps belong to; 0 where nothing sets one."""
    callbacks: list[Callback] = trainer.callbacks  # pyright: ignore[reportAttributeAccessIssue]
    return next((one.seed for one in callbacks if isinstance(one, StepSeeds)), 0)
