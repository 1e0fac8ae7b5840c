"""Task files for lmms-eval: which photos are asked about and how, as a yaml and a jsonl file for each task."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fgvr
from fgvr.data.closed_world import ClosedWorld
from fgvr.data.tasks import Task
from fgvr.datamodules.within import order_within
from fgvr.errors import UserError
from fgvr.harness.lmms_eval import FIGURES
from fgvr.shards.manifest import load_manifest
from fgvr.shards.order import key_of
from fgvr.shards.reading import ShardSet
from fgvr.taxonomy.tree import Taxonomy
from fgvr.whole_files import write_whole

HERE = "fgvr.harness.lmms_eval"
FALLING = ("parse_failures",)  # figures that are better lower


@dataclass(frozen=True)
class Asked:
    """One task: `task` about the photos of a cohort and split of a set, not bound yet.

    Replies end after `max_new_tokens`; `opening` is what the model's chat template begins each with. `seed` draws the
    options as the data of a run with this seed draws them.
    """

    kind: str
    task: Task
    max_new_tokens: int
    opening: str = ""
    seed: int = 0


def write_task(out: Path, folder: Path, split: str, cohort: str, asked: Asked) -> tuple[str, int]:
    """Writes NAME.yaml and NAME.jsonl into `out`; returns NAME and how many photos are asked about.

    Raises UserError for a question whose photo does not stand before all text, which lmms-eval cannot ask.
    """
    manifest = load_manifest(folder)
    name = "_".join(("fgvr", _plain(manifest.dataset), split, cohort, asked.kind))
    rows = documents(folder, split, cohort, asked)
    write_whole(out / f"{name}.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode())
    write_whole(out / f"{name}.yaml", _yaml(name, out.absolute(), asked).encode())
    return name, len(rows)


def write_group(out: Path, name: str, tasks: Sequence[str]) -> None:
    """Writes NAME.yaml, by which all tasks are asked for together."""
    lines = [f"group: {name}", "task:", *(f"  - {one}" for one in tasks), ""]
    write_whole(out / f"{name}.yaml", "\n".join(lines).encode())


def documents(folder: Path, split: str, cohort: str, asked: Asked) -> list[dict[str, Any]]:
    """The rows of a task's jsonl file, in the order of a validation."""
    shards = ShardSet(folder, split, (cohort,))
    task = asked.task.bind(Taxonomy.from_dict(load_manifest(folder).taxonomy)).opened(asked.opening)
    order = order_within([shards], None, None, split, cohort, asked.seed)
    rows = list[dict[str, Any]]()
    for position, (_, number) in enumerate(order.places):
        rng = random.Random(key_of(asked.seed, "encode", 0, position))  # as the loader draws
        example = task.prepare(shards.read(number), rng)
        rows.append(
            {
                "uid": example.uid,
                "set": str(folder.absolute()),
                "split": split,
                "cohort": cohort,
                "number": number,
                "label": example.label,
                "question": _text(task.messages(example, rng)),
                "options": list(task.shown(example)) if isinstance(task, ClosedWorld) else None,
                "letters": isinstance(task, ClosedWorld) and task.letters,
                "opening": asked.opening,
            }
        )
    return rows


def _text(messages: list[dict[str, Any]]) -> str:
    """The text of one question about one photo."""
    first, *parts = messages[0]["content"]
    if len(messages) > 1 or first["type"] != "image" or [part["type"] for part in parts] != ["text"]:
        raise UserError(
            "lmms-eval shows the photo first and the text behind it, but the task asks otherwise: write the files for "
            "a task such as fgvr.data.OpenWorld"
        )
    return str(parts[0]["text"])


def _yaml(name: str, out: Path, asked: Asked) -> str:
    lines = [
        f"# Written by fgvr {fgvr.__version__}: python -m fgvr tasks. fgvr must be installed where lmms-eval is.",
        f"task: {name}",
        "dataset_path: json",
        "dataset_kwargs:",
        "  data_files:",
        f"    test: {json.dumps(str(out / name) + '.jsonl', ensure_ascii=False)}",
        "test_split: test",
        "output_type: generate_until",
        f"doc_to_visual: !function {HERE}.photo",
        f"doc_to_text: !function {HERE}.question",
        "doc_to_target: label",
        "generation_kwargs:",
        f"  max_new_tokens: {asked.max_new_tokens}",
        "  temperature: 0",
        "  do_sample: false",
        "  until: []",
        "reasoning_tags: none",  # a thought is read with its answer
        f"process_results: !function {HERE}.judged",
        "metric_list:",
    ]
    for figure in FIGURES:
        lines += [
            f"  - metric: {figure}",
            f"    aggregation: !function {HERE}.{figure}",
            f"    higher_is_better: {'false' if figure in FALLING else 'true'}",
        ]
    return "\n".join([*lines, "metadata:", "  version: 1", ""])


def _plain(dataset: str) -> str:
    return re.sub(r"\W+", "_", dataset).strip("_").lower()
