"""The moments of a run at which its watchdog is told that it goes on, and with what."""

from __future__ import annotations

from typing import Any

import torch.distributed as dist
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.strategies import ParallelStrategy
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher

from fgvr.ranks import introduce_watchdogs
from fgvr.watchdog.beats import HEARD, LOADING, SAVING, SLOW, UPDATING, VALIDATING, WAITING, beat


class Beats(Callback):
    """Gives a sign of life at each part of a run; parts that are long give more of them between these.

    It is to be among the first of the callbacks.
    """

    def __init__(self) -> None:
        self._met = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        beat(LOADING, seconds=SLOW)
        if self._met or trainer.world_size == 1 or not dist.is_initialized():
            return
        self._met = True
        assert isinstance(trainer.strategy, ParallelStrategy)
        assert trainer.strategy.cluster_environment is not None
        if introduce_watchdogs(trainer.strategy.cluster_environment.main_address):
            _leave_processes_to_watchdogs(trainer)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        _keep_hearing(trainer)
        beat(WAITING, trainer.global_step)

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        beat(UPDATING, trainer.global_step)

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        beat(WAITING, trainer.global_step)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        _keep_hearing(trainer)
        beat(VALIDATING, trainer.global_step)

    def on_validation_batch_start(self, trainer: Trainer, *_: Any, **__: Any) -> None:
        beat(VALIDATING)

    on_validation_batch_end = on_validation_epoch_end = on_validation_batch_start
    on_test_start = on_predict_start = on_validation_start
    on_test_batch_start = on_test_batch_end = on_test_epoch_end = on_validation_batch_start
    on_predict_batch_start = on_predict_batch_end = on_predict_epoch_end = on_validation_batch_start

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        beat(WAITING)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        beat(SAVING, seconds=SLOW)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        beat(SAVING, seconds=SLOW)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        beat()


def _keep_hearing(trainer: Trainer) -> None:
    """Lightning puts back at the end what it knows handlers of, which are Python's alone."""
    for number in HEARD:
        trainer._signal_connector._original_handlers.pop(number, None)  # pyright: ignore[reportCallIssue, reportArgumentType]


def _leave_processes_to_watchdogs(trainer: Trainer) -> None:
    """Lightning's own observer would kill process 0 as another ends, without a word and with a code of its own."""
    launcher = trainer.strategy.launcher
    if isinstance(launcher, _SubprocessScriptLauncher):
        observed, launcher.procs = launcher.procs, list(launcher.procs)
        observed.clear()
