"""What a source yields: one labelled picture after another, and the rules that its names and labels must keep.

A benchmark's own layout (its image list, its split files, its class names) is one more subclass of `Source`: it names
its records and its taxonomy, and all that follows (packing, streaming, training, judging) is already written.
"""

from __future__ import annotations

import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fgvr.errors import SampleError, UserError, shown, unseen
from fgvr.taxonomy.tree import Taxonomy

SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
COHORTS = ("seen", "unseen", "base", "novel")
TRAINED_COHORTS, HELD_OUT_COHORTS = ("seen", "base"), ("unseen", "novel")
MAX_BYTES = 256 * 2**20  # no photo is larger; a disk image renamed to .jpg is


class SourceGone(UserError):
    """The pictures are not where the source was told to look: none of them can be read, whatever its other settings."""


@dataclass(frozen=True, slots=True)
class PartnerRecord:
    """A positive or a negative that stands beside a record, not yet read.

    `label` is empty where it is unknown. `load` returns one or more encoded images and raises SampleError.
    """

    name: str
    label: str
    load: Callable[[], tuple[bytes, ...]]


@dataclass(frozen=True, slots=True)
class Record:
    """One labelled picture, not yet read. `name` is unique in its source and appears in every message about it.

    `path` runs from the coarsest rank to the label. `split` (train, val, test) and `cohort` (seen, unseen, base, novel)
    are None when the source does not say. `load` returns the encoded image and raises SampleError. `extra` goes
    into the sample's json. `stamp` is something cheap that changes when the picture does, such as its size in bytes.
    A record with a `positive` or a `negative` is one to train on, whatever splits are drawn.
    """

    name: str
    label: str
    path: tuple[str, ...]
    split: str | None
    cohort: str | None
    load: Callable[[], bytes]
    extra: Mapping[str, Any] = field(default_factory=dict)
    stamp: str = ""
    positive: PartnerRecord | None = None
    negative: PartnerRecord | None = None

    @property
    def partners(self) -> dict[str, PartnerRecord]:
        """The partners that it has, by the name of their view ("pos", "neg")."""
        return {view: one for view, one in (("pos", self.positive), ("neg", self.negative)) if one is not None}


@dataclass(frozen=True)
class Refusal:
    """A sample that was left out. `file` is where it comes from, `sample` its name, `reason` half a sentence."""

    file: str
    sample: str
    reason: str

    def __str__(self) -> str:
        return shown(f"{self.sample or self.file}: {self.reason}")


class Source(ABC):
    """Labelled pictures under the name `dataset`. A new layout is a subclass that has these three methods.

    `walked` is the folder whose whole contents are the source, if there is one: shards are not written into it.
    `read_as` finds the class of a label that is not written as any is (see `Respelt`).
    """

    dataset: str
    walked: Path | None = None
    read_as: Callable[[str], str | None] | None = None

    def read_labels_by(self, find: Callable[[str], str | None]) -> None:
        """From now on a label that is not written as any class is may be one that `find` gives."""
        self.read_as = find

    def known(self, label: str) -> str | None:
        """The class that a label is written for: as `known_label` has it, else by `read_as`, where that is set."""
        known = known_label(self.taxonomy(), label)
        return known if known is not None or self.read_as is None else self.read_as(label)

    @abstractmethod
    def taxonomy(self) -> Taxonomy:
        """Every class that a record may carry, with its path."""

    @abstractmethod
    def records(self) -> Iterator[Record | Refusal]:
        """All pictures, in an order that depends on their names only; a Refusal for each known to be unusable."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """What the manifest says of the source: JSON that tells two apart, with nothing of the machine in it."""

    def remarks(self) -> list[str]:
        """Sentences for whoever is about to pack it: what is there and was not taken as it might have been meant."""
        return []


def read_picture(file: Path, name: str) -> bytes:
    """The bytes of one file. Raises SampleError when it is missing, unreadable, no regular file or over 256 MiB."""
    try:
        if not file.is_file():
            raise SampleError(f"{name} must be a file, but {'is a folder' if file.is_dir() else 'there is none'}")
        if file.stat().st_size > MAX_BYTES:
            raise SampleError(f"{name} must be a file of at most {MAX_BYTES >> 20} MiB, but it is larger")
        return file.read_bytes()
    except SampleError:
        raise
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SampleError(f"{name} must be a readable file, but it is not ({reason})") from error


@dataclass(frozen=True, slots=True)
class PictureAt:
    """Loads a record's picture from the file at a path: with a million of them, what each takes of memory counts."""

    file: str
    name: str

    def __call__(self) -> bytes:
        """As `read_picture`."""
        return read_picture(Path(self.file), self.name)


def stamp_of(file: Path) -> str:
    """The size of a file in bytes, as a stamp for its record."""
    try:
        return str(file.stat().st_size)
    except (OSError, ValueError):
        return "missing"


def known_label(taxonomy: Taxonomy, label: str) -> str | None:
    """The class that goes by this label, spelt as the taxonomy spells it; None for an unknown one or an inner node."""
    if label in taxonomy.paths:
        return label
    node = taxonomy.find(label)
    return node if node in taxonomy.paths else None


def clean(text: str) -> str:
    """NFC without blanks around it, so that two spellings of one name are one name on every system."""
    return unicodedata.normalize("NFC", text).strip()


def printable(name: str) -> str:
    """A file name as it can be shown and stored: NFC, and what is not seen or no UTF-8 is written as escapes."""
    return unicodedata.normalize("NFC", shown(name))


def unfit(label: str) -> str | None:
    """Why a name cannot be a label, or None: it is empty, too long, or holds line breaks or direction marks."""
    if not label or len(label) > 200:
        return f"a label must have 1 to 200 characters, but it has {len(label)}"
    if any(map(unseen, label)):
        return f"a label must hold no control characters, but it is {label!a}"
    return None
