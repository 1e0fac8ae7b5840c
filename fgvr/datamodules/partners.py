"""Which samples may stand beside others in a triplet, and how an example gets them, in a loader's worker."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from fgvr.errors import SampleError
from fgvr.shards.loading import Encode
from fgvr.shards.manifest import SampleEntry
from fgvr.shards.order import Ints
from fgvr.shards.part import PartOfSet
from fgvr.shards.reading import VIEWS, ShardSet
from fgvr.similarity import Ranking
from fgvr.types import Example, Partner

CLASHES = 3  # samples that are looked at before a class is said to have no other picture, or none to be read
TrainSet = ShardSet | PartOfSet
Attach = Callable[[Example, random.Random], Example]


@dataclass(frozen=True)
class Pools:
    """The samples that may become partners: dataset and class to their places (set, sample), each picture once.

    A picture that stands under two labels is nobody's partner. `samples` counts all to train on, and `alone` those
    without a positive, by dataset and class.
    """

    places: Mapping[str, Mapping[str, Ints]]
    samples: Mapping[str, Counter[str]]
    alone: Mapping[str, Counter[str]]
    two_labels: int

    @classmethod
    def of(cls, sets: Sequence[TrainSet]) -> Pools:
        """Reads every index, and no picture."""
        found: dict[str, _Found] = defaultdict(_Found)
        for at, one in enumerate(sets):
            for number, entry in enumerate(one.entries()):
                found[one.dataset].add(entry, at, number)
        of_classes = {dataset: one.of_classes() for dataset, one in sorted(found.items())}
        return cls(
            {
                dataset: {label: _table(fit) for label, fit in classes.items()}
                for dataset, classes in of_classes.items()
            },
            {dataset: one.samples for dataset, one in found.items()},
            {dataset: one.alone(of_classes[dataset]) for dataset, one in found.items()},
            sum(len(one.two_labels) for one in found.values()),
        )


class _Found:
    """The pictures of one dataset as they are met, by their hashes."""

    def __init__(self) -> None:
        self.samples, self.again = Counter[str](), Counter[bytes]()
        self.two_labels: set[bytes] = set()
        self._firsts: dict[bytes, tuple[str, int, int]] = {}

    def add(self, entry: SampleEntry, at: int, number: int) -> None:
        picture = bytes.fromhex(entry.picture) or entry.key.encode()  # old sets know no hashes
        self.samples[entry.label] += 1
        first = self._firsts.setdefault(picture, (entry.label, at, number))
        if first[0] != entry.label:
            self.two_labels.add(picture)
        elif first[1:] != (at, number):
            self.again[picture] += 1

    def of_classes(self) -> dict[str, dict[bytes, tuple[int, int]]]:
        """The places of the pictures of each class, by the names of the classes."""
        places: dict[str, dict[bytes, tuple[int, int]]] = defaultdict(dict)
        for picture, (label, at, number) in self._firsts.items():
            if picture not in self.two_labels:
                places[label][picture] = (at, number)
        return dict(sorted(places.items()))

    def alone(self, classes: Mapping[str, Mapping[bytes, tuple[int, int]]]) -> Counter[str]:
        """How many samples of each class have no other picture of it to stand beside them."""
        alone = Counter[str]()
        for label, samples in self.samples.items():
            pictures = list(classes.get(label, ()))
            if len(pictures) < 2:
                alone[label] = 1 + self.again[pictures[0]] if pictures else samples
        return alone


def _table(places: Mapping[bytes, tuple[int, int]]) -> Ints:
    return np.array(sorted(places.values()), dtype=np.int64)


@dataclass(frozen=True)
class DrawnPartners:
    """Gives an example a positive and a negative drawn by its rng, read from the sets to train on.

    The positive is another picture of its class; the negative one of a class that `rankings` holds to be like it,
    `weighted` by score or each as likely. In place of one that cannot be read another is drawn; raises SampleError when
    none of `CLASHES` can be.
    """

    sets: tuple[TrainSet, ...]
    pools: Pools
    rankings: Mapping[str, Ranking] = field(default_factory=dict)
    weighted: bool = False

    def __call__(self, example: Example, rng: random.Random) -> Example:
        positive = self._drawn("positive", example, example.label, rng)
        rivals = self.rankings.get(example.dataset, {}).get(example.label, ())
        negative = None
        if rivals:
            names, scores = zip(*rivals, strict=True)
            weights = [max(0.0, score) for score in scores] if self.weighted else []
            (rival,) = rng.choices(names, weights if any(weights) else None)
            negative = self._drawn("negative", example, rival, rng)
        return replace(example, positive=positive, negative=negative)

    def _drawn(self, role: str, example: Example, label: str, rng: random.Random) -> Partner | None:
        places = self.pools.places.get(example.dataset, {}).get(label, ())
        unread: SampleError | None = None
        for choice in rng.sample(range(len(places)), min(CLASHES, len(places))):
            at, number = places[choice].tolist()
            try:
                other = self.sets[at].read(number)
            except SampleError as error:
                uid = self.sets[at].uid(number)
                unread = SampleError(f"{example.uid}: its {role} {uid} cannot be read: {error}")
                continue
            if other.uid != example.uid and other.images[0] != example.images[0]:
                return Partner(other.images, other.uid, other.label)
        if unread is not None:
            raise unread
        return None


@dataclass(frozen=True)
class FrozenPartners:
    """Leaves an example those of its frozen partners that can stand beside it; `unfit` names the roles that cannot.

    A partner cannot when it is the example's own picture, a negative of its class, or a picture under two labels.
    """

    unfit: Mapping[tuple[str, str], frozenset[str]] = field(default_factory=dict)  # by dataset and uid

    @classmethod
    def of(cls, sets: Sequence[TrainSet]) -> FrozenPartners:
        """Reads every index, and no picture. Sets whose index knows no hashes are judged by labels alone."""
        labels = _labels_of_pictures(sets)
        unfit: dict[tuple[str, str], frozenset[str]] = {}
        for one in sets:
            for entry in one.entries():
                if roles := frozenset(VIEWS[view] for view in _unfit_views(entry, labels[one.dataset])):
                    unfit[one.dataset, entry.key] = roles
        return cls(unfit)

    def roles(self, dataset: str, entry: SampleEntry) -> frozenset[str]:
        """The roles in which a sample keeps a partner.

        Shards whose index tells nothing of partners may hold them all the same; the members' names show that.
        """
        held = {
            role
            for view, role in VIEWS.items()
            if any(one.name.startswith(f"{entry.key}.{view}.") for one in entry.members)
        }
        return frozenset(held - self.unfit.get((dataset, entry.key), frozenset()))

    def __call__(self, example: Example, rng: random.Random) -> Example:
        unfit = self.unfit.get((example.dataset, example.uid), frozenset())
        positive = None if "positive" in unfit else example.positive
        negative = None if "negative" in unfit else example.negative
        if positive is not None and positive.images[0] == example.images[0]:
            positive = None
        if negative is not None and (negative.label == example.label or negative.images[0] == example.images[0]):
            negative = None
        return replace(example, positive=positive, negative=negative)


def _labels_of_pictures(sets: Sequence[TrainSet]) -> dict[str, dict[str, set[str]]]:
    """The classes that each picture of a dataset stands under, whether as a sample's own or as a partner."""
    labels: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for one in sets:
        for entry in one.entries():
            labels[one.dataset][entry.picture].add(entry.label)
            for partner in entry.partners:
                own = entry.label if partner.view == "pos" else ""
                labels[one.dataset][partner.picture] |= {partner.label or own} - {""}
    return labels


def _unfit_views(entry: SampleEntry, labels: Mapping[str, set[str]]) -> set[str]:
    unfit: set[str] = set()
    for partner in entry.partners:
        stands_under = labels[partner.picture] if partner.picture else {partner.label}
        own_picture = bool(partner.picture) and partner.picture == entry.picture
        if own_picture or len(stands_under) > 1 or (partner.view == "neg" and entry.label in stands_under):
            unfit.add(partner.view)
    return unfit


@dataclass(frozen=True)
class PartneredEncode:
    """Attaches partners to an example, then encodes it; picklable as both are."""

    attach: Attach
    encode: Encode[Any]

    def __call__(self, example: Example, rng: random.Random) -> Any:
        return self.encode(self.attach(example, rng), rng)
