"""The folder of one run: what it already holds, and where the run goes on from.

runs/NAME/config.yaml  checkpoints/step-00000100.ckpt/  checkpoints/best.json  base/  tensorboard/  pictures/
          final_metrics.json
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from fgvr.checkpoints.format import (
    SUFFIX,
    CheckpointManifest,
    best_checkpoint,
    checkpoints_in,
    newest_checkpoint,
    read_manifest,
    read_object,
    verify_checkpoint,
)
from fgvr.checkpoints.kept import ASIDE, BASE, CHECKPOINTS
from fgvr.errors import UserError, refuse_below
from fgvr.runs.fingerprint import Changeable, refuse_changes
from fgvr.watchdog.beats import SILENCE
from fgvr.whole_files import refuse_home_mark

STOPPED_BY = "stopped_by"  # in the final figures of a run that a callback has ended before its last step

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunFolder:
    """Where a run keeps everything it writes, and how it goes on when the folder is not empty.

    Args:
        dir: the run's folder; made if absent
        resume: "auto" goes on from the newest whole checkpoint, "never" refuses a folder that holds one, a path to a
            checkpoint goes back to it (one of this folder) or starts from it (one of another run)
        fresh: move an old folder of that name aside (NAME-1, NAME-2, ...) and start again
        again: this start repeats one with the same settings, as that of a job which was queued again does: it goes on,
            whatever `fresh` and `resume` had the first one do
        allow_changed: what may differ from the run that is resumed: "config", "data", "code"
        save_every: optimiser steps between two checkpoints
        save_in_background: go on with training while a process of its own writes a checkpoint, from a copy that it
            keeps in the host's memory: as large as what is saved, on each node where a process writes
        keep: how many of the latest checkpoints stay; the best one stays besides
        best: the validation figure, "seen/exact" say, whose best checkpoint is kept; none by default
        mode: whether the best figure is the largest ("max") or the smallest ("min")
        restarts: how many more starts in a row may begin at the same step before one is refused; for jobs that queue
            themselves again, which come to an end so; no limit by default
        silence: seconds without a sign of life after which a process hangs: then all show their stacks and end; signs
            are each group that is sampled, each micro-batch and each batch of a validation, and a model may take an
            hour to load, a checkpoint to be written; null for any time
        compare_every: optimiser steps between two comparisons of the weights of processes that should have the same;
            null for none
    """

    dir: Path
    resume: str = "auto"
    fresh: bool = False
    again: bool = False
    allow_changed: list[Changeable] = field(default_factory=list[Changeable])
    save_every: int = 100
    save_in_background: bool = False
    keep: int = 3
    best: str | None = None
    mode: Literal["max", "min"] = "max"
    restarts: int | None = None
    silence: float | None = SILENCE
    compare_every: int | None = 100

    def __post_init__(self) -> None:
        refuse_home_mark(self.dir, "run.dir")
        if self.save_every < 1 or self.keep < 1:
            raise UserError(
                f"run.save_every and run.keep must be at least 1, got {self.save_every} and {self.keep}: "
                "a run without a checkpoint could not be resumed."
            )
        if self.restarts is not None and self.restarts < 1:
            raise UserError(f"run.restarts must be at least 1, got {self.restarts}: leave it out for no limit.")
        if self.silence is not None and self.silence <= 0:
            raise UserError(f"run.silence must be above 0 seconds, got {self.silence}: give null for any time.")
        refuse_below(1, "run", compare_every=self.compare_every)
        if self.fresh and self.resume not in ("auto", "never"):
            raise UserError(f"run.fresh starts again and run.resume goes on from {self.resume}: give one of the two.")

    @classmethod
    def of_start(cls, settings: Mapping[str, Any]) -> RunFolder:
        """As a start with these settings has it."""
        run = cls(**settings)
        return run.repeated() if run.again else run

    def repeated(self) -> RunFolder:
        """What has the next start go on with what this one began, from another run's checkpoint say."""
        goes_back = self.resume != "auto" and Path(self.resume).resolve().parent == self.checkpoints.resolve()
        resume = "auto" if self.resume == "never" or goes_back else self.resume
        return replace(self, fresh=False, again=False, resume=resume)

    @property
    def checkpoints(self) -> Path:
        return self.dir / CHECKPOINTS

    @property
    def base(self) -> Path:
        """What the run began with, where its own checkpoints leave that out."""
        return self.dir / BASE

    @property
    def metrics_file(self) -> Path:
        return self.dir / "final_metrics.json"


@dataclass(frozen=True)
class Start:
    """Where a run begins: `checkpoint` is None at the very beginning; `complete` means nothing is left to train."""

    checkpoint: Path | None = None
    manifest: CheckpointManifest | None = None
    complete: bool = False

    def __str__(self) -> str:
        where = "at the beginning" if self.checkpoint is None else f"from {self.checkpoint.name}"
        return f"{where} to evaluate a complete run" if self.complete else where


