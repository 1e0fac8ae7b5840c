"""Small real runs whose weights several processes share, started as a launcher starts them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from shutil import copytree, rmtree
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from ports import free_port
from rl_run import ends, json_rows, start
from torch import Tensor
from warm_start import Started

from fgvr.checkpoints.format import checkpoints_in, read_manifest
from fgvr.models.sharding import whole

LOADED, NOTED = "loaded.ckpt", "gradients.pt"


class SaveAgain(Callback):
    """Saves what a run goes on with, before it does, where `LOADED` says."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        trainer.save_checkpoint(Path(trainer.default_root_dir) / LOADED, weights_only=False)


class NoteGradients(Callback):
    """Process 0 leaves the whole gradient of each step, as it is stepped with, and each loss, where `NOTED` says."""

    def __init__(self) -> None:
        self.gradients: list[dict[str, Tensor]] = []
        self.losses: list[Tensor] = []

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: Any, optimizer: Any) -> None:
        named = [(name, x.grad) for name, x in pl_module.trained_policy.trainable() if x.grad is not None]
        self.gradients.append({name: whole(gradient).clone() for name, gradient in named})

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        self.losses.append(trainer.callback_metrics["loss"].clone())

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero:
            noted = {"gradients": self.gradients, "losses": self.losses}
            torch.save(noted, Path(trainer.default_root_dir) / NOTED)


def start_ranks(config: Path, run: Path, world: int, *options: str) -> list[Started]:
    """One run in `world` processes, each a group of its own."""
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    shared = address | {"WORLD_SIZE": str(world), "TORCHELASTIC_RUN_ID": "x"}
    line = (f"--trainer.devices={world}", *options)
    return [start(config, run, *line, RANK=str(rank), LOCAL_RANK=str(rank), **shared) for rank in range(world)]


def end_all(processes: Sequence[Started], code: int = 0) -> list[str]:
    """What each said until it ended, as all must."""
    return [ends(process, code) for process in processes]


def kill_all_after(processes: Sequence[Started], log: Path, batches: int, delay: float) -> None:
    """Kills every process of the run, and what these have started, `delay` seconds after `batches` were logged."""
    deadline = time.monotonic() + 200
    while processes[0].poll() is None and len(json_rows(log)) < batches and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(delay)
    for process in processes:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    for process in processes:
        process.communicate()


def as_at(run: Path, step: int, copy: Path) -> Path:
    """A copy of a run as it was when it had saved that step."""
    copytree(run, copy)
    for path in checkpoints_in(copy / "checkpoints"):
        if read_manifest(path).step > step:
            rmtree(path)
    (copy / "final_metrics.json").unlink(missing_ok=True)
    return copy
