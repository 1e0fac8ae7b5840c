"""When a checkpoint is saved, which ones stay, and what a resumed run must agree with."""

from __future__ import annotations

import difflib
import logging
import math
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.trainer.states import TrainerFn

import fgvr
from fgvr.callbacks.judge_validation import JudgeValidation
from fgvr.callbacks.steps import ends_with, is_finished, passes
from fgvr.checkpoints.format import SUFFIX, checkpoints_in, read_manifest
from fgvr.checkpoints.kept import OF_BASE
from fgvr.errors import UserError
from fgvr.modules.base import PolicyModule
from fgvr.runs.fingerprint import refuse_changes
from fgvr.runs.folder import RunFolder
from fgvr.whole_files import sealed, write_whole

NOT_OF_ANSWERS = ("data/", "train/", "validation_")  # what other figures begin with

log = logging.getLogger(__name__)


class RunCheckpoints(Checkpoint):
    """Saves whenever a multiple of `run.save_every` optimiser steps is reached or passed, at the end, and at the best.

    At a step that ends an epoch, or that validation follows, the save waits for that to be over: a checkpoint taken
    before would make a resumed run skip it. The last step is saved before its validation as well, for whoever stops the
    run there. After a batch without an optimiser step nothing is saved, or what such batches have gathered would be
    lost, so a validation there can make no checkpoint the best. A callback's stop at an epoch's end waits for the next
    step. Keeps the last `run.keep` checkpoints and the best. Raises UserError when
    `run.best` is no figure of the validation, before the training where all of them are known.

    `due` may be set to have the next step saved that can be; `saved_step` is the latest that was.
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

    @property
    def seconds(self) -> float:
        """Seconds spent in training so far, earlier processes of the same run included up to their last checkpoint."""
        return self.seconds_before + (time.monotonic() - self._began if self._began is not None else 0.0)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
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

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        step = trainer.global_step
        self._stepped = step != self._last_step
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
        self.due = self.due or last or stops or passes(self.run.save_every, before, step)
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
        if self.due:
            self._save(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        unsaved = trainer.global_step != self.saved_step
        if self.due or (unsaved and (self._stepped or is_finished(trainer))):
            self._save(trainer)
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
        trainer.save_checkpoint(self._path(step), weights_only=False)
        self.saved_step = step
        if not trainer.is_global_zero:
            return
        if self.best_step is not None:
            record = {"figure": self.run.best, "value": self.best_value, "step": self.best_step}
            record["checkpoint"] = self._path(self.best_step).name
            write_whole(self.run.checkpoints / "best.json", sealed(record, indent=1))
        self._prune(trainer)

    def _prune(self, trainer: Trainer) -> None:
        own = [path for path in checkpoints_in(self.run.checkpoints) if path.name.startswith("step-")]
        for path in own[: -self.run.keep]:
            if self.best_step is None or path != self._path(self.best_step):
                trainer.strategy.remove_checkpoint(path)

    def _path(self, step: int) -> Path:
        return self.run.checkpoints / f"step-{step:08d}{SUFFIX}"


def _no_figure(best: str, figures: Iterable[str]) -> UserError:
    near = difflib.get_close_matches(best, sorted(figures), n=1, cutoff=0.55)
    hint = f"the nearest is {near[0]}, of {sorted(figures)}" if near else f"choose one of {sorted(figures)}"
    return UserError(f"run.best must be a figure of the validation, got {best!r}: {hint}.")


def _between_epochs(trainer: Trainer) -> bool:
    return trainer.fit_loop.epoch_loop._num_ready_batches_reached() and trainer.num_training_batches > 1
