"""Which classes are each other's negatives in an epoch, kept so that a run that goes on has the same."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from fgvr.similarity import Classes, Ranking, Similarity
from fgvr.similarity.base import Confusions

Gather = Callable[[list[Any]], list[Any]]
Confusion = tuple[str, str, str]  # dataset, right class, class that was answered

log = logging.getLogger(__name__)


class Rivals:
    """The `rankings` of one epoch, by dataset, fixed as it begins; and the confusions counted within it.

    `epoch` is the one that they belong to, None before the first.
    """

    def __init__(self, similarity: Similarity, k: int) -> None:
        self.similarity, self.k = similarity, k
        self._forget()

    def _forget(self) -> None:
        self.epoch: int | None = None
        self.rankings: dict[str, Ranking] = {}
        self._nearest: dict[str, Ranking] = {}
        self._taken: int | None = None  # the epoch in which nearest was asked
        self._confused: dict[str, dict[str, dict[str, float]]] = {}  # decayed, of the epochs before this one
        self._counts: Counter[Confusion] = Counter()

    def begin(self, epoch: int, classes: Callable[[], Mapping[str, Classes]], gather: Gather) -> bool:
        """Settles the rankings of an epoch; True where the measure was asked anew. A collective call.

        All processes take those of the first, whatever a device rounds differently.
        """
        if epoch == self.epoch:
            return False
        self._fold(gather)
        every = self.similarity.every
        asked = self._taken is None or (every is not None and epoch - self._taken >= every)
        if asked:
            found = {dataset: self.similarity.nearest(one, self.k) for dataset, one in classes().items()}
            self._nearest, self._taken = gather([found])[0], epoch
        self.epoch = epoch
        self.rankings = {
            dataset: self.similarity.refined(ranking, self._confused.get(dataset, {}), self.k)
            for dataset, ranking in self._nearest.items()
        }
        return asked

    def count(self, confusions: Iterable[Confusion]) -> None:
        """Takes in what this process saw confused. It has its effect when the next epoch begins."""
        self._counts.update(confusions)

    def confusions(self, dataset: str) -> Confusions:
        """The counts that this epoch's ranking was made with."""
        return self._confused.get(dataset, {})

    def sources(self) -> dict[str, dict[str, str]]:
        """The measure that each class's rivals come from in this epoch, by dataset."""
        return {
            dataset: {name: self.similarity.source_of(name, self.confusions(dataset)) for name in ranking}
            for dataset, ranking in self.rankings.items()
        }

    def state_dict(self, gather: Gather) -> dict[str, Any]:
        """Plain data. A collective call: the counts are those of all processes."""
        return {
            "measure": self._measure(),
            "epoch": self.epoch,
            "taken": self._taken,
            "nearest": _listed(self._nearest),
            "rankings": _listed(self.rankings),
            "confused": {
                dataset: {name: dict(row) for name, row in rows.items()} for dataset, rows in self._confused.items()
            },
            "counts": [[*confusion, count] for confusion, count in self._summed(gather)],
        }

    def load_state_dict(self, state: Mapping[str, Any], first: bool) -> None:
        """Goes on from a saved state; the `first` process carries on the counts of all.

        Another measure than the one that was saved starts anew.
        """
        self._forget()
        if state["measure"] != self._measure():
            log.warning("negatives are chosen by another measure than before: its rankings are made anew")
            return
        self.epoch, self._taken = state["epoch"], state["taken"]
        self._nearest, self.rankings = _ranked(state["nearest"]), _ranked(state["rankings"])
        self._confused = {
            dataset: {name: dict(row) for name, row in rows.items()} for dataset, rows in state["confused"].items()
        }
        if first:
            self._counts = Counter({(dataset, name, other): count for dataset, name, other, count in state["counts"]})

    def _fold(self, gather: Gather) -> None:
        """The counts of the epoch that ended go into those before it, which lose weight."""
        decay = self.similarity.decay
        if decay is None or self.epoch is None:
            return
        for rows in self._confused.values():
            for row in rows.values():
                for other in row:
                    row[other] *= decay
        for (dataset, name, other), count in self._summed(gather):
            row = self._confused.setdefault(dataset, {}).setdefault(name, {})
            row[other] = row.get(other, 0.0) + count
        self._counts = Counter()

    def _summed(self, gather: Gather) -> list[tuple[Confusion, int]]:
        total: Counter[Confusion] = Counter()
        for counts in gather([dict(self._counts)]):
            total.update(counts)
        return sorted(total.items())

    def _measure(self) -> str:
        return json.dumps([self.similarity.describe(), self.k])


def _listed(rankings: Mapping[str, Ranking]) -> dict[str, dict[str, list[list[Any]]]]:
    return {
        dataset: {name: [list(one) for one in row] for name, row in ranking.items()}
        for dataset, ranking in rankings.items()
    }


def _ranked(listed: Mapping[str, Mapping[str, list[list[Any]]]]) -> dict[str, Ranking]:
    return {
        dataset: {name: tuple((other, score) for other, score in row) for name, row in ranking.items()}
        for dataset, ranking in listed.items()
    }
