"""iNaturalist 2021 as its archives unpack."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fgvr.errors import UserError
from fgvr.sources.base import SourceGone, clean, unfit
from fgvr.sources.benchmark import Benchmark, Listing
from fgvr.sources.protocols import Photo
from fgvr.taxonomy.spelling import normalise

RANKS = ("kingdom", "phylum", "class", "order", "family", "genus", "species")
LISTS = (("train.json", "train"), ("train_mini.json", "train"), ("val.json", "val"))
Path_ = tuple[str, ...]


class INaturalist(Benchmark):
    """iNaturalist 2021: the folder with train/ and train.json, or train_mini/ and train_mini.json, and val/, val.json.

    The classes go by their scientific names and answer to their common names, where these are of one class only. The
    taxonomy is that of the JSON; of names that stand in several places of it (genera of animals and of plants) each has
    what is above it in brackets. train.json comes before train_mini.json.
    """

    KIND, NAME, ROOT = "INaturalist", "inaturalist", "living thing"

    def listing(self) -> Listing:
        lists = [(self.root / name, split) for name, split in LISTS if (self.root / name).is_file()]
        if not lists or lists[0][1] != "train":
            raise SourceGone(
                f"iNaturalist must have train.json or train_mini.json, but {self.root} has none: download it"
            )
        if [split for _, split in lists[:2]] == ["train", "train"]:
            del lists[1]
        categories: dict[str, Mapping[str, Any]] = {}
        photos: list[Photo] = []
        for file, split in lists:
            held = _read(file)
            categories |= {str(one["id"]): one for one in held["categories"]}
            names = {one["id"]: str(one["file_name"]) for one in held["images"]}
            photos += [
                Photo(names.get(one["image_id"], ""), str(one["category_id"]), split) for one in held["annotations"]
            ]
        order = sorted(categories, key=int)
        paths = told_apart({key: _lineage(categories[key]) for key in order}, self.ROOT)
        synonyms, dropped = _common_names({paths[key][-1]: categories[key].get("common_name") for key in order}, paths)
        said = (f"{dropped:,} common names are those of several classes and stand for none",) if dropped else ()
        return Listing(paths, photos, RANKS, synonyms, said=said)


def told_apart(lineages: Mapping[str, Path_], root: str) -> dict[str, Path_]:
    """The lineages, where of names that stand in several places each has what is above it in brackets."""
    places: dict[str, set[Path_]] = defaultdict(set)
    for lineage in lineages.values():
        for depth in range(1, len(lineage) + 1):
            places[normalise(lineage[depth - 1])].add(lineage[:depth])
    places[normalise(root)].add(())
    alike = {place for many in places.values() if len(many) > 1 for place in many if place}

    def name(place: Path_) -> str:
        return f"{place[-1]} ({name(place[:-1]) if len(place) > 1 else 'top'})" if place in alike else place[-1]

    return {
        key: tuple(name(lineage[:depth]) for depth in range(1, len(lineage) + 1)) for key, lineage in lineages.items()
    }


def _lineage(category: Mapping[str, Any]) -> Path_:
    above = [clean(str(category.get(rank) or "")) for rank in RANKS[:-1]]
    lineage = (*(name for name in above if name), clean(str(category.get("name") or "")))
    if complaint := next((why for name in lineage if (why := unfit(name))), None):
        raise UserError(f"category {category.get('id')} of iNaturalist must have a name at each rank, but {complaint}")
    return lineage


def _common_names(names: Mapping[str, Any], paths: Mapping[str, Path_]) -> tuple[dict[str, Path_], int]:
    """The common name of each class that has one for itself, and how many have not."""
    given = {label: clean(str(name)) for label, name in names.items() if name and unfit(clean(str(name))) is None}
    times = Counter(normalise(name) for name in given.values())
    nodes = {normalise(node) for path in paths.values() for node in path}
    own = {
        label: (name,)
        for label, name in given.items()
        if normalise(name) and times[normalise(name)] == 1 and normalise(name) not in nodes
    }
    return own, len(given) - len(own)


def _read(file: Path) -> dict[str, Sequence[Any]]:
    wanted = {"categories": ("id", "name"), "images": ("id", "file_name"), "annotations": ("image_id", "category_id")}
    try:
        held = json.loads(file.read_bytes())
        for name, keys in wanted.items():
            for one in held[name]:
                for key in keys:
                    one[key]
        for one in held["categories"]:
            int(one["id"])
    except (OSError, ValueError, RecursionError, KeyError, TypeError) as error:
        raise UserError(
            f"{file} must be JSON with lists of categories, images and annotations, but it is not "
            f"({type(error).__name__}: {error}): download it again"
        ) from error
    return held
