"""Folders whose photos are described in metadata.csv or metadata.jsonl, as Hugging Face's ImageFolder takes them."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from fgvr.errors import UserError
from fgvr.sources.base import (
    SPLITS,
    PictureAt,
    Record,
    Refusal,
    Source,
    SourceGone,
    clean,
    printable,
    stamp_of,
    unfit,
)
from fgvr.sources.token_ids import refuse_token_ids
from fgvr.sources.walking import inside, without_links
from fgvr.taxonomy.reading import read_taxonomy
from fgvr.taxonomy.tree import Taxonomy

FILES = ("metadata.csv", "metadata.jsonl")
LABELS = ("label", "class", "class_name", "species", "category", "name", "answer")  # what a column of names is called
TEXTS = ("response", "question", "system", "options")  # what tasks read


class MetadataFolder(Source):
    """Photos described by `root`/metadata.csv (or .jsonl), or by one in each of root's folders train, test and so on.

    Each row has `file_name`, relative to the table's folder, and a label under `label`; by default under the first of
    label, class, class_name, species, category, name and answer that is a column, and without any the label is the
    folder that the photo is in. The split is that of the first folder that is named like one. Other columns go into the
    samples. `taxonomy` is a yaml file as for ImageFolder; without one the labels are a list. Labels that are numbers
    alone are refused, as nobody can be taught them. `dataset` is what the set is called (default: as the folder).
    """

    def __init__(
        self, root: Path, label: str | None = None, taxonomy: Path | None = None, dataset: str | None = None
    ) -> None:
        self.root = Path(root)
        self.walked = self.root
        self.label = label
        self.taxonomy_file = Path(taxonomy) if taxonomy is not None else None
        self.dataset = dataset or without_links(self.root).name or "pictures"

    def describe(self) -> dict[str, Any]:
        return {"kind": "MetadataFolder", "dataset": self.dataset, "label": self.label}

    def taxonomy(self) -> Taxonomy:
        return self._taxonomy

    def records(self) -> Iterator[Record | Refusal]:
        base, _ = without_links(self.root), self._taxonomy
        for where, table, row in sorted(self._rows, key=lambda place: self._name_of(*place)):
            yield self._record(where, table, row, base)

    @cached_property
    def _rows(self) -> list[tuple[str, Path, Mapping[str, Any]]]:
        """Each row with its place for a message and its table."""
        if not self.root.is_dir():
            raise SourceGone(f"root must be a folder of pictures, but {self.root} is not a folder: give its path")
        tables = metadata_files(self.root)
        if not tables:
            raise SourceGone(f"{self.root} must hold metadata.csv or metadata.jsonl, itself or in a folder per split")
        rows: list[tuple[str, Path, Mapping[str, Any]]] = []
        for table in tables:
            name = table.relative_to(self.root).as_posix()
            read = _of_csv if table.suffix == ".csv" else _of_lines
            rows += [(f"{name} line {line}", table, row) for line, row in read(table)]
        if not rows:
            raise UserError(f"{tables[0]} must hold rows with file_name, but it holds none: fill it in")
        return rows

    @cached_property
    def _label_column(self) -> str | None:
        columns = list(dict.fromkeys(name for _, _, row in self._rows for name in row))
        refuse_token_ids(f"the metadata of {self.root}", columns)
        if "file_name" not in columns:
            raise UserError(f"the metadata of {self.root} must have the column file_name, got {columns}: rename one")
        if self.label is not None and self.label not in columns:
            raise UserError(f"label must be a column of the metadata of {self.root}, got {self.label!r} of {columns}")
        return self.label or next((name for name in LABELS if name in columns), None)

    @cached_property
    def _taxonomy(self) -> Taxonomy:
        if self.taxonomy_file is not None:
            return read_taxonomy(self.taxonomy_file)
        labels = {label for _, table, row in self._rows if unfit(label := self._label_of(table, row)) is None}
        if labels and all(label.isdecimal() for label in labels):
            raise UserError(
                f"a label must be a name, but those of {self.root} are numbers, such as {min(labels)!r}: name the "
                "column of names with label, or give a taxonomy whose synonyms are the numbers"
            )
        if not labels:
            raise UserError(
                f"the metadata of {self.root} must have a column of labels, but it has {sorted(self._rows[0][2])} and "
                "the photos lie in no class folders: name the column with label"
            )
        return Taxonomy.flat(sorted(labels))

    def _label_of(self, table: Path, row: Mapping[str, Any]) -> str:
        if self._label_column is not None:
            value = row.get(self._label_column)
            return clean(value) if isinstance(value, str) else "" if value is None else clean(str(value))
        folders = [clean(part) for part in self._relative(table, row).split("/")[:-1]]
        return folders[-1] if folders and folders[-1].casefold() not in SPLITS else ""

    def _relative(self, table: Path, row: Mapping[str, Any]) -> str:
        """The photo's path relative to the root."""
        folder = table.parent.relative_to(self.root).as_posix()
        return f"{'' if folder == '.' else f'{folder}/'}{row.get('file_name') or ''}"

    def _name_of(self, where: str, table: Path, row: Mapping[str, Any]) -> str:
        """The photo that a row names, else where it stands."""
        return printable(self._relative(table, row)) if _names_a_photo(row) else where

    def _record(self, where: str, table: Path, row: Mapping[str, Any], base: Path) -> Record | Refusal:
        if not _names_a_photo(row):
            return Refusal(where, where, f"{where}: it must have file_name and no more fields than there are columns")
        path = self._relative(table, row)
        label, taxonomy = self._label_of(table, row), self._taxonomy
        file, climbs = inside(self.root, path, base)
        complaint = climbs or unfit(label)
        known = self.known(label) if complaint is None else None
        if known is None:
            said = complaint or f"its label {label!r} is not a class of the taxonomy"
            return Refusal(where, printable(path), f"{where}: {said}")
        split = next((SPLITS[part.casefold()] for part in path.split("/")[:-1] if part.casefold() in SPLITS), None)
        own = ("file_name", self._label_column)
        extra = {name: value for name, value in row.items() if name not in own and not (name in TEXTS and not value)}
        name = printable(path)
        load = PictureAt(str(file), name)
        return Record(name, known, taxonomy.paths[known], split, None, load, extra, stamp_of(file))


def _names_a_photo(row: Mapping[str, Any]) -> bool:
    return None not in row and isinstance(row.get("file_name"), str) and bool(row["file_name"])


def metadata_files(root: Path) -> list[Path]:
    """The table of a folder, or those of its folders, sorted; where a folder has both kinds the csv."""
    folders = [root, *sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))]
    found = [next((folder / name for name in FILES if (folder / name).is_file()), None) for folder in folders]
    return [found[0]] if found[0] is not None else [table for table in found if table is not None]


def _of_csv(table: Path) -> list[tuple[int, dict[str, Any]]]:
    try:
        with table.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, strict=True, restval="")
            rows = [(reader.line_num, row) for row in reader]
    except (OSError, csv.Error, ValueError) as error:
        raise UserError(f"{table} must be proper csv in UTF-8, but {error}: mend it") from error
    return rows


def _of_lines(table: Path) -> list[tuple[int, dict[str, Any]]]:
    rows: list[tuple[int, dict[str, Any]]] = []
    try:
        for number, line in enumerate(table.read_text(encoding="utf-8").split("\n"), 1):
            if line.strip():
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise ValueError(f"line {number} is no object")
                rows.append((number, row))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{table} must hold a JSON object a line, but {error}: mend it") from error
    return rows
