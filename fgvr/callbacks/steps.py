"""Optimiser steps as the clock of a run: a batch may make none, one or several of them."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.fabric.utilities.apply_func import convert_tensors_to_scalars
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks.early_stopping import EarlyStopping, EarlyStoppingReason
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.trainer.states import TrainerFn
from torch.utils.tensorboard import SummaryWriter

from fgvr.checkpoints.format import SUFFIX, read_manifest
from fgvr.metrics.drawn_together import tensorboard_layout

EVENTS = "events.out.tfevents"
log = logging.getLogger(__name__)


class StepLogger(TensorBoardLogger):
    """Draws every figure over the optimiser steps done when it was logged; Lightning would count batches.

    `with_step_loggers` tells it its trainer. `done` steps lie behind a run that goes on from a checkpoint; what an
    earlier process drew after them is dropped, and with None all that it drew. A figure is drawn once a step, however
    often Lightning says it. Figures that belong together are drawn together under "Custom scalars".
    """

    def __init__(self, folder: Path, done: int | None = None) -> None:
        super().__init__(folder, name="tensorboard", version="", purge_step=0 if done is None else done + 1)
        self.done = done or 0
        self.trainer: Trainer | None = None
        self._drawn: dict[str, int] = {}

    @property
    @rank_zero_experiment
    def experiment(self) -> SummaryWriter:
        if self._experiment is None:
            put_before_now(Path(self.log_dir))
        return super().experiment

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        if self.trainer is None:
            raise ValueError("a StepLogger must know whose steps it counts: call with_step_loggers(trainer) first")
        # until the training begins, a trainer does not know of the checkpoint's steps
        at = max(self.done, self.trainer.global_step)
        fresh = {name: value for name, value in metrics.items() if self._drawn.get(name) != at}
        begins = not self._drawn
        self._drawn |= dict.fromkeys(fresh, at)
        with _naming(self.log_dir):
            if begins:
                self.experiment.add_custom_scalars(tensorboard_layout())
            super().log_metrics(fresh, at)

    @rank_zero_only
    def save(self) -> None:
        with _naming(self.log_dir):
            super().save()

    @rank_zero_only
    def finalize(self, status: str) -> None:
        with _naming(self.log_dir):
            super().finalize(status)


def put_before_now(folder: Path) -> None:
    """Gives event files whose names are not of the past an earlier time, so that a new one is read after them all.

    TensorBoard reads them in the order of their names, which hold the time of day at which they were begun; where a
    clock was put back it would take the curve of the latest start for the first.
    """
    bound = int(time.time())
    for path in sorted(folder.glob(f"{EVENTS}.*"), reverse=True):
        begun, _, rest = path.name.removeprefix(f"{EVENTS}.").partition(".")
        if not begun.isdecimal():
            continue
        bound = min(int(begun), bound - 1)
        if bound != int(begun):
            path.rename(path.with_name(f"{EVENTS}.{bound:010d}.{rest}"))
            log.warning("%s was begun later than now, by its name; it is %s now", path, f"{EVENTS}.{bound:010d}.{rest}")


@contextmanager
def _naming(folder: str) -> Iterator[None]:
    """A disk that is full says so in the writer's own thread, and not of what; Lightning blames the figure."""
    try:
        yield
    except (OSError, ValueError) as error:
        of_disk = error if isinstance(error, OSError) else error.__cause__
        if not isinstance(of_disk, OSError):
            raise
        of_disk.filename = of_disk.filename or folder.rstrip("/")
        raise of_disk from None


def draw_step(trainer: Trainer) -> None:
    """Draws what a training batch has logged, and puts it on the disk, before its checkpoint says that it is done.

    Lightning draws it after the callbacks: who is killed in between would go on behind a step that nobody has drawn.
    """
    connector = trainer._logger_connector
    own = [logger for logger in trainer.loggers if isinstance(logger, StepLogger)]
    if not own or not trainer.training or not connector.should_update_logs:
        return
    figures = convert_tensors_to_scalars(connector.metrics["log"])
    figures.setdefault("epoch", trainer.current_epoch)
    for logger in own:
        logger.log_metrics(figures)
        logger.save()


def with_step_loggers(trainer: Trainer) -> Trainer:
    """The trainer itself, once each `StepLogger` that it has counts its steps."""
    for logger in trainer.loggers:
        if isinstance(logger, StepLogger):
            logger.trainer = trainer
    return trainer


def steps_behind(trainer: Trainer) -> int:
    """The optimiser steps that the trainer's weights have behind them; of a checkpoint it evaluates, Lightning has 0.

    Those of a checkpoint that is not fgvr's own are unknown and count as 0.
    """
    path = Path(trainer.ckpt_path) if trainer.ckpt_path is not None else None
    if trainer.global_step or path is None or not (path.suffix == SUFFIX and path.is_dir()):
        return trainer.global_step
    return read_manifest(path).step


def passes(every: int, before: int, now: int) -> bool:
    """Whether a multiple of `every` lies in (before, now]: one batch may go past it without standing on it."""
    return now // every > before // every


def ends_with(trainer: Trainer) -> bool:
    """Whether the batch that was just trained on is the run's last: `max_steps` is reached, or all epochs are over."""
    loop, epochs = trainer.fit_loop, trainer.max_epochs
    last_epoch = epochs is not None and 0 <= epochs <= trainer.current_epoch + 1
    by_epochs = last_epoch and loop.epoch_loop._num_ready_batches_reached()
    return 0 <= trainer.max_steps <= trainer.global_step or by_epochs


def is_finished(trainer: Trainer) -> bool:
    """Whether a training that returned has made its last step; one that a callback cut short has not.

    The epoch that such a one was in counts for Lightning as over.
    """
    loop, epochs = trainer.fit_loop, trainer.max_epochs
    by_epochs = epochs is not None and 0 <= epochs <= trainer.current_epoch
    return 0 <= trainer.max_steps <= trainer.global_step or (by_epochs and loop.epoch_loop._num_ready_batches_reached())


def stopped_early(trainer: Trainer) -> bool:
    """Whether early stopping has called the latest step good enough to be the last."""
    callbacks: list[Callback] = trainer.callbacks  # pyright: ignore[reportAttributeAccessIssue]
    stoppers = [one for one in callbacks if isinstance(one, EarlyStopping)]
    return trainer.should_stop and any(one.stopping_reason != EarlyStoppingReason.NOT_STOPPED for one in stoppers)


def epochs_begun(trainer: Trainer) -> int:
    """Epochs begun so far, which at the end of a run is the same however often it was resumed."""
    return max(trainer.current_epoch, trainer.fit_loop.epoch_progress.current.ready)


def steps_of_weights(trainer: Trainer) -> int:
    """Optimiser steps that made the weights in use; a checkpoint that is only evaluated brings its own number."""
    if trainer.state.fn != TrainerFn.FITTING and trainer.ckpt_path is not None:
        return read_manifest(Path(trainer.ckpt_path)).step
    return trainer.global_step
