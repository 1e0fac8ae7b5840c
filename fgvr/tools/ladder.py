"""`python -m fgvr ladder`: what two-step inference and its training add, rung by rung, from the rows of runs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from fgvr.errors import UserError
from fgvr.metrics.ladder import Asked
from fgvr.pictures.ladder import ladder_tables
from fgvr.tools.tables import print_table
from fgvr.whole_files import write_whole

Row = dict[str, Any]
Place = tuple[str, str, str]  # cohort, dataset, uid


def ladder(untrained: Path, trained: Path | None = None, out: Path | None = None) -> None:
    """Print tables of greedy answers, the vote and the choice: intervals, paired tests, the split, gates, tokens.

    Args:
        untrained: the rows of the weights a run began with, such as runs/divek/two_step/step-00000000.jsonl
        trained: those of the trained weights about the same photos, such as runs/divek/two_step/step-00000160.jsonl
        out: a markdown file to write besides
    """
    before = read_rows(untrained)
    after = None if trained is None else read_rows(trained)
    if trained is not None and after is not None and before.keys() != after.keys():
        strange = sorted(before.keys() ^ after.keys())
        raise UserError(
            f"{untrained} and {trained} must tell of the same photos, but {len(strange)} are in one of them alone, "
            f"such as {strange[0][2]!r}: evaluate both on the same split, with the same eval_examples"
        )
    tables = ladder_tables(by_cohort(before), None if after is None else by_cohort(after))
    console = Console()
    for table in tables:
        print_table(console, table)
    if out is not None:
        text = "\n\n".join(table.markdown() for table in tables) + "\n"
        write_whole(out, text.encode("utf-8", "backslashreplace"))


def read_rows(file: Path) -> dict[Place, Asked]:
    """The photos of a file of rows, in order. Raises UserError for what is no such file, and without labels."""
    try:
        rows: list[Row] = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        if not rows:
            raise ValueError("it is empty")
        found = {(row["cohort"], row["dataset"], row["uid"]): Asked.of(row) for row in rows}
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{file} must be rows of labelled photos as fgvr.callbacks.TwoStepInference writes them in validation and "
            f"test, but it is not ({type(error).__name__}: {error})"
        ) from error
    if len(found) < len(rows):
        raise UserError(f"{file} must have one row for each photo, but {len(rows) - len(found)} come twice")
    return dict(sorted(found.items()))


def by_cohort(photos: Mapping[Place, Asked]) -> dict[str, list[Asked]]:
    """The photos of each cohort, in their order."""
    found: dict[str, list[Asked]] = {}
    for (cohort, _, _), asked in photos.items():
        found.setdefault(cohort, []).append(asked)
    return found
