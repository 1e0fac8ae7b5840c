"""What a model must know besides its weights to name photos: its taxonomy, its question, and how it was evaluated.

A run knows it from its settings and shards. An export carries it in fgvr.json.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fgvr.checkpoints.format import read_object
from fgvr.data.closed_world import ClosedWorld
from fgvr.data.tasks import Task
from fgvr.datamodules.asked import read_task
from fgvr.errors import UserError
from fgvr.rollouts.two_step import TwoStep
from fgvr.shards.manifest import MANIFEST, load_manifest
from fgvr.taxonomy.tree import Taxonomy
from fgvr.whole_files import sealed, write_whole

FILE, FORMAT = "fgvr.json", 1
OPEN_WORLD = {"class_path": "fgvr.data.OpenWorld", "init_args": {}}
STEPS = "TwoStepInference"
AGAIN = "export the run again with python -m fgvr export --overwrite true"
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Carried:
    """Plain values, as they are stored. `task` asks for names, `choice` among options in a second step, None as usual;
    `plan` says how two steps are taken. Answers are cut off after `max_new_tokens`. `checkpoint` is the digest of the
    weights' checkpoint, "" where they come from none, made at optimiser step `step`.
    """

    dataset: str
    taxonomy: Mapping[str, Any]
    task: Mapping[str, Any]
    max_new_tokens: int
    choice: Mapping[str, Any] | None = None
    plan: Mapping[str, Any] | None = None
    checkpoint: str = ""
    step: int = 0

    def names(self) -> Taxonomy:
        return Taxonomy.from_dict(self.taxonomy)

    def taught(self) -> Task:
        """What the run asked, which may need the label to draw options around."""
        return read_task(dict(self.task))

    def asks(self) -> Task:
        """As `taught`, of any photo. Raises UserError for a task that cannot ask about a photo without its label."""
        task = self.taught()
        if task.needs_label:
            raise UserError(
                f"this model was taught by {type(task).__name__} with options drawn around the label, which photos "
                "without labels do not have: only a model that was asked for names, or shown all classes, can be loaded"
            )
        return task

    def chooses(self, task: Task) -> ClosedWorld:
        """What asks in the second step: the run's own, else by letters and in the words of the task."""
        if self.choice is not None and isinstance(own := read_task(dict(self.choice)), ClosedWorld):
            return own
        return ClosedWorld(self.steps().options, letters=True, question=task.question, think=task.think)

    def steps(self) -> TwoStep:
        return TwoStep(**(self.plan or {}))

    def write(self, folder: Path) -> None:
        """fgvr.json, with a digest of itself."""
        write_whole(folder / FILE, sealed({"format": FORMAT, **asdict(self)}, indent=1))


def read_carried(folder: Path, data: Path | None = None) -> Carried:
    """What an export carries. One of an earlier version carries nothing: the shard set `data` then gives the taxonomy.

    Raises UserError for what is missing, damaged or of a later version.
    """
    file = folder / FILE
    if not file.is_file():
        if data is None:
            raise UserError(
                f"{folder} does not say which names its model knows, nor what it was asked: it has no {FILE}, which "
                f"exports of earlier versions and models of others lack. {AGAIN[0].upper()}{AGAIN[1:]}, or name a "
                "shard set with data=, whose taxonomy is then taken, with the usual question"
            )
        return of_data(data, 64)
    content = read_object(file, "format", int, AGAIN)
    if content.pop("format") != FORMAT:
        raise UserError(f"{file} must be of format {FORMAT}, which this version of fgvr reads: {AGAIN}")
    try:
        return Carried(**content)
    except TypeError as error:
        raise UserError(f"{file} must say what this version of fgvr needs, but {error}: {AGAIN}") from error


def of_data(data: Path, max_new_tokens: int) -> Carried:
    """For a model that carries nothing: the names of a shard set, and the usual question."""
    manifest = load_manifest(data)
    return Carried(manifest.dataset, manifest.taxonomy, OPEN_WORLD, max_new_tokens)


def of_run(settings: Mapping[str, Any], max_new_tokens: int, data: Path | None = None, **made: Any) -> Carried:
    """What a run's settings say; the taxonomy is that of its shard sets together, of `data` where none is there.

    `made` is the checkpoint's digest and step. The log names a set that is gone. Raises UserError when all are.
    """
    folders = shard_sets(settings)
    there = [folder for folder in folders if (folder / MANIFEST).is_file()]
    lost = ", ".join(str(folder) for folder in folders if folder not in there)
    if not there and data is None:
        raise UserError(
            f"the run's names stand in its shard sets, but {lost or 'none'} can be found from here: name one with "
            "data, or work where the run was made"
        )
    if there and lost:
        log.warning("The names of %s are not known, for it is not there any more.", lost)
    manifests = [load_manifest(folder) for folder in there or [Path(str(data))]]
    first, *others = (Taxonomy.from_dict(manifest.taxonomy) for manifest in manifests)
    given, steps = _data_of(settings), _two_steps(settings)
    return Carried(
        manifests[0].dataset,
        first.merged(others).to_dict(),
        _plain(given.get("task")) or OPEN_WORLD,
        max_new_tokens,
        _plain(steps.get("choice")) or _plain(given.get("train_task")),
        steps.get("plan"),
        **made,
    )


def shard_sets(settings: Mapping[str, Any], evaluated: bool = False) -> list[Path]:
    """The folders of a run's settings: all, or those that it is evaluated on, each once."""
    given = _data_of(settings)
    train = [entry["path"] for entry in given.get("train") or [] if isinstance(entry, dict) and "path" in entry]
    other = given.get("val")
    found = (train if other is None else other) if evaluated else [*train, *(other or [])]
    return list(dict.fromkeys(map(Path, found)))


def _data_of(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    return (settings.get("data") or {}).get("init_args") or {}


def _two_steps(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    callbacks = (settings.get("trainer") or {}).get("callbacks") or []
    listed = [one for one in callbacks if isinstance(one, Mapping)]
    own = [one for one in listed if str(one.get("class_path", "")).rpartition(".")[2] == STEPS]
    return (own[0].get("init_args") or {}) if own else {}


def _plain(task: Any) -> Mapping[str, Any] | None:
    return {"class_path": task} if isinstance(task, str) else task or None
