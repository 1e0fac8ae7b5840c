"""Another source's pictures, of which some are labelled in other words than the taxonomy has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import cached_property
from typing import Any

from fgvr.sources.base import Record, Refusal, Source
from fgvr.taxonomy.names import Names
from fgvr.taxonomy.tree import Taxonomy

NAMED = 10  # labels in a remark; the manifest has all


class Respelt(Source):
    """The pictures of `source`, with labels that misspell or paraphrase a class of its taxonomy read as that class.

    A label is read so where `Names.find_misspelt` finds one class alone: a year or a digit apart is another class, and
    what could be two is refused as before. Which labels were read as what is in the manifest (`read_as`), and a remark
    says of how many pictures.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self.dataset, self.walked = source.dataset, source.walked
        self._read: dict[str, str] = {}
        self._lately: set[str] = set()  # labels that were read since they were last looked at
        source.read_labels_by(self._find)

    def taxonomy(self) -> Taxonomy:
        return self.source.taxonomy()

    def records(self) -> Iterator[Record | Refusal]:
        return self.source.records()

    def describe(self) -> dict[str, Any]:
        return {**self.source.describe(), "read_as": self._all_read[0]}

    def remarks(self) -> list[str]:
        read, pictures = self._all_read
        told = [f"{label!r} as {node!r} ({pictures[label]:,})" for label, node in list(read.items())[:NAMED]]
        more = len(read) - len(told)
        said = f"{len(read):,} labels of {pictures.total():,} pictures are read as another spelling of a class"
        named = f": {', '.join(told)}" + (f" and {more:,} more, named in the manifest" if more else "") if told else ""
        return [*self.source.remarks(), said + named]

    def _find(self, label: str) -> str | None:
        node = self._names.find_misspelt(label)
        if node is None or node not in self._names.taxonomy.paths:
            return None
        self._read[label] = node
        self._lately.add(label)
        return node

    @cached_property
    def _names(self) -> Names:
        return Names(self.source.taxonomy())

    @cached_property
    def _all_read(self) -> tuple[dict[str, str], Counter[str]]:
        """The class that each label is read as, and for how many pictures."""
        pictures: Counter[str] = Counter()
        self._lately.clear()
        for one in self.source.records():
            if isinstance(one, Record):
                pictures.update(label for label in self._lately if self._read[label] == one.label)
            self._lately.clear()
        return dict(sorted(self._read.items())), pictures
