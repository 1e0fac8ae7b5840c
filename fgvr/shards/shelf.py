"""The records of a source on a shelf in a temporary file, and which of them goes into which split and shard."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from array import array
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple

from fgvr.shards.manifest import canonical_json
from fgvr.shards.temporary import Temporary
from fgvr.sources.base import PartnerRecord, PictureAt, Record

SPLIT_ORDER = ("train", "val", "test")
TABLES = """
    CREATE TABLE records (number INTEGER PRIMARY KEY, key TEXT UNIQUE, name TEXT, label TEXT, split TEXT, cohort TEXT,
                          partnered INTEGER, stamp TEXT, extra BLOB, file BLOB);
    CREATE TABLE cohorts (label TEXT PRIMARY KEY, cohort TEXT);
    CREATE TABLE drawn (number INTEGER PRIMARY KEY, split TEXT);
    CREATE TABLE left_out (number INTEGER PRIMARY KEY);
    CREATE TABLE planned (place INTEGER PRIMARY KEY, number INTEGER, split TEXT, cohort TEXT);
    CREATE VIEW placed AS
        SELECT number, name, label, coalesce(drawn.split, records.split, 'train') AS split, cohorts.cohort AS cohort
        FROM records JOIN cohorts USING (label) LEFT JOIN drawn USING (number);
"""
LEAVE_OUT = """
    INSERT INTO left_out SELECT number FROM (
        SELECT number, row_number() OVER (PARTITION BY label ORDER BY draw('shot', name)) AS shot
        FROM placed WHERE split = 'train') WHERE shot > ?
"""
ARRANGE = """
    INSERT INTO planned (number, split, cohort) SELECT number, split, cohort FROM placed
    WHERE number NOT IN left_out ORDER BY place_of(split), cohort, draw('order', name)
"""
ITEMS = """
    SELECT number, key, name, label, records.split, records.cohort, stamp, extra, file, planned.split, planned.cohort
    FROM planned JOIN records USING (number) WHERE place > ? AND place <= ? ORDER BY place
