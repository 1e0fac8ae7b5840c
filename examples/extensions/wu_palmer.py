"""A reward for how far down the taxonomy an answer is right, wrong species included."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Self

from fgvr.rewards import AnsweredGroup, Reward
from fgvr.taxonomy.names import Names
from fgvr.taxonomy.tree import Taxonomy
from fgvr.types import Answer


class WuPalmer(Reward):
    """2 s / (a + l), from 0 to 1 (Wu and Palmer, "Verb semantics and lexical selection", ACL 1994, eq. 1).

    a and l are the depths of answer and label below the root, s that of what they share. Something that is no name of
    the taxonomy earns 0. Raises ValueError when it was not bound.
    """

    def __init__(self) -> None:
        self._names: Names | None = None

    def bind(self, taxonomy: Taxonomy) -> Self:
        bound = copy.copy(self)
        bound._names = Names(taxonomy)
        return bound

    def score(self, groups: Sequence[AnsweredGroup]) -> list[list[float | None]]:
        return [[self._of(answer, group.example.label) for answer in group.answers] for group in groups]

    def _of(self, answer: Answer | None, label: str) -> float:
        if self._names is None:
            raise ValueError("WuPalmer needs a taxonomy: call bind(taxonomy) and use the reward it returns")
        node = None if answer is None else self._names.find(answer.text)
        if node is None:
            return 0.0
        said, true = (self._names.taxonomy.lineage[name] for name in (node, label))
        shared = sum(one == other for one, other in zip(said, true, strict=False))
        return 2 * shared / (len(said) + len(true))
