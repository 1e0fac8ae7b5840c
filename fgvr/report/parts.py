"""The parts of a report: each is there where a run has what it tells of, else one line says what would bring it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from fgvr.pictures.tables import Table
from fgvr.report.plots import Plot

Kind = Literal["plain", "gallery", "cards"]


@dataclass(frozen=True)
class Deck:
    """Something that is leafed through: `kind` says what the cards of `data` look like, `run` whose photos they show.

    `title` stands above it, `said` below that.
    """

    kind: Kind
    data: Mapping[str, Any]
    run: int = 0
    title: str = ""
    said: str = ""


@dataclass(frozen=True)
class Listing:
    """Text that is long, folded away under its title."""

    title: str
    text: str


@dataclass(frozen=True)
class Tile:
    """A figure at a glance; `change` says how it moved, `tone` whether that is good."""

    value: str
    name: str
    change: str = ""
    tone: Literal["", "good", "bad"] = ""


@dataclass(frozen=True)
class Part:
    """A heading and what stands under it; `key` is its address on the page. `absent` says why there is nothing."""

    key: str
    title: str
    said: Sequence[str] = ()
    absent: str = ""
    tiles: Sequence[Tile] = ()
    plots: Sequence[Plot] = ()
    tables: Sequence[Table] = ()
    decks: Sequence[Deck] = ()
    listings: Sequence[Listing] = ()

    @property
    def is_there(self) -> bool:
        return bool(self.tiles or self.plots or self.tables or self.decks or self.listings)


@dataclass
class Gathered:
    """What parts have to show, collected run by run."""

    said: list[str] = field(default_factory=list[str])
    plots: list[Plot] = field(default_factory=list[Plot])
    tables: list[Table] = field(default_factory=list[Table])
    decks: list[Deck] = field(default_factory=list[Deck])
    listings: list[Listing] = field(default_factory=list[Listing])
    tiles: list[Tile] = field(default_factory=list[Tile])

    def part(self, key: str, title: str, absent: str) -> Part:
        """The part of what was collected; `absent` stands where that is nothing."""
        part = Part(key, title, self.said, "", self.tiles, self.plots, self.tables, self.decks, self.listings)
        return part if part.is_there else Part(key, title, self.said, absent)


def of_run(name: str, runs: Sequence[Any]) -> str:
    """How a title tells whose something is: not at all where there is one run."""
    return f", {name}" if len(runs) > 1 else ""
