"""When a checkpoint is saved, which ones stay, and what a resumed run must agree with."""

from __future__ import annotations

import difflib
import logging
import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.trainer.states import TrainerFn

import fgvr
from fgvr.callbacks.judge_validation import JudgeValidation
from fgvr.callbacks.preemption import agreed
from fgvr.callbacks.steps import draw_step, ends_with, is_finished, passes, stopped_early
from fgvr.checkpoints.format import SUFFIX, checkpoints_in, read_manifest
from fgvr.checkpoints.kept import OF_BASE
from fgvr.checkpoints.sharded import own_rows
from fgvr.errors import UserError
from fgvr.modules.base import PolicyModule
from fgvr.ranks import Ranks, of_all_ranks
from fgvr.runs.fingerprint import refuse_changes
from fgvr.runs.folder import RunFolder
from fgvr.signals import Stop
from fgvr.strategies.saving import Background
from fgvr.strategies.sharded_state import refuse_other_savers, writes_checkpoints
from fgvr.whole_files import sealed, write_whole

SPARE = 1 << 20  # bytes of a checkpoint that are no weights
NOT_OF_ANSWERS = ("data/", "train/", "validation_")  # what other figures begin with

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Saved:
    """A save that was begun: at which step, and which was the best one then, with its figure."""

    step: int
    best_step: int | None
    best_value: float | None


