"""All processes of a run begin at the same place."""

from __future__ import annotations

from lightning.pytorch import Callback, LightningModule, Trainer

from fgvr.errors import UserError
from fgvr.runs.folder import Start


class SameStart(Callback):
    """Raises UserError in every process of a run unless all of them found the same place to start from."""

    def __init__(self, start: Start) -> None:
        self.start = start

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        own = str(self.start)
        first = trainer.strategy.broadcast(own)
        if not trainer.strategy.reduce_boolean_decision(own == first):
            other = f"process {trainer.global_rank} {own}" if own != first else "another one does not"
            raise UserError(
                f"All processes of a run must start alike, but process 0 starts {first} and {other}: "
                "see that every machine has the same run.dir in view, then start again."
            )
