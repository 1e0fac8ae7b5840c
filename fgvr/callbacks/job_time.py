"""The time that one job may train, after which the run goes on in the next."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Timer

from fgvr.callbacks.checkpoints import RunCheckpoints
from fgvr.errors import Unfinished


class JobTime(Timer):
    """Ends a job when it has trained for `limit` (as `trainer.max_time`) and its next step to be saved is saved.

    Every job of a run has the whole of it. Where it is the first callback, none before it begins a step that is not
    made. Without `checkpoints` it waits for no save. Raises Unfinished in every process, between two batches.
    """

    def __init__(self, limit: str | timedelta | dict[str, int], checkpoints: RunCheckpoints | None) -> None:
        super().__init__(limit, verbose=False)
        self.checkpoints = checkpoints
        self._over = False

    def on_fit_start(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        """A job makes one step at least."""

    def on_train_batch_end(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        over = (self.time_remaining() or 0.0) <= 0
        self._over = self._over or trainer.strategy.reduce_boolean_decision(over, all=False)
        if self._over and self.checkpoints is not None:
            self.checkpoints.due = True

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if self._over and (self.checkpoints is None or not self.checkpoints.due):
            if self.checkpoints is not None:
                self.checkpoints.finish(trainer)
            raise Unfinished("trainer.max_time")

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """What earlier jobs took is theirs."""
