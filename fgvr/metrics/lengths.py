"""How long replies are, and how many of the short and of the long ones are right: what thinking costs, and buys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from fgvr.metrics.ladder import wilson

STRETCHES = 5  # of about as many replies each
LENGTH_FIGURES = ("length", "length_exact", "length_others")


@dataclass(frozen=True)
class Stretch:
    """Replies of neighbouring lengths: how many, their mean length in tokens, the share that is exact and its 95 %
    interval."""

    n: int
    tokens: float
    exact: float
    low: float
    high: float


def words(text: str) -> int:
    """The length of a reply where there is no tokenizer."""
    return len(text.split())


def length_figures(replies: Sequence[tuple[int, bool]]) -> dict[str, float]:
    """Mean lengths in tokens of replies (length, exact): of all, of those that are exactly the label, of the others.

    The mean of none is 0.
    """
    right, others = ([length for length, exact in replies if exact is one] for one in (True, False))
    means = (sum(lengths) / len(lengths) if lengths else 0.0 for lengths in ([*right, *others], right, others))
    return dict(zip(LENGTH_FIGURES, means, strict=True))


def by_length(replies: Sequence[tuple[int, bool]], stretches: int = STRETCHES) -> list[Stretch]:
    """Replies (length, exact) from the shortest to the longest, cut into at most so many stretches of about one size.

    Replies of one length are in one stretch, so a policy that always says as much has one. The interval is Wilson's.
    """
    ordered = sorted(replies)
    first = {length: place for place, (length, _) in reversed([*enumerate(ordered)])}
    cut = groupby(ordered, lambda reply: first[reply[0]] * stretches // len(ordered))
    return [_stretch([*group]) for _, group in cut]


def _stretch(group: Sequence[tuple[int, bool]]) -> Stretch:
    right = sum(exact for _, exact in group)
    mean = sum(length for length, _ in group) / len(group)
    return Stretch(len(group), mean, right / len(group), *wilson(right, len(group)))
