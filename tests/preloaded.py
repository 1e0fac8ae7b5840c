"""Processes of tests, forked from a server that has imported what they need, as importing takes most of their time."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from multiprocessing.context import ForkServerContext
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.strategies import DDPStrategy
from torch.multiprocessing.spawn import start_processes

IMPORTED = [
    "fgvr.modules", "fgvr.callbacks", "fgvr.datamodules", "fgvr.strategies", "fgvr.models.tiny_qwen", "peft",
    "transformers.models.qwen2_5_vl.modeling_qwen2_5_vl", "fgvr.judges.caches.redis", "fgvr.judges.caches.sqlite",
]  # fmt: skip


def processes() -> ForkServerContext:
    """There is one server for all that a process starts: they have the environment of its beginning."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(IMPORTED)
    return context


def run_ranks(work: Callable[..., None], given: tuple[Any, ...], ranks: int) -> None:
    """Calls `work(rank, *given)` in so many processes, and raises what one of them raises."""
    processes()
    start_processes(work, given, nprocs=ranks, start_method="forkserver")


class _Ranks(DDPStrategy):
    """Its processes are given weights in shared memory, of which Lightning makes copies for "spawn" alone."""

    def setup(self, trainer: Trainer) -> None:
        assert self.lightning_module is not None
        for own in (*self.lightning_module.parameters(), *self.lightning_module.buffers()):
            own.data = own.data.clone()
        super().setup(trainer)


def ranks_strategy() -> DDPStrategy:
    """Of a Trainer that starts its other processes itself."""
    processes()
    return _Ranks(start_method="forkserver", process_group_backend="gloo")
