"""Which classes were taken for which: counted, with a small photo of each side."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from fgvr.data.images import View, as_stored, open_image
from fgvr.judges.base import Judged
from fgvr.ranks import of_all_ranks
from fgvr.shards.order import key_of
from fgvr.taxonomy.tree import Taxonomy
from fgvr.types import Verdict

SIDE = 216  # of the small photos, in pixels
Pair = tuple[str, str]
K = TypeVar("K")


@dataclass(frozen=True, order=True)
class Shown:
    """A photo that may be shown; of several the smallest is, so that each pass shows the same."""

    key: int
    label: str
    photo: bytes


@dataclass(frozen=True)
class Confusion:
    """A class whose photos were WRONGLY given the name `taken_for`: `times` out of `asked`.

    `mistaken` is such a photo, `other` one of a class at or below the name, None where no photo of one was asked about.
    """

    label: str
    taken_for: str
    times: int
    asked: int
    mistaken: Shown
    other: Shown | None


class Confusions:
    """Counts the WRONG answers of a cohort that name a node of the taxonomy; `most` of them can be shown.

    In memory stay one photo of each class as it was stored, and a small one of each pair that was confused, as `view`
    shows it. With `most` 0 nothing is kept.
    """

    def __init__(self, taxonomy: Taxonomy, most: int, view: View = as_stored) -> None:
        self.taxonomy, self.most, self.view = taxonomy, most, view
        self._asked: Counter[str] = Counter()
        self._times: Counter[Pair] = Counter()
        self._of_class: dict[str, Shown] = {}
        self._mistaken: dict[Pair, Shown] = {}

    def add(self, judged: Sequence[Judged]) -> None:
        for entry in judged if self.most else ():
            label, judgement = entry.example.label, entry.judgement
            found = Shown(key_of(entry.example.uid), label, entry.example.images[0])
            self._asked[label] += 1
            self._of_class[label] = min(found, self._of_class.get(label, found))
            if judgement is not None and judgement.verdict == Verdict.WRONG and judgement.node is not None:
                pair = label, judgement.node
                self._times[pair] += 1
                if pair not in self._mistaken or found.key < self._mistaken[pair].key:
                    self._mistaken[pair] = self._small(found)

    def commonest(self) -> list[Confusion]:
        """Those that most answers of all ranks fell for, the commonest first. A collective call."""
        if not self.most:
            return []
        asked: Counter[str] = Counter()
        times: Counter[Pair] = Counter()
        for counted, confused in of_all_ranks([(self._asked, self._times)]):
            asked.update(counted)
            times.update(confused)
        pairs = sorted(times, key=lambda pair: (-times[pair], pair))[: self.most]
        mistaken = _smallest([{pair: self._mistaken[pair] for pair in pairs if pair in self._mistaken}])
        others = _smallest([self._others({node for _, node in pairs})])
        return [
            Confusion(label, node, times[label, node], asked[label], mistaken[label, node], others.get(node))
            for label, node in pairs
        ]

    def _others(self, nodes: set[str]) -> dict[str, Shown]:
        """Per node the photo to show of it, of those that this rank has."""
        found: dict[str, Shown] = {}
        for label, shown in self._of_class.items():
            for node in nodes.intersection(self.taxonomy.lineage[label]):
                found[node] = min(shown, found.get(node, shown))
        return {node: self._small(shown) for node, shown in found.items()}

    def _small(self, shown: Shown) -> Shown:
        photo = self.view(open_image(shown.photo, shown.label))
        photo.thumbnail((SIDE, SIDE))
        data = io.BytesIO()
        photo.save(data, "JPEG", quality=90)
        return Shown(shown.key, shown.label, data.getvalue())


def _smallest(own: list[dict[K, Shown]]) -> dict[K, Shown]:
    smallest: dict[K, Shown] = {}
    for part in of_all_ranks(own):
        for name, shown in part.items():
            smallest[name] = min(shown, smallest.get(name, shown))
    return smallest
