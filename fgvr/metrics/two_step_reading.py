"""Rows of two-step inference, read again: the photos that were asked about, and what they were asked with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fgvr.errors import UserError
from fgvr.metrics.ladder import Asked

Row = dict[str, Any]
Place = tuple[str, str, str]  # cohort, dataset, uid
MADE = "made_with"


@dataclass(frozen=True)
class Rows:
    """The photos of a file in order, their labels, and what all its rows were made with: None where they do not say."""

    photos: Mapping[Place, Asked]
    labels: Mapping[Place, str]
    made: Row | None


def read_rows(file: Path) -> Rows:
    """What a file of rows tells. Raises UserError for what is no such file, without labels, and for a mixture."""
    if file.is_dir() or not file.exists():  # a pipe is read too
        found = sorted((file / "two_step").glob("*.jsonl"))
        hint = f"give one of its own, such as {found[-1]}" if found else "TwoStepInference writes RUN/two_step/*.jsonl"
        raise UserError(f"the rows of two-step inference must be a file, but {file} is none: {hint}")
    try:
        with file.open(encoding="utf-8", newline="\n") as lines:  # a model's text may hold what else ends a line
            rows: list[Row] = [json.loads(line) for line in lines]
        if not rows:
            raise ValueError("it is empty")
        found = {_place(row): Asked.of(row) for row in rows}
        labels = {_place(row): str(row["label"]) for row in rows}
        made: Row | None = rows[0].get(MADE)
        if any(row.get(MADE) != made for row in rows):
            raise ValueError("its rows were not all made with the same settings")
        if made is not None and "scope" not in made:
            raise ValueError(f"{MADE} must say the scope")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(
            f"{file} must be rows of labelled photos as fgvr.callbacks.TwoStepInference writes them in validation and "
            f"test, but it is not ({type(error).__name__}: {error})"
        ) from error
    if len(found) < len(rows):
        raise UserError(f"{file} must have one row for each photo, but {len(rows) - len(found)} come twice")
    return Rows(dict(sorted(found.items())), labels, made)


def _place(row: Row) -> Place:
    return str(row["cohort"]), str(row["dataset"]), str(row["uid"])


def refuse_others(untrained: Path, before: Rows, trained: Path, after: Rows) -> None:
    """Raises UserError where the two tell of other photos or labels, or were made otherwise than by other weights."""
    if strange := sorted(before.photos.keys() ^ after.photos.keys()):
        raise UserError(
            f"{untrained} and {trained} must tell of the same photos, but {len(strange)} are in one of them alone, "
            f"such as {strange[0][2]!r}: evaluate both on the same split, with the same eval_examples"
        )
    if renamed := sorted(place for place, label in before.labels.items() if after.labels[place] != label):
        raise UserError(
            f"{untrained} and {trained} must tell of the same labels, but {len(renamed)} photos have another one, such "
            f"as {renamed[0][2]!r}: evaluate both on the same shard set"
        )
    if before.made is None or after.made is None:
        return
    names = [name for name in {**before.made, **after.made} if before.made.get(name) != after.made.get(name)]
    if names:
        each = ", ".join(f"{name} {before.made.get(name)} and {after.made.get(name)}" for name in names)
        raise UserError(
            f"{untrained} and {trained} must differ in their weights alone, but they were made with {each}: what "
            "training adds is told by rows of the same settings, so evaluate one of them again"
        )


def by_cohort(photos: Mapping[Place, Asked]) -> dict[str, list[Asked]]:
    """The photos of each cohort, in their order."""
    found: dict[str, list[Asked]] = {}
    for (cohort, _, _), asked in photos.items():
        found.setdefault(cohort, []).append(asked)
    return found
