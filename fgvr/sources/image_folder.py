"""Where labelled pictures come from, before they are shards.

A benchmark's own layout (its image list, its split files, its class names) is one more subclass of `Source` here: it
names its records and its taxonomy, and all that follows (packing, streaming, training, judging) is already written.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from fgvr.errors import UserError
from fgvr.shards.manifest import Refusal
from fgvr.sources.base import (
    COHORTS,
    SPLITS,
    Record,
    Source,
    clean,
    known_label,
    printable,
    read_picture,
    read_taxonomy,
    stamp_of,
    unfit,
)
from fgvr.taxonomy.tree import Taxonomy

__all__ = ["CSV", "ImageFolder", "Record", "Refusal", "Source", "SourceGone"]

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"}
NOT_DATA = {".txt", ".md", ".csv", ".tsv", ".json", ".jsonl", ".yaml", ".yml"}
NOT_DATA_NAMES = {"thumbs.db", "desktop.ini"}
UNREADABLE = "the folder must be readable"


class SourceGone(UserError):
    """The pictures are not where the source was told to look: none of them can be read, whatever its other settings."""


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


class CSV(Source):
    """Pictures listed in a comma-separated file with the columns file and label, and if wanted split and cohort.

    Every other column is a taxonomy rank, coarse to fine in the order of the header, unless `ranks` names those that
    are; the rest then goes into the sample's json. `file` is relative to `root` (default: the csv's folder). UTF-8,
    quoted as RFC 4180 says; a row that cannot be used is refused by its line number. Labels stay strings, so "None" and
    "1e5" are labels.
    """

    OWN = ("file", "label", "split", "cohort")

    def __init__(
        self,
        file: Path,
        root: Path | None = None,
        taxonomy: Path | None = None,
        ranks: list[str] | None = None,
        dataset: str | None = None,
    ) -> None:
        self.file = Path(file)
        self.root = Path(root) if root is not None else self.file.parent
        self.taxonomy_file = Path(taxonomy) if taxonomy is not None else None
        self.ranks = ranks
        self.dataset = dataset or self.file.stem

    def describe(self) -> dict[str, Any]:
        return {"kind": "CSV", "dataset": self.dataset, "ranks": self._rank_columns}

    def taxonomy(self) -> Taxonomy:
        return self._taxonomy

    def records(self) -> Iterator[Record | Refusal]:
        base = self.root.resolve()
        found = [self._record(line, row, base) for line, row in self._rows]
        yield from sorted(found, key=lambda item: item.name if isinstance(item, Record) else item.sample)

    @cached_property
    def _table(self) -> tuple[dict[str, int], list[tuple[int, list[str]]]]:
        """The place of each column, and the rows with the number of the line on which each ends."""
        if not self.file.is_file():
            raise SourceGone(f"file must be a csv file, but {self.file} is not a file: give its path")
        try:
            with self.file.open(encoding="utf-8-sig", newline="") as stream:
                reader = csv.reader(stream, strict=True)
                try:
                    rows = [(reader.line_num, row) for row in reader if row]
                except csv.Error as error:
                    raise UserError(
                        f"{self.file} line {reader.line_num} must be proper csv, but {error}: mend it"
                    ) from error
        except UnicodeDecodeError as error:
            raise UserError(
                f"{self.file} must be UTF-8 text, but byte {error.start} is not: save it as UTF-8"
            ) from error
        header = [clean(column) for column in rows[0][1]] if rows else []
        if not {"file", "label"} <= set(header) or len(set(header)) != len(header) or len(rows) < 2:
            raise UserError(
                f"{self.file} line 1 must name the columns file and label, each once and parted by commas, with rows "
                f"below it; got {header} and {max(0, len(rows) - 1)} rows"
            )
        return {column: place for place, column in enumerate(header)}, rows[1:]

    @property
    def _columns(self) -> dict[str, int]:
        return self._table[0]

    @property
    def _rows(self) -> list[tuple[int, list[str]]]:
        return self._table[1]

    @cached_property
    def _rank_columns(self) -> list[str]:
        missing = sorted(set(self.ranks or ()) - set(self._columns))
        if missing:
            raise UserError(f"ranks must be columns of {self.file}, but {missing} are not among {list(self._columns)}")
        return list(self.ranks) if self.ranks is not None else [name for name in self._columns if name not in self.OWN]

    @cached_property
    def _finest_is_label(self) -> bool:
        """True when the last rank column repeats the label, as in order,family,species with species as the label."""
        if not self._rank_columns:
            return False
        last, label = self._columns[self._rank_columns[-1]], self._columns["label"]
        return all(row[last] == row[label] for _, row in self._rows if len(row) == len(self._columns))

    @cached_property
    def _taxonomy(self) -> Taxonomy:
        if self.taxonomy_file is not None:
            return read_taxonomy(self.taxonomy_file)
        paths: dict[str, tuple[str, ...]] = {}
        for _, row in self._rows:
            if len(row) == len(self._columns) and all(unfit(name) is None for name in self._path(row)):
                paths.setdefault(self._path(row)[-1], self._path(row))
        names = self._rank_columns if self._finest_is_label else [*self._rank_columns, "class"]
        return Taxonomy(dict(sorted(paths.items())), tuple(names))

    def _path(self, row: list[str]) -> tuple[str, ...]:
        ranks = self._rank_columns[:-1] if self._finest_is_label else self._rank_columns
        return tuple(clean(row[self._columns[column]]) for column in (*ranks, "label"))

    def _record(self, line: int, row: list[str], base: Path) -> Record | Refusal:
        where = f"{self.file.name} line {line}"
        if len(row) != len(self._columns):
            return Refusal(where, where, f"it must have {len(self._columns)} fields, but it has {len(row)}")
        cells = {column: clean(row[place]) for column, place in self._columns.items()}
        name, split, cohort = printable(cells["file"]), cells.get("split") or None, cells.get("cohort") or None
        file, climbs = _inside(self.root, row[self._columns["file"]].strip(), base)
        known = known_label(self._taxonomy, cells["label"])
        complaint = climbs or self._label_complaint(row, known)
        if split is not None and split.casefold() not in SPLITS:
            complaint = f"split must be one of {sorted(SPLITS)}, got {split!r}"
        if cohort is not None and cohort not in COHORTS:
            complaint = f"cohort must be one of {list(COHORTS)}, got {cohort!r}"
        if complaint is not None or known is None:
            return Refusal(where, name or where, f"{where}: {complaint}")
        extra = {column: cell for column, cell in cells.items() if column not in (*self._rank_columns, *self.OWN)}
        split = SPLITS[split.casefold()] if split is not None else None
        load, path = partial(read_picture, file, name), self._taxonomy.paths[known]
        return Record(name, known, path, split, cohort, load, extra, stamp_of(file))

    def _label_complaint(self, row: list[str], known: str | None) -> str | None:
        path = self._path(row)
        for text in path:
            if (complaint := unfit(text)) is not None:
                return complaint
        if known is None:
            return f"its label {path[-1]!r} is not a class of the taxonomy"
        before = self._taxonomy.paths[known]
        if self.taxonomy_file is None and before != path:
            return f"{known!r} stands under {list(path[:-1])} here and under {list(before[:-1])} before"
        return None


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


def _inside(root: Path, name: str, base: Path) -> tuple[Path, str | None]:
    """The file that a relative name means, and a complaint when it is none or lies outside `base`, links followed."""
    if not name or "\0" in name:
        return root, "file must name a picture, but it is empty or holds a NUL"
    try:
        file = root / name
        outside = not file.resolve().is_relative_to(base)
    except (OSError, RuntimeError, ValueError) as error:
        return root, f"file must be a usable path, but {error}"
    return file, f"its file climbs out of {root.name or 'the root'}" if outside else None


def _rank_names(given: list[str] | None, depth: int, what: str) -> tuple[str, ...]:
    if given is None:
        return (*(f"level {level}" for level in range(1, depth)), "class")
    if len(given) != depth:
        raise UserError(f"ranks must name the {depth} {what}, coarse to fine, got {len(given)}: {given}")
    return tuple(given)
