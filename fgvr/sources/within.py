"""Another source's pictures of one branch of its taxonomy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from typing import Any

from fgvr.sources.base import Record, Refusal, Source
from fgvr.taxonomy.branch import Branch, branch_of
from fgvr.taxonomy.names import Names
from fgvr.taxonomy.tree import Taxonomy


class Within(Source):
    """The pictures of `source` whose classes stand at or below the name `within`; the others are counted.

    Options and negatives of other classes are left out of the records. A text that comes with a picture stays as it
    is. Raises UserError, once the taxonomy is asked for, unless the name is a node with two classes or more.
    """

    def __init__(self, source: Source, within: str) -> None:
        self.source, self.within = source, within
        self.dataset, self.walked = source.dataset, source.walked

    @cached_property
    def branch(self) -> Branch:
        """The branch in the source's own taxonomy."""
        return branch_of(self.source.taxonomy(), self.within)

    def taxonomy(self) -> Taxonomy:
        return self.branch.cut()

    def records(self) -> Iterator[Record | Refusal]:
        return iter(self._found[0])

    def describe(self) -> dict[str, Any]:
        return {**self.source.describe(), "within": self.branch.node, "left_out": self._found[1]}

    def remarks(self) -> list[str]:
        branch, (kept, left_out) = self.branch, self._found
        of_all = f"{len(branch.classes):,} of {len(branch.taxonomy.paths):,} classes"
        pictures = sum(isinstance(one, Record) for one in kept)
        said = f"within {branch.node}: {of_all}, {pictures:,} pictures; {left_out:,} of other classes are left out"
        return [*self.source.remarks(), said]

    @cached_property
    def _found(self) -> tuple[list[Record | Refusal], int]:
        """What is kept, and how many pictures are not."""
        kept: list[Record | Refusal] = []
        left_out = 0
        for one in self.source.records():
            if isinstance(one, Record) and one.label in self.branch.outside:
                left_out += 1
            else:
                kept.append(self._inner(one) if isinstance(one, Record) else one)
        return kept, left_out

    def _inner(self, record: Record) -> Record:
        negative, options = record.negative, record.extra.get("options")
        if negative is not None and negative.label in self.branch.outside:
            record = replace(record, negative=None)
        if isinstance(options, list | tuple):
            own = [option for option in options if self._names.find(str(option)) in self.branch.nodes]
            others = {name: value for name, value in record.extra.items() if name != "options"}
            record = replace(record, extra={**others, "options": own} if own else others)
        return record

    @cached_property
    def _names(self) -> Names:
        return Names(self.branch.taxonomy)
