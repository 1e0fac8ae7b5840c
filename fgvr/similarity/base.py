"""What a measure of likeness is asked, and what it answers."""

from __future__ import annotations

import heapq
import logging
import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from PIL import Image

from fgvr.errors import SampleError
from fgvr.taxonomy.tree import Taxonomy

if TYPE_CHECKING:  # transformers takes seconds to import, and not every measure needs it
    from fgvr.models import Policy

Ranking = dict[str, tuple[tuple[str, float], ...]]  # for each class those most like it, with scores, the best first
Confusions = Mapping[
    str, Mapping[str, float]
]  # how often the policy answered the second name where the first was right

log = logging.getLogger(__name__)


def differ(taxonomy: Taxonomy, name: str, other: str) -> bool:
    """Whether no photo can be of both: neither is the other one, or a group that it belongs to."""
    return name != other and not taxonomy.is_ancestor(name, other) and not taxonomy.is_ancestor(other, name)


@dataclass(frozen=True)
class Classes:
    """The classes of one data set, each to be compared with the others.

    `photos(name, count)` gives up to `count` training photos of a class, always the same ones, upright RGB; fewer where
    it has no more or they cannot be read. `policy` is the one being trained, None where nothing is.
    """

    names: tuple[str, ...]
    taxonomy: Taxonomy
    photos: Callable[[str, int], Sequence[Image.Image]]
    policy: Policy | None = None
    seed: int = 0

    def differ(self, name: str, other: str) -> bool:
        return differ(self.taxonomy, name, other)


class Similarity(ABC):
    """A measure of how alike two classes look. It holds settings only: what it finds is kept by whoever asks.

    `every` is the number of epochs after which `nearest` is asked again, None for once a run. `decay` is what counts of
    confusions keep of their weight from one epoch to the next, None where they have no say. `needs_photos` says that
    `nearest` looks at some: then it waits until training begins.
    """

    every: int | None = None
    decay: float | None = None
    needs_photos: bool = True

    def check(self) -> None:  # noqa: B027 - most measures need nothing
        """Raises UserError when something that `nearest` will read is not there: asked before all that takes long."""

    @abstractmethod
    def nearest(self, classes: Classes, k: int) -> Ranking:
        """For each class up to `k` others that `differ` from it. A class without any has an empty entry.

        Depends on its arguments alone, so that a run which goes on finds what it found before.
        """

    def refined(self, ranking: Ranking, confusions: Confusions, k: int) -> Ranking:
        """The ranking of an epoch, by what `nearest` found and by what was confused until now."""
        return ranking

    def source_of(self, name: str, confusions: Confusions) -> str:
        """The measure that the rivals of a class come from in `refined`, whose scores are not comparable to others'."""
        return type(self).__name__

    def describe(self) -> dict[str, Any]:
        """Its name and settings, as JSON that tells two measures apart."""
        return {"kind": type(self).__name__}


def best(scores: Mapping[str, float], k: int) -> tuple[tuple[str, float], ...]:
    """The `k` names of the highest scores; equal ones stand in the order of their names."""
    return tuple(heapq.nsmallest(k, scores.items(), key=lambda item: (-item[1], item[0])))


def some_photos(name: str, total: int, count: int, seed: int, photo: Callable[[int], Image.Image]) -> list[Image.Image]:
    """Up to `count` of the `total` photos of a class, drawn by seed and name; `photo` gives the one of a number.

    One that it raises a SampleError for is left out, and said.
    """
    draw = random.Random(f"{seed} photos of {name}")
    photos: list[Image.Image] = []
    for number in sorted(draw.sample(range(total), min(count, total))):
        try:
            photos.append(photo(number))
        except SampleError as error:
            log.warning("a photo is left out of the comparison of classes: %s", error)
    return photos
