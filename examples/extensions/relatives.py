"""Options from the relatives of what the model itself believes."""

from __future__ import annotations

from fgvr.options import Asked, OptionSource
from fgvr.similarity import Classes, Ranking, Siblings
from fgvr.similarity.base import Confusions


class Relatives(OptionSource):
    """The name that the model gives most often, then its relatives in the taxonomy, the nearest first.

    It looks at replies alone and never at the label, so its options may be chosen among at test too. A photo without
    any vote has none.
    """

    needs_label = False

    def __init__(self) -> None:
        self.ranking: Ranking = {}

    def know(self, classes: Classes, confusions: Confusions) -> None:
        self.ranking = Siblings().nearest(classes, len(classes.names))

    def offered(self, asked: Asked, most: int) -> list[str]:
        if not asked.votes.ranked:
            return []
        first = asked.votes.ranked[0].name
        return [first, *(name for name, _ in self.ranking.get(first, ()))][:most]
