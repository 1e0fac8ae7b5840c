"""Pictures in folders that are named after their classes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from fgvr.errors import UserError
from fgvr.sources.base import (
    SPLITS,
    Record,
    Refusal,
    Source,
    SourceGone,
    clean,
    known_label,
    printable,
    read_picture,
    unfit,
)
from fgvr.taxonomy.reading import read_taxonomy
from fgvr.taxonomy.tree import Taxonomy

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"}
NOT_DATA = {".txt", ".md", ".csv", ".tsv", ".json", ".jsonl", ".yaml", ".yml"}
NOT_DATA_NAMES = {"thumbs.db", "desktop.ini"}
UNREADABLE = "the folder must be readable"


class ImageFolder(Source):
    """Pictures in folders named after their classes: root/class/x.jpg or root/split/class/x.jpg.

    Folders between are taxonomy ranks, coarse to fine, when all pictures lie equally deep (root/family/genus/class);
    else the last folder alone is the class. `taxonomy` is a yaml file with root, ranks, paths and synonyms (default:
    root/taxonomy.yaml where there is one); a folder may then go by any spelling or synonym of a class in it. `ranks`
    names the folder levels, the class level last. `splits` says whether the top folders are splits; by default they are
    when all of them are called so. Hidden files and text files are passed over; any other file that is not an image is
    refused, and so are links out of the root. Nothing is looked for before it is asked for: a run on shards that are
    there already needs no pictures.
    """

    def __init__(
        self,
        root: Path,
        taxonomy: Path | None = None,
        ranks: list[str] | None = None,
        splits: bool | None = None,
        dataset: str | None = None,
    ) -> None:
        self.root = Path(root)
        self.walked = self.root
        beside = self.root / "taxonomy.yaml"
        self.taxonomy_file = Path(taxonomy) if taxonomy is not None else beside if beside.is_file() else None
        self.ranks = ranks
        self.splits = splits
        self.dataset = dataset or self.root.resolve().name or "pictures"

    def describe(self) -> dict[str, Any]:
        return {"kind": "ImageFolder", "dataset": self.dataset, "splits": self._has_splits, "ranks": self.ranks}

    def taxonomy(self) -> Taxonomy:
        return self._taxonomy

    def records(self) -> Iterator[Record | Refusal]:
        for name, found in self._files:
            yield found if isinstance(found, Refusal) else self._record(name, found)

    @cached_property
    def _files(self) -> list[tuple[str, Path | Refusal]]:
        """Every file that counts, by its name relative to the root, sorted; NFC, so that all systems agree."""
        if not self.root.is_dir():
            raise SourceGone(f"root must be a folder of pictures, but {self.root} is not a folder: give its path")
        found: list[tuple[str, Path | Refusal]] = []
        for path, reason in walk(self.root, self.root.resolve()):
            name = printable(path.relative_to(self.root).as_posix())
            if reason is not None and reason.startswith(UNREADABLE):  # nobody knows how many pictures lie in it
                complaint = f"{printable(str(path))}: {reason}: change its permissions or move it out of {self.root}"
                raise SourceGone(complaint) if path == self.root else UserError(complaint)
            found.append((name, path if reason is None else Refusal(name, name, reason)))
        if not found:
            raise SourceGone(f"root must hold pictures in class folders, but {self.root} holds none: check the path")
        return sorted(found, key=lambda item: item[0])

    @cached_property
    def _places(self) -> dict[str, tuple[str, ...]]:
        """The folders above each picture, by its name."""
        return {name: tuple(name.split("/")[:-1]) for name, found in self._files if isinstance(found, Path)}

    @cached_property
    def _has_splits(self) -> bool:
        if self.splits is not None:
            return self.splits
        deep = {place[0] for place in self._places.values() if len(place) >= 2}
        flat = {place[0] for place in self._places.values() if len(place) == 1}
        named = {top for top in deep if top.casefold() in SPLITS}
        others = sorted((deep | flat) - named)
        if named and others:
            raise UserError(
                f"either all top folders of {self.root} are splits or none is, but {sorted(named)} are named like "
                f"splits and {others[:5]} are not: move them, or set splits to true or false"
            )
        return bool(named)

    @cached_property
    def _depth(self) -> int:
        """How many folders name the class: the depth of all pictures, or 1 when it varies."""
        depths = {len(place) - self._has_splits for place in self._places.values()} - {0, -1}
        return depths.pop() if len(depths) == 1 else 1

    @cached_property
    def _taxonomy(self) -> Taxonomy:
        if self.taxonomy_file is not None:
            return read_taxonomy(self.taxonomy_file)
        paths: dict[str, tuple[str, ...]] = {}
        whole: dict[str, tuple[str, ...]] = {}
        for place in sorted(set(self._places.values())):
            folders = place[int(self._has_splits) :]
            if not folders or unfit(clean(folders[-1])):
                continue
            label, path = clean(folders[-1]), tuple(map(clean, folders[-self._depth :]))
            if whole.setdefault(label, folders) != folders:
                raise UserError(
                    f"a class must have one folder in each split, but {label!r} lies under {'/'.join(whole[label])} "
                    f"and {'/'.join(folders)}: rename one of the folders"
                )
            paths[label] = path
        return Taxonomy(paths, _rank_names(self.ranks, self._depth, "folder levels"))

    def _record(self, name: str, path: Path) -> Record | Refusal:
        place = self._places[name]
        split = None
        if self._has_splits:
            split = SPLITS.get(place[0].casefold()) if place else None
            if split is None:
                return Refusal(name, name, f"it must lie in one of the split folders {sorted(set(SPLITS))}")
        folders = place[int(self._has_splits) :]
        if not folders:
            return Refusal(name, name, "it must lie in a class folder, but it lies above them")
        label = clean(folders[-1])
        if (complaint := unfit(label)) is not None:
            return Refusal(name, name, complaint)
        known = known_label(self._taxonomy, label)
        if known is None:
            return Refusal(name, name, f"its folder {label!r} is not a class of the taxonomy")
        stamp = str(path.stat().st_size)
        return Record(
            name, known, self._taxonomy.paths[known], split, None, partial(read_picture, path, name), {}, stamp
        )


def walk(folder: Path, base: Path) -> Iterator[tuple[Path, str | None]]:
    """Files below a folder with the reason to refuse each, or None. Linked folders are not entered."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        os.stat(f"{folder}/.")  # a folder may be listed without the right to open what is in it
    except OSError as error:
        yield folder, f"{UNREADABLE}, but {error.strerror}"
        return
    for entry in entries:
        path = Path(entry.path)
        if entry.name.startswith(".") or entry.name.casefold() in NOT_DATA_NAMES:
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from walk(path, base)
        elif entry.is_symlink() and not path.resolve().is_relative_to(base):
            yield path, "it is a link that climbs out of the root"
        elif entry.is_dir():
            yield path, "linked folders are not followed: link or copy the files"
        elif path.suffix.casefold() in NOT_DATA:
            continue
        elif path.suffix.casefold() not in IMAGE_SUFFIXES:
            yield path, f"it must be an image file, but its suffix is {printable(path.suffix)!r}"
        else:
            yield path, None if entry.is_file() else "it must be a regular file, but it is not"


def _rank_names(given: list[str] | None, depth: int, what: str) -> tuple[str, ...]:
    if given is None:
        return (*(f"level {level}" for level in range(1, depth)), "class")
    if len(given) != depth:
        raise UserError(f"ranks must name the {depth} {what}, coarse to fine, got {len(given)}: {given}")
    return tuple(given)
