"""What papers make of a benchmark: which classes they hold out, which photos they train on, which splits they draw."""

from __future__ import annotations

import json
import math
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Literal, NamedTuple

from fgvr.errors import UserError
from fgvr.sources.base import SPLITS
from fgvr.taxonomy.spelling import normalise

Classes = Literal["all", "base-novel", "fine-r1"]
Train = Literal["all", "speciarl"]
SPECIARL = {"CUB": 3000}  # photos that it trains on; of others it mixes
SPECIARL_MIXED = 500
VAL_SHOTS = 4  # at the most, of CoOp's few shots


class Photo(NamedTuple):
    """A listed picture: its path relative to the root, the key of its class, its split or None."""

    file: str
    key: str
    split: str | None


def base_novel(keys: Sequence[str]) -> dict[str, str]:
    """CoOp's halves: of the classes in the benchmark's own order the first half is base, a middle one too."""
    return {key: "base" if place < math.ceil(len(keys) / 2) else "novel" for place, key in enumerate(keys)}


def fine_r1(kind: str, names: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Fine-R1's seen and unseen classes; `names` are those that each class goes by.

    Raises UserError for a benchmark that it does not evaluate, and for a class in neither of its lists.
    """
    lists = _fine_r1_lists()
    if kind not in lists:
        raise UserError(f"classes fine-r1 must be asked of {', '.join(lists)}, got {kind}: set classes to all")
    sides = {normalise(name): side for side, listed in lists[kind].items() for name in listed}
    found = {
        key: next((sides[normalise(one)] for one in many if normalise(one) in sides), "") for key, many in names.items()
    }
    if strange := [names[key][0] for key, side in found.items() if not side]:
        raise UserError(
            f"every class must be seen or unseen by Fine-R1's lists, but {strange[:5]} "
            f"{'is' if len(strange) == 1 else 'are'} in neither: set classes to all or base-novel"
        )
    return found


@cache
def _fine_r1_lists() -> dict[str, dict[str, list[str]]]:
    return json.loads(files("fgvr.sources").joinpath("fine_r1_split.json").read_text(encoding="utf-8"))


def few_shots(photos: Sequence[Photo], shots: int, seed: int) -> list[Photo]:
    """CoOp's few shots: `shots` of each class in train, at most 4 of each in val, drawn by `seed`; all of test."""
    draw = random.Random(seed)
    kept = [photo for photo in photos if photo.split not in ("train", "val")]
    for split, count in (("train", shots), ("val", min(shots, VAL_SHOTS))):
        groups: dict[str, list[Photo]] = defaultdict(list)
        for photo in photos:
            if photo.split == split:
                groups[photo.key].append(photo)
        for group in groups.values():
            kept += draw.sample(group, min(count, len(group)))
    return kept


def speciarl(kind: str, photos: Sequence[Photo]) -> list[Photo]:
    """As many of the training photos as SpeciaRL trains on (3,000 of CUB, 500 of others), drawn as it draws: seed 42.

    Which photos these are depends on the order in which they are drawn from; ours is that of the archive's list.
    """
    train = [photo for photo in photos if photo.split == "train"]
    count = min(SPECIARL.get(kind, SPECIARL_MIXED), len(train))
    return random.Random(42).sample(train, count) + [photo for photo in photos if photo.split != "train"]


def coop_splits(file: Path, photos: Sequence[Photo]) -> list[Photo]:
    """The photos that CoOp's split file names (split_zhou_*.json), with its splits.

    Raises UserError for a file of another form, and when it names a photo that is not listed.
    """
    try:
        said = json.loads(file.read_text(encoding="utf-8"))
        rows = [(str(row[0]), SPLITS[split]) for split in ("train", "val", "test") for row in said[split]]
    except (OSError, ValueError, RecursionError, KeyError, TypeError, IndexError) as error:
        raise UserError(
            f"split_file must be JSON with lists [path, number, name] under train, val and test, but {file} is not "
            f"({type(error).__name__}: {error})"
        ) from error
    by_file: dict[str, Photo] = {}
    for photo in photos:  # with and without the folder that holds them all
        by_file[photo.file.partition("/")[2]] = by_file[photo.file] = photo
    if strange := [path for path, _ in rows if path not in by_file]:
        raise UserError(
            f"split_file must name photos of the benchmark, but {len(strange):,} of its {len(rows):,} are not listed, "
            f"such as {strange[0]!r}: give the file that belongs to it"
        )
    return [by_file[path]._replace(split=split) for path, split in rows]
