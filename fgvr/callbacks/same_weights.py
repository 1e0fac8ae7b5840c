"""Processes that should hold the same weights are asked whether they do: memory may lose a bit without a word."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from fgvr.callbacks.steps import passes
from fgvr.checkpoints.sharded import own_rows
from fgvr.errors import UserError
from fgvr.strategies import FSDP2Strategy


class SameWeights(Callback):
    """Compares the weights of all replicas after `every` optimiser steps, and before a checkpoint is made of them.

    Under DDP each process is a replica, under fsdp2 those along the replicate axis hold the same rows. Each sums up the
    bits of every weight, so that one bit is enough. Raises UserError, in all replicas, with the process that differs
    from most others and its first weight that does.
    """

    def __init__(self, every: int = 100) -> None:
        self.every = every
        self._step = self._same_at = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._step = self._same_at = trainer.global_step

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        before, self._step = self._step, trainer.global_step
        if passes(self.every, before, self._step):
            self.compare(trainer, pl_module)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self.compare(trainer, pl_module)

    def compare(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A collective call."""
        replicas = _replicas(trainer)
        if replicas is None:
            return
        names, weights = zip(*pl_module.named_parameters(), strict=True)
        sums = sums_of_all(weights, replicas)
        if any(row != sums[0] for row in sums):
            number, weight = first_that_differs(sums)
            process = dist.get_global_rank(replicas, number)
            raise UserError(
                f"processes must hold the same weights, but those of process {process} differ from others' at step "
                f"{trainer.global_step}, from {names[weight]} on, and were the same at step {self._same_at}"
                f"{_no_majority(sums)}: have its machine's memory looked at, start again without it, and the run goes "
                "on from its last checkpoint, which was compared before it was made"
            )
        self._same_at = trainer.global_step


def sums_of_all(weights: Sequence[Tensor], replicas: dist.ProcessGroup) -> list[list[int]]:
    """The `sum_of_bits` of each weight, as a row for each of the replicas. A collective call."""
    own = torch.stack([sum_of_bits(weight) for weight in weights])
    every = [torch.empty_like(own) for _ in range(dist.get_world_size(replicas))]
    dist.all_gather(every, own, replicas)
    return torch.stack(every).tolist()


def sum_of_bits(weight: Tensor) -> Tensor:
    """A number [], int64, that is another when one bit of this process's part of a weight is: no copy is made."""
    flat = own_rows(weight).contiguous().view(-1).view(torch.uint8)
    if flat.storage_offset() % 8:
        flat = flat.clone()
    words = flat.numel() // 8 * 8
    return flat[:words].view(torch.int64).sum() + flat[words:].sum()


def first_that_differs(sums: list[list[int]]) -> tuple[int, int]:
    """The first of the replicas that is unlike most of them, and the number of its first weight that is."""
    usual = list(Counter(map(tuple, sums)).most_common(1)[0][0])
    number = next(number for number, row in enumerate(sums) if row != usual)
    return number, next(at for at, (own, other) in enumerate(zip(sums[number], usual, strict=True)) if own != other)


def _no_majority(sums: list[list[int]]) -> str:
    (_, most), *rest = Counter(map(tuple, sums)).most_common()
    return " (it or another one is wrong: as many hold the one as the other)" if most == rest[0][1] else ""


def _replicas(trainer: Trainer) -> dist.ProcessGroup | None:
    """The processes whose weights should be this one's; None where there is no other."""
    strategy = trainer.strategy
    if trainer.world_size == 1:
        return None
    if not isinstance(strategy, FSDP2Strategy):
        return dist.group.WORLD
    names = strategy.device_mesh.mesh_dim_names or ()
    return strategy.device_mesh.get_group("replicate") if "replicate" in names else None
