"""What a run has left in its folder, as far as it is there; nothing is loaded that was learned."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fgvr.checkpoints.format import checkpoints_in, read_manifest
from fgvr.checkpoints.kept import CHECKPOINTS
from fgvr.checkpoints.manifest import CheckpointManifest
from fgvr.errors import UserError, shown
from fgvr.report.curves import Curves, read_curves
from fgvr.runs.noted import CONFIG, noted_environments
from fgvr.settings.given import content_of
from fgvr.whole_files import unsealed, unsealed_line

Row = dict[str, Any]
FIGURES = {  # what a command wrote, and what its figures are called
    "start": "start_metrics.json",
    "final": "final_metrics.json",
    "validate": "validate_metrics.json",
    "test": "test_metrics.json",
}
ROLLOUT = ("epoch", "step", "place", "uid", "completion", "reward", "advantage")
ANSWER = ("uid", "cohort", "label", "answer", "verdict")


@dataclass(frozen=True, order=True)
class Sampled:
    """Where the row of a completion stands, which a run has learned from: in its `file`, `at` so many bytes.

    `place` is its example's in the order of the epoch, whose batch `step` it was learned from in.
    """

    epoch: int
    step: int
    place: int
    file: Path
    at: int

    def row(self) -> Row:
        """Raises ValueError where the file has been written anew since."""
        with self.file.open("rb") as lines:
            lines.seek(self.at)
            return unsealed_line(lines.readline())


@dataclass(frozen=True)
class Saved:
    """A checkpoint by name, and what its manifest says of it."""

    name: str
    manifest: CheckpointManifest


@dataclass
class Ran:
    """One run as its folder tells it. What the folder lacks is empty; `remarks` are sentences about what is damaged.

    `figures` are those of each command that wrote some, `sampled` say where the rows of rollouts.jsonl of all ranks
    stand, as there may be more of them than fit into memory; `answers` are the rows of answers.jsonl.
    """

    folder: Path
    name: str
    config: Row = field(default_factory=Row)
    config_text: str = ""
    figures: dict[str, dict[str, float]] = field(default_factory=dict[str, dict[str, float]])
    facts: Row = field(default_factory=Row)
    checkpoints: list[Saved] = field(default_factory=list[Saved])
    environments: list[Row] = field(default_factory=list[Row])
    curves: Curves = field(default_factory=Curves)
    sampled: list[Sampled] = field(default_factory=list[Sampled])
    answers: list[Row] = field(default_factory=list[Row])
    remarks: list[str] = field(default_factory=list[str])

    @property
    def data(self) -> Row:
        """The settings of the data module."""
        return _inner(self.config.get("data"))

    @property
    def model(self) -> Row:
        """The settings of the module."""
        return _inner(self.config.get("model"))

    @property
    def method(self) -> str:
        """The class of the module: GRPO, say."""
        model = self.config.get("model")
        path = model.get("class_path") if isinstance(model, dict) else None
        return str(path or "").rpartition(".")[2]

    @property
    def steps(self) -> int:
        """Optimiser steps, as far as anything tells of them."""
        told = [self.facts.get("step"), *(saved.manifest.step for saved in self.checkpoints)]
        told += [curve.steps[-1] for curve in self.curves.values() if curve.steps]
        return max((int(step) for step in told if isinstance(step, int | float)), default=0)

    def callback(self, name: str) -> bool:
        """Whether the config has a callback of this class."""
        trainer = self.config.get("trainer")
        listed = trainer.get("callbacks") if isinstance(trainer, dict) else None
        paths = [one.get("class_path") for one in listed or [] if isinstance(one, dict)]
        return any(str(path).rpartition(".")[2] == name for path in paths)


def read_run(folder: Path) -> Ran:
    """Raises UserError for a folder that is no run's; a damaged file becomes a remark, and the rest is read."""
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"a report is of runs, but {folder} is no folder: give run.dir of a run, such as runs/photos")
    known = (CONFIG, CHECKPOINTS, *FIGURES.values(), "tensorboard")
    if not any((folder / name).exists() for name in known):
        raise UserError(
            f"a report is of runs, but {folder} has neither {CONFIG} nor figures, checkpoints or curves: give run.dir "
            "of a run, such as runs/photos"
        )
    ran = Ran(folder, folder.resolve().name)
    file = folder / CONFIG
    if file.is_file():
        ran.config, ran.config_text = content_of(file), file.read_text("utf-8", errors="replace")
        if not ran.config:
            ran.remarks.append(f"{CONFIG} cannot be read as yaml, so that the report does not know what was asked for.")
    for kind, name in FIGURES.items():
        _read_figures(ran, kind, folder / name)
    ran.checkpoints = [Saved(path.name, read_manifest(path)) for path in checkpoints_in(folder / CHECKPOINTS)]
    ran.environments = noted_environments(folder)
    ran.curves = read_curves(folder / "tensorboard")
    for file in sorted(folder.glob("rollouts*.jsonl")):
        ran.sampled += sampled_in(file, ran.remarks)
    ran.answers = [row for _, row in rows_of(folder / "answers.jsonl", ran.remarks, ANSWER)]
    return ran