"""


@dataclass(frozen=True, slots=True)
class Item:
    """A record with its place: everything about a sample except its picture."""

    record: Record
    key: str
    split: str
    cohort: str


class Undealt(NamedTuple):
    """The records of one class by number, in an order that the seed draws.

    `free` are those to which the source gives no split, `train` those that it gives to train, without partners.
    """

    label: str
    free: Sequence[int]
    train: Sequence[int]


class Shelf:
    """Records, which come in one by one and in the end stand in the order of their shards, all of them on a disk.

    Where a photo's file lies is written there too; whatever else loads a photo stays in memory, and so do partners.
    `paths` are those of a taxonomy, by label; `seed` decides every order that is drawn.
    """

    def __init__(self, paths: Mapping[str, tuple[str, ...]], seed: int) -> None:
        self._paths = paths
        self._base = Temporary(TABLES)
        self._base.define("draw", 2, lambda purpose, name: draw(seed, purpose, name))
        self._base.define("place_of", 1, SPLIT_ORDER.index)
        self._loads: dict[int, Callable[[], bytes]] = {}
        self._partners: dict[int, tuple[PartnerRecord | None, PartnerRecord | None]] = {}

    def __len__(self) -> int:
        return self._base.ask("SELECT count(*) FROM records WHERE label NOT NULL").fetchone()[0]

    def put(self, record: Record, key: str) -> str | None:
        """Takes in a record whose label is in the taxonomy; why it cannot, where its key stands there already."""
        load, extra = record.load, canonical_json(dict(record.extra)) if record.extra else None
        file = os.fsencode(load.file) if isinstance(load, PictureAt) and load.name == record.name else None
        told = (record.name, record.label, record.split, record.cohort, bool(record.partners), record.stamp)
        row = (key, *told, extra, file)
        try:
            number = self._base.ask(f"INSERT INTO records VALUES (NULL{', ?' * len(row)})", row).lastrowid or 0
        except sqlite3.IntegrityError:
            return self._taken(record.name, key)
        if file is None:
            self._loads[number] = load
        if record.partners:
            self._partners[number] = record.positive, record.negative
        return None

    def bar(self, name: str, key: str) -> str | None:
        """Keeps a key from others, though its record is refused; why it cannot, where it stands there already."""
        try:
            self._base.ask("INSERT INTO records (key, name) VALUES (?, ?)", (key, name))
        except sqlite3.IntegrityError:
            return self._taken(name, key)
        return None

    def _taken(self, name: str, key: str) -> str:
        (other,) = self._base.ask("SELECT name FROM records WHERE key = ?", (key,)).fetchone()
        if other == name:
            return "two pictures must not have one name, but this one came before"
        return f"two pictures must not have one key, but {other} has it already"

    def labels(self) -> list[str]:
        """Every label that a record has, sorted."""
        found = self._base.ask("SELECT DISTINCT label FROM records WHERE label NOT NULL ORDER BY label")
        return [label for (label,) in found]

    def given_cohorts(self) -> Iterator[tuple[str, str, str]]:
        """Name, label and cohort of each record to which its source gives a cohort, by name."""
        yield from self._base.ask("SELECT name, label, cohort FROM records WHERE cohort NOT NULL ORDER BY name")

    def given_splits(self) -> set[str]:
        """The splits that the source names."""
        return {split for (split,) in self._base.ask("SELECT DISTINCT split FROM records WHERE split NOT NULL")}

    def classes(self) -> Iterator[Undealt]:
        """What splits are drawn from, class by class."""
        rows = self._base.ask(
            "SELECT label, number, split, partnered FROM records WHERE label NOT NULL "
            "ORDER BY label, draw('split', name)"
        )
        for label, group in groupby(rows, key=lambda row: row[0]):
            free, train = array("q"), array("q")
            for _, number, split, partnered in group:
                if split is None:
                    free.append(number)
                elif split == "train" and not partnered:
                    train.append(number)
            yield Undealt(label, free, train)

    def give(self, split: str, numbers: Iterable[int]) -> None:
        """Puts records into a split; those never put into one go where their source says, or to train."""
        for number in numbers:
            self._base.ask("INSERT OR REPLACE INTO drawn VALUES (?, ?)", (number, split))

    def arrange(self, cohorts: Mapping[str, str], shots: int | None) -> int:
        """Orders the records by split and cohort and then by the seed, with `shots` of each class to train on at most.

        Returns how many training records are left out for that: which ones depends on names and the seed alone, and a
        picture that turns out to be unreadable later is not replaced.
        """
        for label, cohort in cohorts.items():
            self._base.ask("INSERT INTO cohorts VALUES (?, ?)", (label, cohort))
        if shots is not None:
            self._base.ask(LEAVE_OUT, (shots,))
        self._base.ask(ARRANGE)
        return self._base.ask("SELECT count(*) FROM left_out").fetchone()[0]

    def groups(self) -> list[tuple[str, str, Shelved]]:
        """Once they are arranged, the items of each split and cohort that has any."""
        query = "SELECT split, cohort, min(place), count(*) FROM planned GROUP BY split, cohort ORDER BY min(place)"
        found = self._base.ask(query).fetchall()
        return [(split, cohort, Shelved(self, first - 1, count)) for split, cohort, first, count in found]

    def items(self, start: int, count: int) -> Iterator[Item]:
        """So many in their order, behind the first `start` of all."""
        for number, key, name, label, split, cohort, stamp, extra, file, *place in self._base.ask(
            ITEMS, (start, start + count)
        ):
            load = self._loads[number] if file is None else PictureAt(os.fsdecode(file), name)
            told: dict[str, Any] = {} if extra is None else json.loads(extra)
            partners = self._partners.get(number, (None, None))
            record = Record(name, label, self._paths[label], split, cohort, load, told, stamp, *partners)
            yield Item(record, key, *place)


@dataclass(frozen=True)
class Shelved(Collection[Item]):
    """Neighbours on a shelf; each is made when it is reached, and kept by nobody."""

    shelf: Shelf
    start: int
    count: int

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Item]:
        return self.shelf.items(self.start, self.count)

    def __contains__(self, item: object) -> bool:
        return any(item == one for one in self)

    def cut(self, size: int) -> Iterator[Shelved]:
        """Parts of so many, of which the last may be smaller."""
        for start in range(0, self.count, size):
            yield Shelved(self.shelf, self.start + start, min(size, self.count - start))


def draw(seed: int, purpose: str, name: str) -> bytes:
    """What looks random and depends on these three only, to sort by."""
    return hashlib.sha256(f"{seed}\0{purpose}\0{name}".encode()).digest()
