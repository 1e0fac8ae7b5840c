"""A toy run of which one process fails at a chosen place."""

from __future__ import annotations

import errno
import time
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch import Callback, LightningModule, Trainer
from toy_run import ToyData, ToyLoader, ToyModel

from fgvr.errors import UserError

ERRORS = {
    "users": UserError("the eel must be dry, but it is wet: dry it"),
    "memory": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    "bug": KeyError("eel"),
    "disk": OSError(errno.ENOSPC, "No space left on device", "/runs/eel"),
}


def fail(kind: str, rank: int = 1) -> None:
    if dist.get_rank() == rank:
        raise ERRORS[kind]


class FailingModel(ToyModel):
    """Fails in training, in validation or while it is made."""

    def __init__(self, place: str = "", kind: str = "bug", **options: Any) -> None:
        super().__init__(**options)
        self.place, self.kind = place, kind

    def configure_model(self) -> None:
        if self.place == "loading":
            fail(self.kind)

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        if self.place == "training" and batch_idx == 2:
            fail(self.kind)
        return super().training_step(batch, batch_idx)

    def validation_step(self, batch: torch.Tensor, batch_idx: int, dataloader_idx: int = 0) -> None:
        if self.place == "validation":
            fail(self.kind)
        super().validation_step(batch, batch_idx, dataloader_idx)

    def on_validation_epoch_end(self) -> None:
        self.trainer.strategy.barrier()  # as the figures of all are brought together


class FailingLoader(ToyLoader):
    def __iter__(self) -> Iterator[torch.Tensor]:
        for batch in super().__iter__():
            if batch[1] == 2:
                fail("bug")
            yield batch


class FailingData(ToyData):
    """Fails when its third batch is read."""

    def train_dataloader(self) -> ToyLoader:
        self.loader = FailingLoader(self.batches)
        return self.loader


class FailingCallback(Callback):
    """Fails before a batch is trained on, where rollouts are sampled, when a checkpoint is saved or at the end."""

    def __init__(self, kind: str, place: str = "batch", rank: int = 1) -> None:
        self.kind, self.place, self.rank = kind, place, rank

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if self.place == "batch" and batch_idx == 2:
            fail(self.kind, self.rank)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if self.place == "saving":
            fail(self.kind, self.rank)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.place == "end":
            fail(self.kind, self.rank)


class Stuck(Callback):
    """A process that has failed and does not come to its end."""

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        if trainer.global_rank == 1:
            time.sleep(120)
