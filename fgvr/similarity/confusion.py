"""Likeness by error: a class is like what the policy takes it for."""

from __future__ import annotations

from typing import Any

from fgvr.errors import refuse_no_share
from fgvr.similarity.base import Classes, Confusions, Ranking, Similarity, best
from fgvr.similarity.siblings import Siblings


class OnlineConfusion(Similarity):
    """The score of two classes is the share of the wrong answers about the first that name the second.

    Counts are gathered while the policy is trained and keep `decay` of their weight from one epoch to the next. What is
    counted in an epoch is used from the next one on, so that it does not matter how far workers read ahead: a short
    `data.epoch_length` brings it to bear sooner. A class that was never confused has the rivals that `fallback` finds.
    Raises UserError for a decay that is not between 0 and 1.
    """

    def __init__(self, fallback: Similarity = Siblings(), decay: float = 0.5) -> None:  # noqa: B008 - settings only
        refuse_no_share("similarity", decay=decay)
        self.fallback, self.decay = fallback, decay
        self.every, self.needs_photos = fallback.every, fallback.needs_photos

    def check(self) -> None:
        self.fallback.check()

    def nearest(self, classes: Classes, k: int) -> Ranking:
        return self.fallback.nearest(classes, k)

    def refined(self, ranking: Ranking, confusions: Confusions, k: int) -> Ranking:
        refined = dict(self.fallback.refined(ranking, confusions, k))
        for name, counts in confusions.items():
            if name in refined and (total := sum(counts.values())) > 0:
                refined[name] = best({other: round(count / total, 6) for other, count in counts.items()}, k)
        return refined

    def source_of(self, name: str, confusions: Confusions) -> str:
        counted = sum(confusions.get(name, {}).values()) > 0
        return super().source_of(name, confusions) if counted else self.fallback.source_of(name, confusions)

    def describe(self) -> dict[str, Any]:
        return {**super().describe(), "fallback": self.fallback.describe(), "decay": self.decay}
