"""A run that is asked to end, by a signal, ends where it can go on from, and all of its processes at the same place."""

from __future__ import annotations

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher
from lightning.pytorch.trainer.states import TrainerFn

from fgvr.errors import Unfinished
from fgvr.signals import Stop, asked, hold, let_go, note


class Preemption(Callback):
    """Says which signals wait while a training is under way, for `RunCheckpoints`, which looks for them.

    Between its batches all of them do. A validation, after which a step can be saved, is broken off by SIGTERM alone,
    and the last checkpoint stands. It is to be among the first of the callbacks.
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        hold(Stop.TERM)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if _trains(trainer):
            hold(Stop.CTRL_C)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if _trains(trainer):
            hold(Stop.TERM)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage == TrainerFn.FITTING:
            hold(Stop.NONE)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        let_go()
        if isinstance(exception, Unfinished):
            _let_children_end(trainer)


def agreed(trainer: Trainer) -> Stop:
    """The most urgent of what the run's processes were asked for. A collective call."""
    if trainer.world_size == 1:
        return asked()
    own = torch.tensor(int(asked()), device=trainer.strategy.root_device)
    stop = Stop(int(trainer.strategy.reduce(own, reduce_op="max")))
    note(stop)
    return stop


def without_handlers(trainer: Trainer) -> Trainer:
    """The trainer itself, without the handlers of Lightning, which broadcast and save where they interrupt."""
    trainer._signal_connector.register_signal_handlers = _nothing
    return trainer


def _let_children_end(trainer: Trainer) -> None:
    """Lightning kills the process that has started the others when one of these ends with a code, as they do now."""
    launcher = trainer.strategy.launcher
    if isinstance(launcher, _SubprocessScriptLauncher):
        launcher.procs.clear()


def _nothing() -> None:
    return


def _trains(trainer: Trainer) -> bool:
    return trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking
