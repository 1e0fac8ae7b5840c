"""Callbacks that send their own process, or all of its group, a signal at a chosen moment of a run."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch import Callback, LightningModule, Trainer

from fgvr.rollouts import InProcess

Moment = Literal["sanity", "start", "batch", "epoch end", "validation", "final", "sampling"]


class Send(Callback):
    """Sends the signals `names` once, at a moment of the first batch after `step`; a mark in the run's folder says so.

    "sanity": in the first look at the validation data. "start": as the training begins. "batch": within a batch.
    "epoch end": as an epoch ends at `step` or later. "validation": in one within the training, at `step` or later.
    "final": when the final weights are evaluated. "sampling": when a group of the batch is sampled. Only of process
    `rank`, where that is given.
    """

    def __init__(self, moment: Moment, step: int = 0, names: str = "SIGUSR1", rank: int | None = None) -> None:
        self.moment, self.step, self.names, self.rank = moment, step, names, rank

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        callbacks: list[Any] = trainer.callbacks  # pyright: ignore[reportAttributeAccessIssue]
        for one in callbacks if self.moment == "sampling" else ():
            if isinstance(getattr(one, "engine", None), InProcess):
                one.engine = SendingEngine(self, trainer)

    def on_sanity_check_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._send_if("sanity", trainer)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._send_if("start", trainer)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self._send_if("batch", trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._send_if("epoch end", trainer)

    def on_validation_batch_start(self, trainer: Trainer, *_: Any) -> None:
        if not trainer.sanity_checking:
            self._send_if("validation" if trainer.state.fn == "fit" else "final", trainer)

    def _send_if(self, moment: str, trainer: Trainer) -> None:
        if moment == self.moment and trainer.global_step >= self.step and self.rank in (None, trainer.global_rank):
            self.send(trainer)

    def send(self, trainer: Trainer) -> None:
        mark = Path(trainer.default_root_dir) / f"sent-{self.moment}-{self.step}-{trainer.global_rank}".replace(
            " ", "-"
        )
        if not mark.exists():
            mark.touch()
            for name in self.names.split():
                os.kill(os.getpid(), signal.Signals[name])


class SendingEngine(InProcess):
    """Sends when the first group of a batch is there, one of two: the others would follow."""

    def __init__(self, sender: Send, trainer: Trainer) -> None:
        super().__init__(max_rows=4)
        self.sender, self.trainer = sender, trainer

    def stream(self, *asked: Any) -> Any:
        for group in super().stream(*asked):
            self.sender._send_if("sampling", self.trainer)
            yield group
