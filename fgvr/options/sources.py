"""Where options come from: a model's own replies, what looks alike, what is confused, chance, or several by turns."""

from __future__ import annotations

import copy
import random
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from fgvr.errors import UserError
from fgvr.options.votes import Tally
from fgvr.similarity import Classes, Ranking, Siblings, Similarity
from fgvr.similarity.base import Confusions, best

S = TypeVar("S", bound="OptionSource")


@dataclass(frozen=True)
class Asked:
    """A photo that needs options: its replies' votes, within scope, and its label where that may be looked at."""

    uid: str
    label: str
    votes: Tally


class OptionSource(ABC):
    """A way to find names that are worth choosing among. Holds settings only until it is bound.

    `needs_label` says that it looks at the label, so that its options would tell the truth at test.
    """

    needs_label = True

    def bind(self: S, classes: Classes, confusions: Confusions) -> S:
        """A copy that knows which classes there are, and how often each was called by another one's name."""
        bound = copy.copy(self)
        bound.know(classes, confusions)
        return bound

    def know(self, classes: Classes, confusions: Confusions) -> None:
        """Keeps what `offered` needs of them; nothing, unless a source says otherwise."""
        return

    @abstractmethod
    def offered(self, asked: Asked, most: int) -> list[str]:
        """Up to `most` distinct names for a photo, the best first; the label may be among them."""


class Mined(OptionSource):
    """The names that the model itself gives most often (DiVE-k, arXiv 2511.18305)."""

    needs_label = False

    def offered(self, asked: Asked, most: int) -> list[str]:
        return [one.name for one in asked.votes.ranked[:most]]


class RandomNames(OptionSource):
    """Any classes; `seed` decides which each photo gets."""

    needs_label = False

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self.names: tuple[str, ...] = ()

    def know(self, classes: Classes, confusions: Confusions) -> None:
        self.names = tuple(sorted(classes.names))

    def offered(self, asked: Asked, most: int) -> list[str]:
        draw = random.Random(f"{self.seed} options of {asked.uid}")
        return draw.sample(self.names, min(most, len(self.names)))


class Alike(OptionSource):
    """The classes most like the label's.

    `similarity` is the measure: by descent (Siblings), by sight (FolderCentroids) or by name (FolderNames).
    """

    def __init__(self, similarity: Similarity = Siblings()) -> None:  # noqa: B008 - settings only
        self.similarity = similarity
        self.ranking: Ranking = {}

    def know(self, classes: Classes, confusions: Confusions) -> None:
        found = self.similarity.nearest(classes, len(classes.names))
        self.ranking = self.similarity.refined(found, confusions, len(classes.names))

    def offered(self, asked: Asked, most: int) -> list[str]:
        return [name for name, _ in self.ranking.get(asked.label, ())[:most]]


class Confused(OptionSource):
    """The classes that the model takes photos of the label's for most often, over all replies about them."""

    def __init__(self) -> None:
        self.ranking: Ranking = {}

    def know(self, classes: Classes, confusions: Confusions) -> None:
        known = set(classes.names)
        self.ranking = {
            label: best({name: float(count) for name, count in counts.items() if name in known}, len(known))
            for label, counts in confusions.items()
        }

    def offered(self, asked: Asked, most: int) -> list[str]:
        return [name for name, _ in self.ranking.get(asked.label, ())[:most]]


class Mixture(OptionSource):
    """Several sources by turns: the best name of each of the `sources`, then the next ones, each name once.

    Raises UserError without a source.
    """

    def __init__(self, sources: list[OptionSource]) -> None:
        if not sources:
            raise UserError("a mixture of options needs a source, got none: name some, or take Mined")
        self.sources = list(sources)

    @property
    def needs_label(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return any(source.needs_label for source in self.sources)

    def know(self, classes: Classes, confusions: Confusions) -> None:
        self.sources = [source.bind(classes, confusions) for source in self.sources]

    def offered(self, asked: Asked, most: int) -> list[str]:
        lists = [source.offered(asked, most) for source in self.sources]
        return list(dict.fromkeys(_by_turns(lists)))[:most]


def _by_turns(lists: Sequence[Sequence[str]]) -> list[str]:
    longest = max(map(len, lists))
    return [names[place] for place in range(longest) for names in lists if place < len(names)]