def named_apart(runs: Sequence[Ran]) -> None:
    """Gives runs whose folders have the same name more of their paths, or a number, so that no two are called alike."""
    parts = {id(ran): ran.folder.resolve().parts for ran in runs}
    depth = 1
    while len({run.name for run in runs}) < len(runs) and depth < max(map(len, parts.values())):
        depth += 1
        for run in runs:
            run.name = "/".join(parts[id(run)][-depth:])
    if len({run.name for run in runs}) < len(runs):
        raise UserError(
            f"each run may be given once, got {', '.join(str(run.folder) for run in runs)}: leave the second one out"
        )


def sampled_in(file: Path, remarks: list[str]) -> Iterator[Sampled]:
    """The completions of a file that were learned from.

    Where a batch was sampled besides others before it could be learned from, what it kept stands twice; that which was
    learned from counts.
    """
    for at, row in rows_of(file, remarks, ROLLOUT):
        if row.get("learned", True):
            yield Sampled(int(row["epoch"]), int(row["step"]), int(row["place"]), file, at)


def rows_of(file: Path, remarks: list[str], keys: Collection[str]) -> Iterator[tuple[int, Row]]:
    """The whole lines of a log that have these keys, and at which byte each begins; others become a remark.

    None where there is no such file.
    """
    if not file.is_file():
        return
    damaged = at = 0
    with file.open("rb") as lines:
        for line in lines:
            began, at = at, at + len(line)
            try:
                row = unsealed_line(line)
            except (ValueError, RecursionError):
                row = Row()
            if row.keys() >= {*keys}:
                yield began, row
            else:
                damaged += 1
    if damaged:
        remarks.append(f"{file.name} has {damaged} lines that are not as they were written; they are left out.")


def _read_figures(ran: Ran, kind: str, file: Path) -> None:
    if not file.is_file():
        return
    try:
        content, _ = unsealed(file.read_bytes())
    except (OSError, ValueError) as error:
        ran.remarks.append(shown(f"{file.name} cannot be read ({error}); its figures are left out."))
        return
    numbers = {key: float(value) for key, value in content.items() if _is_figure(value) and "/" in key}
    if kind == "final":
        began = {key.removeprefix("start/"): value for key, value in numbers.items() if key.startswith("start/")}
        numbers = {key: value for key, value in numbers.items() if not key.startswith("start/")}
        if began:
            ran.figures.setdefault("start", began)
        ran.facts = {key: value for key, value in content.items() if "/" not in key}
    if numbers:
        ran.figures[kind] = numbers


def _is_figure(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _inner(section: Any) -> Row:
    inner = section.get("init_args") if isinstance(section, Mapping) else None
    return dict(inner) if isinstance(inner, Mapping) else {}


def flat(value: Any, prefix: str = "") -> dict[str, str]:
    """Settings as `{"model.init_args.lr": "1e-05"}`, each value as JSON."""
    entries: list[tuple[str, Any]] = []
    if isinstance(value, Mapping):
        entries = [(str(key), entry) for key, entry in value.items()]
    elif isinstance(value, list):
        entries = [(str(number), entry) for number, entry in enumerate(value)]
    if not entries:
        return {prefix: json.dumps(value, ensure_ascii=False, default=str)}
    found: dict[str, str] = {}
    for key, entry in entries:
        found |= flat(entry, f"{prefix}.{key}" if prefix else key)
    return found
