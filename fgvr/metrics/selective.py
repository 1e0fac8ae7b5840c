"""Answering only where it is safe: what a threshold on confidence covers, what it risks, and which one holds a risk.

A photo's path runs from the coarsest rank downward with a confidence at each node that never rises. At a threshold the
answer is the finest node whose confidence reaches it; a photo none of whose nodes does is not answered. The answer is
wrong when it does not hold of the photo: another class, or a node above another one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from fgvr.errors import refuse_no_share


@dataclass(frozen=True)
class Graded:
    """One photo of a known label: confidences from coarse to fine, and how many of these nodes hold of it.

    What is above a node that holds holds too, so `right` counts from the coarsest. Raises ValueError when a confidence
    rises or more nodes are right than there are.
    """

    confidences: tuple[float, ...]
    right: int

    def __post_init__(self) -> None:
        rises = any(fine > coarse for coarse, fine in zip(self.confidences, self.confidences[1:], strict=False))
        if rises or not 0 <= self.right <= len(self.confidences):
            raise ValueError(f"confidences never rise and right counts nodes, got {self.confidences}, {self.right}")

    def depth(self, threshold: float) -> int:
        """How many nodes down the answer stands, 0 for none."""
        return sum(confidence >= threshold for confidence in self.confidences)


@dataclass(frozen=True)
class Operating:
    """A threshold, and what became of n photos at it: `depths[d]` were answered d nodes down, [0] not at all."""

    threshold: float
    wrong: int
    depths: tuple[int, ...]

    @property
    def n(self) -> int:
        return sum(self.depths)

    @property
    def answered(self) -> int:
        return self.n - self.depths[0]

    @property
    def coverage(self) -> float:
        """The share of the photos that is answered, at whatever rank."""
        return self.answered / self.n if self.n else 0.0

    @property
    def risk(self) -> float:
        """The share of the answers that is wrong (El-Yaniv & Wiener 2010, selective risk under the 0/1 loss)."""
        return self.wrong / self.answered if self.answered else 0.0

    @cached_property
    def risk_interval(self) -> tuple[float, float]:
        """Of the risk, 95 % wide and exact."""
        return clopper_pearson(self.wrong, self.answered)

    @cached_property
    def coverage_interval(self) -> tuple[float, float]:
        """Of the coverage, 95 % wide and exact."""
        return clopper_pearson(self.answered, self.n)


def operate(photos: Sequence[Graded], threshold: float) -> Operating:
    """What becomes of the photos at a threshold from 0 to 1."""
    depths = [0] * (1 + max((len(photo.confidences) for photo in photos), default=0))
    wrong = 0
    for photo in photos:
        depth = photo.depth(threshold)
        depths[depth] += 1
        wrong += depth > photo.right
    return Operating(threshold, wrong, tuple(depths))


def curve(photos: Sequence[Graded], steps: int) -> list[Operating]:
    """At each threshold 1, (steps - 1) / steps, ... 1 / steps: every one that tells shares of `steps` replies apart."""
    return [operate(photos, step / steps) for step in range(steps, 0, -1)]


def choose(points: Sequence[Operating], risk: float, level: float) -> Operating | None:
    """The lowest threshold that holds the risk: with probability `level`, at most the share `risk` of answers is wrong.

    Fixed-sequence testing (Learn then Test, Angelopoulos et al., arXiv 2110.01052, section 3.2): from the strictest
    threshold downward, "the risk is above `risk`" is rejected where the exact upper bound of the risk (`upper_bound`)
    is at most `risk`, until it is not for the first time. So no allowance for the number of thresholds is needed, and
    none is made that the risk fall with the threshold. Thresholds with so few answers that even no mistake among them
    would not do are passed over first; that looks at how many are answered, never at what is right. None where no
    threshold holds the risk. `points` run from the highest threshold to the lowest. Raises UserError outside 0 to 1.
    """
    refuse_no_share("selective", risk=risk, level=level)
    found: Operating | None = None
    for point in points:
        if upper_bound(0, point.answered, level) > risk:
            if found is None:
                continue
            return found
        if upper_bound(point.wrong, point.answered, level) > risk:
            return found
        found = point
    return found


def enough_for(risk: float, level: float) -> int:
    """How many answers, none of them wrong, hold the risk: (1 - risk)^n <= 1 - level."""
    if not 0 < risk < 1 or not 0 < level < 1:
        return 0
    return math.ceil(math.log(1 - level) / math.log1p(-risk))


def upper_bound(wrong: int, n: int, level: float) -> float:
    """The share p at which at most `wrong` of n would come with probability 1 - level; 1 of nothing.

    Clopper & Pearson 1934: exact, whatever n is.
    """
    if wrong >= n:
        return 1.0
    chances = _log_choices(wrong, n)
    low, high = wrong / n, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _at_most(chances, n, middle) > 1 - level else (low, middle)
    return high


def clopper_pearson(wrong: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """The exact interval of a share, `level` wide, as much beyond it on either side; (0, 1) of nothing."""
    one_side = (1 + level) / 2
    return 1 - upper_bound(n - wrong, n, one_side) if n else 0.0, upper_bound(wrong, n, one_side)


def _log_choices(most: int, n: int) -> np.ndarray:
    """log of n over k, for k from 0 to `most`."""
    whole = math.lgamma(n + 1)
    return np.array([whole - math.lgamma(k + 1) - math.lgamma(n - k + 1) for k in range(most + 1)])


def _at_most(log_choices: np.ndarray, n: int, share: float) -> float:
    """P(X <= most) of a binomial X, with the log choices of 0 to most; `share` lies within 0 and 1."""
    if share >= 1:
        return 0.0
    if share <= 0:
        return 1.0
    counts = np.arange(len(log_choices))
    return float(np.exp(log_choices + counts * math.log(share) + (n - counts) * math.log1p(-share)).sum())
