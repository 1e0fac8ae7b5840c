"""Optimiser steps as the clock of a run: a batch may make none, one or several of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger


class StepLogger(TensorBoardLogger):
    """Draws every figure over the optimiser steps done when it was logged; Lightning would count batches.

    `with_step_loggers` tells it its trainer. `done` steps lie behind a run that goes on from a checkpoint; what an
    earlier process drew after them is dropped, and with None all that it drew. A figure is drawn once a step, however
    often Lightning says it.
    """

    def __init__(self, folder: Path, done: int | None = None) -> None:
        super().__init__(folder, name="tensorboard", version="", purge_step=0 if done is None else done + 1)
        self.done = done or 0
        self.trainer: Trainer | None = None
        self._drawn: dict[str, int] = {}

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        if self.trainer is None:
            raise ValueError("a StepLogger must know whose steps it counts: call with_step_loggers(trainer) first")
        # until the training begins, a trainer does not know of the checkpoint's steps
        at = max(self.done, self.trainer.global_step)
        fresh = {name: value for name, value in metrics.items() if self._drawn.get(name) != at}
        self._drawn |= dict.fromkeys(fresh, at)
        super().log_metrics(fresh, at)


def with_step_loggers(trainer: Trainer) -> Trainer:
    """The trainer itself, once each `StepLogger` that it has counts its steps."""
    for logger in trainer.loggers:
        if isinstance(logger, StepLogger):
            logger.trainer = trainer
    return trainer


def passes(every: int, before: int, now: int) -> bool:
    """Whether a multiple of `every` lies in (before, now]: one batch may go past it without standing on it."""
    return now // every > before // every
