"""Another source's pictures of one branch of its taxonomy."""

from __future__ import annotations

from collections import Counter
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
        for one in self.source.records():
            if not isinstance(one, Record):
                yield one
            elif one.label not in self.branch.outside:
                yield self._inner(one)

    def describe(self) -> dict[str, Any]:
        return {**self.source.describe(), "within": self.branch.node, "left_out": self._left_out}

    def remarks(self) -> list[str]:
        branch, pictures = self.branch, self._pictures - self._left_out
        of_all = f"{len(branch.classes):,} of {len(branch.taxonomy.paths):,} classes"
        said = (
            f"within {branch.node}: {of_all}, {pictures:,} pictures; {self._left_out:,} of other classes are left out"
        )
        return [*self.source.remarks(), said]

    @property
    def _pictures(self) -> int:
        return self._counted[0]

    @property
    def _left_out(self) -> int:
        return self._counted[1]

    @cached_property
    def _counted(self) -> tuple[int, int]:
        """How many pictures the source has, and how many of them are of other classes."""
        labels = Counter(one.label for one in self.source.records() if isinstance(one, Record))
        return labels.total(), sum(labels[label] for label in labels.keys() & self.branch.outside)

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
