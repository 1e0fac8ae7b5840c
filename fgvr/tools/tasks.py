"""`python -m fgvr tasks`: shard sets as tasks of lmms-eval, asked and judged as fgvr does."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from fgvr.data.closed_world import ClosedWorld
from fgvr.data.tasks import OpenWorld
from fgvr.errors import UserError
from fgvr.harness.task_files import Asked, write_group, write_task
from fgvr.models import Processor
from fgvr.next_steps import after_tasks
from fgvr.pictures.tables import Table
from fgvr.recogniser.carried import FILE, read_carried
from fgvr.shards.manifest import load_manifest
from fgvr.sources.base import COHORTS
from fgvr.tools.tables import print_table

TOKENS = 1024  # what a pretrained model may write; an export says it itself


def tasks(
    data: list[Path],
    out: Path,
    model: Path | None = None,
    split: str = "test",
    options: int = 4,
    seed: int = 0,
) -> str:
    """Write tasks for lmms-eval: free naming and a choice by letter about the photos of each set and cohort.

    Returns what to do next.

    Args:
        data: shard sets, as a list: [data/cub, data/aircraft].
        out: the folder of task files. What stands there under the same names is replaced.
        model: an exported folder, whose own question is asked; without one the usual questions are, for any model.
        split: which photos are asked about, "test" or "val".
        options: how many names stand in a question of choice. An export that was taught to choose asks its own.
        seed: draws the options, as the data of a run of this seed draw them.
    """
    if split not in ("test", "val"):
        raise UserError(f"split must be test or val, whose photos nothing is trained on, got {split!r}")
    if not data:
        raise UserError("data must name a shard set at least, got an empty list")
    out.mkdir(parents=True, exist_ok=True)
    opening = "" if model is None else _export_of(model).opening
    console, written = Console(), list[tuple[str, int]]()
    for folder in data:
        names = list[str]()
        for cohort in sorted(COHORTS):
            if load_manifest(folder).samples(split, (cohort,)):
                for asked in questions(model, options):
                    name, count = write_task(out, folder, split, cohort, replace(asked, opening=opening, seed=seed))
                    names.append(name)
                    written.append((name, count))
        if not names:
            raise UserError(f"{folder} has no photos of split {split}: name another split, or another shard set")
    group = f"fgvr_{split}"
    write_group(out, group, [name for name, _ in written])
    print_table(console, Table(("task", "photos"), tuple(written)))
    return after_tasks(f"{_model(model)} --include_path {shlex.quote(str(out))} --tasks {group}")


def questions(model: Path | None, options: int) -> list[Asked]:
    """Free naming and choice: as the export was taught where it was, otherwise by the usual words."""
    if model is None:
        return [
            Asked("open_world", OpenWorld(), TOKENS),
            Asked("closed_world", ClosedWorld(options, letters=True), TOKENS),
        ]
    carried = read_carried(model)
    own = carried.taught()
    if isinstance(own, ClosedWorld):  # it names nothing freely
        return [Asked("closed_world", own, carried.max_new_tokens)]
    taught = carried.choice is not None
    choice = carried.chooses(own) if taught else ClosedWorld(options, True, own.question, own.think)
    return [
        Asked("open_world", own, carried.max_new_tokens),
        Asked("closed_world", choice, carried.max_new_tokens),
    ]


def _export_of(model: Path) -> Processor:
    if not (model / FILE).is_file() or not (model / "config.json").is_file():
        raise UserError(
            f"model must be a folder that python -m fgvr export has written, but {model} has no {FILE} beside a "
            "config.json: export the run first, or leave model out"
        )
    return Processor.from_folder(model, None)


def _model(model: Path | None) -> str:
    """The class for the family, with the pixels that the export was taught with."""
    if model is None:
        return "--model qwen2_5_vl --model_args pretrained=MODEL"
    family = json.loads((model / "config.json").read_text())["model_type"]
    pixels = Processor.from_folder(model, None).pixels
    given = f"pretrained={model},min_pixels={pixels.min},max_pixels={pixels.max}"
    return f"--model fgvr_{family} --model_args {shlex.quote(given)}"
