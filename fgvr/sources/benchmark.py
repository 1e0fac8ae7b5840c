"""A benchmark as its archive unpacks: what each layout has in common, and the protocols that papers follow on it."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from fgvr.errors import UserError, refuse_below
from fgvr.sources.base import PictureAt, Record, Refusal, Source, SourceGone, clean, printable, stamp_of
from fgvr.sources.protocols import Classes, Photo, Train, base_novel, coop_splits, few_shots, fine_r1, speciarl
from fgvr.sources.walking import inside, without_links
from fgvr.taxonomy.tree import Taxonomy


@dataclass(frozen=True)
class Listing:
    """What a benchmark's files say: the path of each class by its key, in the benchmark's order, and its photos.

    `synonyms` are those of the taxonomy, `extra` what goes into the samples of a class, `said` sentences for whoever
    packs it, `strange` pictures that are listed under no class.
    """

    paths: Mapping[str, tuple[str, ...]]
    photos: list[Photo]
    ranks: tuple[str, ...] = ("class",)
    synonyms: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    extra: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    said: tuple[str, ...] = ()


class Benchmark(Source):
    """A benchmark in the folder `root`, with its official splits and its own classes.

    `classes` says which are held out: none (all), the second half (base-novel, as CoOp halves them, in the benchmark's
    own order), or Fine-R1's unseen ones (fine-r1). `train` keeps all training photos or as many as SpeciaRL (3,000 of
    CUB, 500 of others, drawn by its seed). `shots` keeps that many training photos of each class, and at most 4 for
    validation, drawn by `seed` (CoOp's few-shot protocol). `split_file` is one of CoOp's split_zhou_*.json, whose
    splits then stand for the official ones. `dataset` is what the set is called.
    """

    KIND, NAME, ROOT = "", "", "thing"  # the class, what the set is called, what everything in it is

    def __init__(
        self,
        root: Path,
        classes: Classes = "all",
        train: Train = "all",
        shots: int | None = None,
        seed: int = 0,
        split_file: Path | None = None,
        dataset: str | None = None,
    ) -> None:
        refuse_below(1, type(self).__name__, shots=shots)
        if classes not in ("all", "base-novel", "fine-r1"):
            raise UserError(f"classes must be all, base-novel or fine-r1, got {classes!r}")
        if train not in ("all", "speciarl"):
            raise UserError(f"train must be all or speciarl, got {train!r}")
        if train == "speciarl" and shots is not None:
            raise UserError(f"train speciarl and shots both choose the training photos, got shots {shots}: drop one")
        self.root = Path(root)
        self.walked = self.root
        self.classes, self.train, self.shots, self.seed = classes, train, shots, seed
        self.split_file = Path(split_file) if split_file is not None else None
        self.dataset = dataset or self.NAME

    @abstractmethod
    def listing(self) -> Listing:
        """Reads the benchmark's lists. Raises UserError where they are not what they must be."""

    def describe(self) -> dict[str, Any]:
        asked = {"classes": (self.classes, "all"), "train": (self.train, "all"), "shots": (self.shots, None)}
        drawn = {"seed": self.seed} if self.shots is not None else {}
        file = {"split_file": self.split_file.name} if self.split_file is not None else {}
        changed = {name: value for name, (value, usual) in asked.items() if value != usual}
        return {"kind": self.KIND, "dataset": self.dataset, **changed, **drawn, **file}

    def taxonomy(self) -> Taxonomy:
        return self._taxonomy

    def records(self) -> Iterator[Record | Refusal]:
        base = without_links(self.root)
        times = Counter(photo.file for photo in self._photos)
        for photo in sorted(self._photos):
            name = printable(photo.file)
            file, climbs = inside(self.root, photo.file, base)
            path = self._listing.paths.get(photo.key)
            if path is None:
                climbs = f"its class {photo.key!r} is not in the benchmark's list of classes"
            elif times[photo.file] > 1:
                climbs = f"it is listed {times[photo.file]} times"
            if path is None or climbs is not None:
                yield Refusal(name, name, climbs or "")
                continue
            extra, cohort = self._listing.extra.get(photo.key, {}), self._cohorts.get(photo.key)
            load = PictureAt(str(file), name)
            yield Record(name, path[-1], path, photo.split, cohort, load, dict(extra), stamp_of(file))

    def remarks(self) -> list[str]:
        left = len(self._listing.photos) - len(self._photos)
        protocol = [name for name in ("train", "shots", "split_file") if getattr(self, name) not in ("all", None)]
        return [
            *self._listing.said,
            *([f"{left:,} photos of {self.dataset} are left out by {' and '.join(protocol)}"] if left else []),
        ]

    @cached_property
    def _listing(self) -> Listing:
        if not self.root.is_dir():
            raise SourceGone(f"root must be the folder of {self.NAME}, but {self.root} is not a folder: give its path")
        return self.listing()

    @cached_property
    def _taxonomy(self) -> Taxonomy:
        paths = {path[-1]: path for path in self._listing.paths.values()}
        if len(paths) < len(self._listing.paths):
            twice = [name for name, n in Counter(path[-1] for path in self._listing.paths.values()).items() if n > 1]
            raise UserError(
                f"classes of {self.root} must differ in their names, but {twice[:3]} stand twice: mend them"
            )
        return Taxonomy(paths, self._listing.ranks, self.ROOT, self._listing.synonyms)

    @cached_property
    def _cohorts(self) -> dict[str, str]:
        if self.classes == "base-novel":
            return base_novel(list(self._listing.paths))
        if self.classes == "fine-r1":
            synonyms = self._listing.synonyms
            names = {
                key: (path[-1], f"{path[0]} {path[-1]}", *synonyms.get(path[-1], ()))
                for key, path in self._listing.paths.items()
            }
            return fine_r1(self.KIND, names)
        return {}

    @cached_property
    def _photos(self) -> list[Photo]:
        photos = self._listing.photos
        if self.split_file is not None:
            photos = coop_splits(self.split_file, photos)
        if self.train == "speciarl":
            photos = speciarl(self.KIND, photos)
        if self.shots is not None:
            photos = few_shots(photos, self.shots, self.seed)
        return photos


def read_lines(file: Path) -> list[str]:
    """The lines of a benchmark's list, without blank ones. Raises SourceGone when it is missing, UserError when it is
    not UTF-8."""
    if not file.is_file():
        raise SourceGone(f"the benchmark must have its list {file.name}, but {file} is not a file: unpack it whole")
    try:
        return [line for line in map(clean, file.read_text(encoding="utf-8").split("\n")) if line]
    except ValueError as error:
        raise UserError(f"{file} must be UTF-8 text, but it is not: {error}") from error


def read_columns(file: Path, count: int) -> list[list[str]]:
    """The lines of a list as fields parted by blanks, of which the last takes the rest of its line.

    Raises UserError for a line with fewer than `count` fields, by its number.
    """
    rows = [line.split(None, count - 1) for line in read_lines(file)]
    for number, row in enumerate(rows, 1):
        if len(row) != count:
            raise UserError(f"{file} line {number} must have {count} fields, got {' '.join(row)!r:.100}: mend it")
    return rows
