"""A judge that asks for no more than a genus, or whatever rank one names."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Self

from fgvr.judges import Judge, Judgement, TaxonomyJudge
from fgvr.taxonomy.tree import Taxonomy


class AtRank(Judge):
    """As `TaxonomyJudge`, with each label taken for its ancestor at `rank`: what lies below that is right.

    So at the genus another species of the right genus is MORE_SPECIFIC, the genus itself SPECIFIC, its family
    LESS_SPECIFIC. A label without such an ancestor stays what it is. Raises UserError for a rank that there is not, and
    ValueError when it was not bound.
    """

    def __init__(self, rank: str) -> None:
        self.rank, self.inner = rank, TaxonomyJudge()
        self._lifted: dict[str, str] | None = None

    def bind(self, taxonomy: Taxonomy) -> Self:
        bound = copy.copy(self)
        bound.inner = self.inner.bind(taxonomy)
        bound._lifted = {label: taxonomy.at_rank(label, self.rank) or label for label in taxonomy.paths}
        return bound

    def verdicts(self, pairs: Sequence[tuple[str, str]]) -> list[Judgement]:
        if self._lifted is None:
            raise ValueError("AtRank needs a taxonomy: call bind(taxonomy) and use the judge it returns")
        return self.inner.verdicts([(self._lifted.get(label, label), answer) for label, answer in pairs])
