"""Pictures listed in a table."""

from __future__ import annotations

import csv
from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from fgvr.errors import UserError
from fgvr.sources.base import (
    COHORTS,
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
from fgvr.sources.rank_columns import rank_columns
from fgvr.sources.token_ids import refuse_token_ids
from fgvr.sources.walking import inside, without_links
from fgvr.taxonomy.reading import read_taxonomy
from fgvr.taxonomy.tree import Taxonomy


class CSV(Source):
    """Pictures listed in a comma-separated file with the columns file and label, and if wanted split and cohort.

    `ranks` names the columns that are taxonomy ranks, coarse to fine; by default those are that form a tree above the
    labels. The others go into the sample's json: a `response` (<think>…</think><answer>…</answer>) is what fine-tuning
    teaches to say where the task's `think` is true. `file` is relative to `root` (default: the csv's folder).
    `taxonomy` is a yaml file as for ImageFolder. UTF-8, quoted as RFC 4180 says; a row that cannot be used is refused
    by its line number. Labels stay strings, so "None" and "1e5" are labels.
    """

    OWN = ("file", "label", "split", "cohort")
    TEXT = ("response", "options")  # what a task reads; never a rank unless `ranks` names it

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

    def remarks(self) -> list[str]:
        others = [name for name in self._columns if name not in (*self._rank_columns, *self.OWN)]
        if self.ranks is not None or self.taxonomy_file is not None or not others:
            return []
        texts = [name for name in others if name in self.TEXT]
        return [
            f"columns of {self.file} that go into the samples and are no ranks: {', '.join(others)}"
            + ("" if texts == others else "; name those that are ranks, coarse to fine, with ranks")
        ]

    def records(self) -> Iterator[Record | Refusal]:
        base = without_links(self.root)
        for line, row in sorted(self._rows, key=self._name_of):
            yield self._record(line, row, base)

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
        refuse_token_ids(self.file, header)
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
        if self.ranks is not None:
            if strange := [name for name in self.ranks if unfit(name)]:
                raise UserError(
                    f"the name of a rank must be fit for a label, but {strange[0]!a} is not: rename the column"
                )
            return list(self.ranks)
        names = [name for name in self._columns if name not in (*self.OWN, *self.TEXT) and unfit(name) is None]
        labels = [clean(row[self._columns["label"]]) for row in self._whole_rows]
        return rank_columns(
            labels, {name: [clean(row[self._columns[name]]) for row in self._whole_rows] for name in names}
        )

    @cached_property
    def _whole_rows(self) -> list[list[str]]:
        """The rows that have every field, and a label."""
        rows = [row for _, row in self._rows if len(row) == len(self._columns)]
        return [row for row in rows if unfit(clean(row[self._columns["label"]])) is None]

    @cached_property
    def _finest_is_label(self) -> bool:
        """True when the last rank column repeats the label, as in order,family,species with species as the label."""
        if not self._rank_columns:
            return False
        last, label = self._columns[self._rank_columns[-1]], self._columns["label"]
        return all(clean(row[last]) == clean(row[label]) for row in self._whole_rows)

    @cached_property
    def _taxonomy(self) -> Taxonomy:
        if self.taxonomy_file is not None:
            return read_taxonomy(self.taxonomy_file)
        said: dict[str, Counter[tuple[str, ...]]] = defaultdict(Counter)
        for row in self._whole_rows:
            path = self._path(row)
            if all(unfit(name) is None for name in path):
                said[path[-1]][path] += 1
        names = self._rank_columns if self._finest_is_label else [*self._rank_columns, "class"]
        return Taxonomy({label: paths.most_common(1)[0][0] for label, paths in sorted(said.items())}, tuple(names))

    def _path(self, row: list[str]) -> tuple[str, ...]:
        ranks = self._rank_columns[:-1] if self._finest_is_label else self._rank_columns
        return tuple(clean(row[self._columns[column]]) for column in (*ranks, "label"))

    def _name_of(self, numbered: tuple[int, list[str]]) -> str:
        """The file that a row names, else where it stands."""
        line, row = numbered
        named = printable(clean(row[self._columns["file"]])) if len(row) == len(self._columns) else ""
        return named or f"{self.file.name} line {line}"

    def _record(self, line: int, row: list[str], base: Path) -> Record | Refusal:
        where, name = f"{self.file.name} line {line}", self._name_of((line, row))
        if len(row) != len(self._columns):
            return Refusal(where, where, f"it must have {len(self._columns)} fields, but it has {len(row)}")
        cells = {column: clean(row[place]) for column, place in self._columns.items()}
        split, cohort = cells.get("split") or None, cells.get("cohort") or None
        file, climbs = inside(self.root, row[self._columns["file"]].strip(), base)
        known = self.known(cells["label"])
        complaint = climbs or self._label_complaint(row, known)
        if split is not None and split.casefold() not in SPLITS:
            complaint = f"split must be one of {sorted(SPLITS)}, got {split!r}"
        if cohort is not None and cohort not in COHORTS:
            complaint = f"cohort must be one of {list(COHORTS)}, got {cohort!r}"
        if complaint is not None or known is None:
            return Refusal(where, name, f"{where}: {complaint}")
        extra = {column: cell for column, cell in cells.items() if column not in (*self._rank_columns, *self.OWN)}
        if not extra.get("response", True):
            del extra["response"]  # an empty cell is no response
        split = SPLITS[split.casefold()] if split is not None else None
        load, path = PictureAt(str(file), name), self._taxonomy.paths[known]
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
            return f"{known!r} stands under {list(path[:-1])} here and under {list(before[:-1])} elsewhere"
        return None