class RunCheckpoints(Checkpoint):
    """Saves whenever a multiple of `run.save_every` optimiser steps is reached or passed, at the end, and at the best.

    At a step that ends an epoch, or that validation follows, the save waits for that to be over: a checkpoint taken
    before would make a resumed run skip it. The last step is saved before its validation as well, for whoever stops the
    run there. After a batch without an optimiser step nothing is saved, or what such batches have gathered would be
    lost, so a validation there can make no checkpoint the best. A callback's stop at an epoch's end waits for the next
    step. Keeps the last `run.keep` checkpoints and the best. Raises UserError when
    `run.best` is no figure of the validation, before the training where all of them are known.

    With `run.save_in_background` the training goes on while a checkpoint is written; it has its place, and others are
    removed, at a later step, by the next save or by `finish`, and there a disk that refused it is a UserError too.

    `due` may be set to have the next step saved that can be; `saved_step` is the latest whose save was begun.

    A run whose processes are asked to end, by a signal to one of them, does so by Unfinished once its step is saved, or
    where SIGTERM finds a step that cannot be, at once. `leave_before_batch` saves the step before a batch that is
    broken off.
    """

    def __init__(self, run: RunFolder, config: Mapping[str, Any], fingerprint: Mapping[str, Any]) -> None:
        self.run = run
        self.config = dict(config)
        self.fingerprint = dict(fingerprint)
        self.best_value: float | None = None
        self.best_step: int | None = None
        self.seconds_before = 0.0
        self._began: float | None = None
        self._last_step = 0
        self.saved_step = 0
        self.due = False
        self._stepped = False
        self._stop_waits = False
        self._background = Background() if run.save_in_background else None
        self._unfinished: Saved | None = None
        self._place: dict[str, Any] | None = None  # where the loops stood when the latest step could be saved
        self._goes_back = False

    @property
    def seconds(self) -> float:
        """Seconds spent in training so far, earlier processes of the same run included up to their last checkpoint."""
        return self.seconds_before + (time.monotonic() - self._began if self._began is not None else 0.0)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        refuse_other_savers(trainer.strategy, in_background=self._background is not None)
        self._refuse_unknown_best(trainer, pl_module)
        if isinstance(pl_module, PolicyModule) and OF_BASE not in self.fingerprint:
            self._keep_start(trainer, pl_module)
        if stage != TrainerFn.FITTING:
            return
        describe = getattr(trainer.datamodule, "fingerprint", None)  # pyright: ignore[reportAttributeAccessIssue]
        self.fingerprint["data"] = describe() if callable(describe) else None
        if trainer.ckpt_path is not None:
            # before the weights are read: the data can only be described once it has been prepared
            path = Path(trainer.ckpt_path)
            refuse_changes(read_manifest(path).fingerprint, self.fingerprint, self.run.allow_changed, path)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._began = time.monotonic()
        self._last_step = self.saved_step = trainer.global_step
        if self._background is not None and writes_checkpoints(trainer.strategy):
            self._background.prepare(_room(pl_module))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._finish_if_written(trainer)
        stop = agreed(trainer)
        self._save_if_due(trainer, asked=stop > Stop.NONE)
        self._leave_if_saved(trainer, stop)

    def _save_if_due(self, trainer: Trainer, asked: bool) -> None:
        step = trainer.global_step
        self._stepped, self._place = step != self._last_step, None
        last = ends_with(trainer)
        if not self._stepped and not (last and step != self.saved_step):
            return
        self._last_step, before = step, self._last_step
        # a stop makes Lightning validate at once: what counts here is whether it would have done so without
        stops, trainer.should_stop = trainer.should_stop or self._stop_waits, False
        validates = trainer.fit_loop.epoch_loop._should_check_val_fx(trainer.fit_loop._data_fetcher)  # pyright: ignore[reportArgumentType]
        waits = validates or _between_epochs(trainer)
        self._stop_waits = stops and waits and not validates and not last
        trainer.should_stop = stops and not self._stop_waits
        self.due = self.due or last or stops or asked or passes(self.run.save_every, before, step)
        if not waits:
            self._place = _place_of(trainer)
        if self.due and not waits:
            self._save(trainer)
        elif last and validates:
            self._save(trainer)
            self.due = True  # again, with what the validation tells and Lightning's count of it

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking:
            return
        if self.run.best is not None and self.run.best not in trainer.callback_metrics:
            raise _no_figure(self.run.best, trainer.callback_metrics)
        if trainer.state.fn != TrainerFn.FITTING or not self._stepped:
            return
        if self.run.best is not None and self._improves(trainer):
            self.due = True
        stop, self._place = agreed(trainer), _place_of(trainer)
        # a stop ends the epoch for Lightning, so what is saved later would make a resumed run skip the rest of it
        if self.due or stop or trainer.should_stop:
            self._save(trainer)
        self._leave_if_saved(trainer, stop)

    def can_leave_before_batch(self, trainer: Trainer) -> bool:
        """Whether the step before the batch that was just begun is saved, or can still be."""
        return self._place is not None or trainer.global_step == self.saved_step

    def leave_before_batch(self, trainer: Trainer) -> NoReturn:
        """Ends a run that is asked to, as if the batch that was just begun had not been. A collective call."""
        if self._place is not None and trainer.global_step != self.saved_step:
            self._goes_back = True
            self._save(trainer)
        self.finish(trainer)
        raise agreed(trainer).error()

    def _leave_if_saved(self, trainer: Trainer, stop: Stop) -> None:
        if stop and (trainer.global_step == self.saved_step or not stop.waits):
            self.finish(trainer)
            raise stop.error()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        unsaved = trainer.global_step != self.saved_step
        ends = is_finished(trainer) or stopped_early(trainer)
        if self.due or (unsaved and (self._stepped or ends)):
            self._save(trainer)
        self.finish(trainer)
        self._leave_if_saved(trainer, agreed(trainer))
        if self.run.best is not None and self.best_step is None:
            log.warning(
                "No validation within the training gave a value of run.best (%s) that could be compared, so no best "
                "checkpoint is kept: lower trainer.val_check_interval, or leave run.best out.",
                self.run.best,
            )

    def state_dict(self) -> dict[str, Any]:
        return {"best_value": self.best_value, "best_step": self.best_step, "seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best_value = state_dict["best_value"]
        self.best_step = state_dict["best_step"]
        self.seconds_before = state_dict["seconds"]

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if self._goes_back:
            checkpoint["loops"]["fit_loop"] |= self._place
        checkpoint["fgvr"] = {"version": fgvr.__version__, "config": self.config, "fingerprint": self.fingerprint}

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if trainer.state.fn == TrainerFn.FITTING:
            # again, because a damaged checkpoint may have been replaced by the one before it
            then = checkpoint.get("fgvr", {}).get("fingerprint", {})
            refuse_changes(then, self.fingerprint, self.run.allow_changed, Path(str(trainer.ckpt_path)))

    def _keep_start(self, trainer: Trainer, module: PolicyModule) -> None:
        """What the run began with, before it is read: whoever made it may remove it from now on."""
        start = module.policy_config.backbone
        if module.needs_start and trainer.is_global_zero and not trainer.fast_dev_run:  # pyright: ignore[reportAttributeAccessIssue]
            start.keep(self.run.dir)
        origin = start.origin()
        self.fingerprint[OF_BASE] = {key: origin[key] for key in ("digest", "path")} if origin["digest"] else None

    def _refuse_unknown_best(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Before anything is computed, where all that a validation logs is known: classes of another's log more."""
        best, cohorts = self.run.best, getattr(trainer.datamodule, "cohorts", None)  # pyright: ignore[reportAttributeAccessIssue]
        if best is None or not trainer.enable_validation:
            return
        callbacks: list[Callback] = trainer.callbacks  # pyright: ignore[reportAttributeAccessIssue]
        judges = [one for one in callbacks if isinstance(one, JudgeValidation)]
        known = all(type(one).__module__.startswith(("fgvr.", "lightning.")) for one in (pl_module, *callbacks))
        if not judges or not cohorts or not known or "/" not in best or best.startswith(NOT_OF_ANSWERS):
            return
        figures = judges[0].figures(trainer.datamodule)  # pyright: ignore[reportAttributeAccessIssue]
        if best not in figures and best.count("/") == 1:  # those of a data set, or of the best of several, have two
            raise _no_figure(best, figures)

    def _improves(self, trainer: Trainer) -> bool:
        value = float(trainer.callback_metrics[str(self.run.best)])
        if math.isnan(value):
            return False
        if self.best_value is not None:
            better = value > self.best_value if self.run.mode == "max" else value < self.best_value
            if not better:
                return False
        self.best_value, self.best_step = value, trainer.global_step
        return True

    def _save(self, trainer: Trainer) -> None:
        self.due = False
        step = trainer.global_step
        if trainer.fast_dev_run:  # pyright: ignore[reportAttributeAccessIssue]
            return
        self.finish(trainer)
        draw_step(trainer)
        trainer.save_checkpoint(self._path(step), weights_only=False, storage_options=self._background)
        self.saved_step = step
        self._unfinished = Saved(step, self.best_step, self.best_value)
        if self._background is None:
            self.finish(trainer)

    def finish(self, trainer: Trainer) -> None:
        """Waits for the save that was begun last, if it is still under way. A collective call."""
        saved, self._unfinished = self._unfinished, None
        if saved is None:
            return
        if self._background is not None:
            self._background.finish(Ranks(trainer.world_size, of_all_ranks))
            log.info("The checkpoint of step %d, written in the background, is whole.", saved.step)
        if not trainer.is_global_zero:
            return
        if saved.best_step is not None:
            record = {"figure": self.run.best, "value": saved.best_value, "step": saved.best_step}
            record["checkpoint"] = self._path(saved.best_step).name
            write_whole(self.run.checkpoints / "best.json", sealed(record, indent=1))
        self._prune(trainer, saved.best_step)

    def _finish_if_written(self, trainer: Trainer) -> None:
        if self._background is None or self._unfinished is None:
            return
        if trainer.strategy.reduce_boolean_decision(self._background.done, all=True):
            self.finish(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        unfinished, background = self._unfinished, self._background
        if background is None:
            return
        if unfinished is not None and trainer.world_size == 1:
            self.finish(trainer)
        elif unfinished is not None:  # the others may be gone, or know of no error
            log.warning("The checkpoint of step %d was being written and is lost.", unfinished.step)
        background.close()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if self._background is not None:
            self._background.close()

    def _prune(self, trainer: Trainer, best_step: int | None) -> None:
        own = [path for path in checkpoints_in(self.run.checkpoints) if path.name.startswith("step-")]
        for path in own[: -self.run.keep]:
            if best_step is None or path != self._path(best_step):
                trainer.strategy.remove_checkpoint(path)

    def _path(self, step: int) -> Path:
        return self.run.checkpoints / f"step-{step:08d}{SUFFIX}"


def _no_figure(best: str, figures: Iterable[str]) -> UserError:
    near = difflib.get_close_matches(best, sorted(figures), n=1, cutoff=0.55)
    hint = f"the nearest is {near[0]}, of {sorted(figures)}" if near else f"choose one of {sorted(figures)}"
    return UserError(f"run.best must be a figure of the validation, got {best!r}: {hint}.")


def _room(module: LightningModule) -> int:
    """Bytes that a checkpoint of the module takes here: its trained weights, and as much twice for Adam's state."""
    trained = [weight for weight in module.parameters() if weight.requires_grad]
    return 3 * sum(own_rows(weight).nbytes for weight in trained) + SPARE


def _place_of(trainer: Trainer) -> dict[str, Any]:
    """What a checkpoint of this moment says of the loops, but for the loader, which tells by itself where it stands."""
    return trainer.fit_loop.epoch_loop.state_dict(prefix="epoch_loop.")


def _between_epochs(trainer: Trainer) -> bool:
    return trainer.fit_loop.epoch_loop._num_ready_batches_reached() and trainer.num_training_batches > 1