def choose_start(run: RunFolder, fingerprint: Mapping[str, Any]) -> Start:
    """Finds the checkpoint to go on from and refuses it when `fingerprint` differs in a way that is not allowed.

    Changes nothing in the folder: every process of a run asks, and all must get the same answer.
    """
    if run.fresh:
        return Start()
    if run.resume == "never":
        if checkpoints_in(run.checkpoints) or run.metrics_file.exists():
            raise UserError(
                f"run.resume is never, but {run.dir} already holds a run: "
                "choose another run.dir, or let it go on with --run.resume auto, or start again with --run.fresh true."
            )
        return Start()
    path = _named_start(run) if run.resume != "auto" else newest_checkpoint(run.checkpoints)
    if path is None:
        _refuse_all_damaged(run)
        return Start()
    manifest = read_manifest(path)
    complete = _is_complete(run, manifest, fingerprint)
    # newer code may evaluate what older code has trained
    allowed = {*run.allow_changed, "code"} if complete else run.allow_changed
    refuse_changes(manifest.fingerprint, fingerprint, allowed, path)
    if not complete:
        log.info("Resuming at step %d from %s.", manifest.step, path)
    return Start(path, manifest, complete)


def begun(run: RunFolder) -> Path | None:
    """A checkpoint that tells what the run began with, which all of its own do; None for one that begins."""
    if run.fresh or run.resume == "never":
        return None
    if run.resume != "auto":
        return Path(run.resume)
    return next(iter(reversed(checkpoints_in(run.checkpoints))), None)


def how_to_go_on(run: RunFolder) -> str:
    """What a training that was stopped tells its user: whether the same command loses anything."""
    if not checkpoints_in(run.checkpoints):
        return "Nothing was saved yet: the same command starts from the beginning."
    if run.fresh:
        return "The same command with --run.fresh false goes on from the last checkpoint."
    if run.resume != "auto":
        return "The same command with --run.resume auto goes on from the last checkpoint."
    return "The same command goes on from the last checkpoint."


@contextmanager
def saying_how_to_go_on(run: RunFolder) -> Iterator[None]:
    """Whatever ends the run within it, but is no error, says how it goes on."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit) as stop:
        stop.add_note(how_to_go_on(run))
        raise


def set_later_aside(run: RunFolder, start: Start) -> None:
    """When the run goes back to a named checkpoint of its own, moves the later ones away; for the one that writes."""
    if start.checkpoint is None or start.manifest is None or run.fresh or run.resume in ("auto", "never"):
        return
    if start.checkpoint.resolve().parent != run.checkpoints.resolve() or start.checkpoint != Path(run.resume):
        return
    later = [path for path in checkpoints_in(run.checkpoints) if read_manifest(path).step > start.manifest.step]
    if later:
        aside = free_name(run.checkpoints / ASIDE)
        aside.mkdir()
        for path in later:
            path.rename(aside / path.name)
        log.info("Going back to %s; the %d later checkpoints were moved to %s.", start.checkpoint, len(later), aside)


def final_figures(run: RunFolder) -> dict[str, Any] | None:
    """What a run wrote when it was complete, None before that; raises UserError when the file is damaged."""
    if not run.metrics_file.exists():
        return None
    remedy = "remove it, and the same command evaluates the final weights again"
    return read_object(run.metrics_file, "step", int, remedy)


def evaluation_checkpoint(run: RunFolder, given: str | None) -> Path | None:
    """The checkpoint to evaluate: a path, "best", "none" (the model as the config builds it), else the newest one."""
    if given == "none":
        log.info("No checkpoint is loaded: the model is evaluated as the config builds it.")
        return None
    if given == "best":
        path = best_checkpoint(run.checkpoints, "give --ckpt_path the path of a checkpoint")
    elif given not in (None, "last"):
        path = Path(str(given))
        verify_checkpoint(path)
    else:
        path = newest_checkpoint(run.checkpoints)
    if path is None:
        raise UserError(
            f"There is no whole checkpoint in {run.checkpoints}: train first, give --ckpt_path PATH, "
            "or --ckpt_path none to evaluate the model as the config builds it."
        )
    log.info("Evaluating the checkpoint %s.", path)
    return path


def free_name(path: Path) -> Path:
    """`path` with the first number behind it (NAME-1, NAME-2, ...) that nothing has yet."""
    number = 1
    while path.with_name(f"{path.name}-{number}").exists():
        number += 1
    return path.with_name(f"{path.name}-{number}")


def _named_start(run: RunFolder) -> Path | None:
    path = Path(run.resume)
    verify_checkpoint(path)
    own = newest_checkpoint(run.checkpoints)
    if path.resolve().parent != run.checkpoints.resolve():
        if own is not None:
            log.info("%s has checkpoints of its own, so the run goes on from these, not from %s.", run.dir, path)
        return own or path
    return path


def _refuse_all_damaged(run: RunFolder) -> None:
    present = list(run.checkpoints.glob(f"[!.]*{SUFFIX}"))
    if present:
        raise UserError(
            f"None of the {len(present)} checkpoints in {run.checkpoints} is whole, so {run.dir} cannot go on: "
            "restore one from a copy, or start again with --run.fresh true."
        )


def _is_complete(run: RunFolder, manifest: CheckpointManifest, fingerprint: Mapping[str, Any]) -> bool:
    figures = final_figures(run)
    if figures is None:
        return False
    limits = ("trainer.max_steps", "trainer.max_epochs")
    then, now = manifest.fingerprint.get("config", {}), fingerprint.get("config", {})
    if figures.get(STOPPED_BY) is not None:
        return False
    return figures["step"] == manifest.step and all(then.get(key) == now.get(key) for key in limits)
