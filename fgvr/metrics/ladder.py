"""What each step of two-step inference adds: greedy, the vote, the choice; and which of its parts it is due to.

Every share is of all photos that were asked about: those without a readable answer are wrong, none is left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fgvr.metrics.verdicts import COVERAGE, RESAMPLES

Z = 1.959963984540054  # of a normal distribution, 95 % within
SHARES = (0.25, 0.5, 0.75, 1.0)  # of the photos, the most confident first
MARGINS = tuple(step / 10 for step in range(1, 11))
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Asked:
    """One photo's way through the steps, as far as counting goes.

    `greedy`, `vote` and `choice` say whether the answer of that step names the label; `choice` is the decision with all
    its gates and fallbacks. `reached` says whether the label was among the options, `lead` by what share of all replies
    the first name led. Tokens are of the greedy answer, of the K replies, and of the questions.
    """

    dataset: str
    greedy: bool
    vote: bool
    choice: bool
    reached: bool
    by: str
    gate: str
    lead: float
    confidence: float
    greedy_tokens: int
    sampled_tokens: int
    choosing_tokens: int

    @classmethod
    def of(cls, row: Row) -> Asked:
        """From a row of two_step.jsonl. Raises KeyError without a label, ValueError for what cannot be counted."""
        right, tokens = row["right"], row["tokens"]
        return cls(
            dataset=str(row["dataset"]),
            greedy=_flag(right, "greedy"),
            vote=_flag(right, "vote"),
            choice=_flag(right, "answer"),
            reached=_flag(right, "options"),
            by=str(row["by"]),
            gate=str(row["gate"]),
            lead=_number(row, "lead"),
            confidence=_number(row, "confidence"),
            greedy_tokens=int(_number(tokens, "greedy")),
            sampled_tokens=int(_number(tokens, "sampled")),
            choosing_tokens=int(_number(tokens, "choosing")),
        )


@dataclass(frozen=True)
class Rung:
    """A way of answering: the share of n photos that it names exactly, a 95 % interval, tokens written a photo."""

    name: str
    accuracy: float
    low: float
    high: float
    n: int
    tokens: float


@dataclass(frozen=True)
class Paired:
    """Two ways of answering the same photos: how many the second turned from wrong to right, and from right to wrong.

    `p` is McNemar's, exact and two-sided: the chance of a split at least as uneven if either turn were as likely.
    """

    first: str
    second: str
    helped: int
    hurt: int
    p: float


@dataclass(frozen=True)
class Split:
    """The accuracy of the decision as a product: the label is among the options, and is taken from among them."""

    recall: float
    right_of_reached: float
    accuracy: float


@dataclass(frozen=True)
class Gated:
    """What a gate at this margin would have come to: accuracy, its interval, the share of choosing tokens it saves."""

    margin: float
    accuracy: float
    low: float
    high: float
    saved: float


RUNGS: dict[str, Callable[[Asked], bool]] = {
    "greedy": lambda one: one.greedy,
    "vote": lambda one: one.vote,
    "two steps": lambda one: one.choice,
}


def rungs(asked: Sequence[Asked], suffix: str = "") -> list[Rung]:
    """Greedy, vote and two steps, and what the choice would come to if it were always right ("options")."""
    tokens = {
        "greedy": _mean([one.greedy_tokens for one in asked]),
        "vote": _mean([one.sampled_tokens for one in asked]),
        "two steps": _mean([one.sampled_tokens + one.choosing_tokens for one in asked]),
    }
    found = [
        _rung(f"{name}{suffix}", [is_right(one) for one in asked], tokens[name]) for name, is_right in RUNGS.items()
    ]
    return [*found, _rung(f"options{suffix}", [one.reached for one in asked], tokens["vote"])]


def split_of(asked: Sequence[Asked]) -> Split:
    """accuracy = recall x right_of_reached, exactly: an answer is always one of the options. 0 where there are none."""
    reached = [one for one in asked if one.reached]
    return Split(
        _mean([one.reached for one in asked]),
        _mean([one.choice for one in reached]),
        _mean([one.choice for one in asked]),
    )


def paired(first: str, second: str, before: Sequence[bool], after: Sequence[bool]) -> Paired:
    """Raises ValueError when the two have not answered equally many photos."""
    helped = sum(not a and b for a, b in zip(before, after, strict=True))
    hurt = sum(a and not b for a, b in zip(before, after, strict=True))
    return Paired(first, second, helped, hurt, mcnemar(helped, hurt))


def mcnemar(helped: int, hurt: int) -> float:
    """min(1, 2 P(X <= min)) of a fair coin thrown helped + hurt times; 1 where nothing changed."""
    turns, few = helped + hurt, min(helped, hurt)
    return min(1.0, 2 * sum(math.comb(turns, k) for k in range(few + 1)) / 2**turns)


def wilson(right: int, n: int) -> tuple[float, float]:
    """The 95 % score interval of a share; (0, 1) of nothing."""
    if not n:
        return 0.0, 1.0
    share, wide = right / n, Z * Z / n
    middle, half = share + wide / 2, Z * math.sqrt(share * (1 - share) / n + wide / (4 * n))
    low, high = (middle - half) / (1 + wide), (middle + half) / (1 + wide)
    return max(0.0, min(low, share)), min(1.0, max(high, share))  # rounding leaves out no share of 0 or 1


def gates(asked: Sequence[Asked], margins: Sequence[float] = MARGINS) -> list[Gated]:
    """What a margin saves and costs, of photos that were all asked about unless one name alone was read.

    Raises ValueError for photos that a margin has kept from being asked: what it cost is not known.
    """
    if any(one.gate == "margin" for one in asked):
        raise ValueError("the cost of a gate is told from an evaluation without one: set margin to null")
    spent = sum(one.choosing_tokens for one in asked)
    found: list[Gated] = []
    for margin in margins:
        right = [one.vote if one.lead >= margin else one.choice for one in asked]
        left = sum(one.choosing_tokens for one in asked if one.lead < margin)
        found.append(Gated(margin, _mean(right), *wilson(sum(right), len(right)), 1 - left / spent if spent else 0.0))
    return found


def best_margin(cohorts: Iterable[Sequence[Asked]], margins: Sequence[float] = MARGINS) -> float:
    """The one margin that saves most of those which cost none of these cohorts any accuracy against asking always.

    1, which closes nothing but what is closed anyway, never does. It is known in hindsight: what it saves of the photos
    that it was chosen on is the best that can be said of it.
    """
    known = [(own, _mean([one.choice for one in own])) for own in cohorts]
    free = [margin for margin in margins if all(gates(own, [margin])[0].accuracy >= ungated for own, ungated in known)]
    return min(free, default=1.0)


def risk_coverage(asked: Sequence[Asked], shares: Sequence[float] = SHARES) -> dict[float, float]:
    """The accuracy among the most confident share of the photos; of equals any may be taken, so their mean counts."""
    by_confidence: dict[float, list[bool]] = {}
    for one in asked:
        by_confidence.setdefault(one.confidence, []).append(one.choice)
    found: dict[float, float] = {}
    for share in shares:
        wanted, right, left = share * len(asked), 0.0, share * len(asked)
        for confidence in sorted(by_confidence, reverse=True):
            own = by_confidence[confidence]
            taken = min(left, len(own))
            right, left = right + taken * sum(own) / len(own), left - taken
        found[share] = right / wanted if wanted else 0.0
    return found


@dataclass(frozen=True)
class Harmonic:
    """2bn / (b + n) of base and novel accuracy, by both definitions in use over several data sets; with one, the same.

    `of_means` takes the mean base and the mean novel accuracy, `mean_of` is the mean of each data set's own. `joint` is
    the accuracy over all photos of both together. The interval, 95 % wide, resamples photos, and is of `of_means`.
    """

    of_means: float
    low: float
    high: float
    mean_of: float
    joint: float


def harmonic(base: Sequence[Asked], novel: Sequence[Asked], is_right: Callable[[Asked], bool]) -> Harmonic:
    """Of the data sets that have both; 0 where there is none."""
    sets = sorted({one.dataset for one in base} & {one.dataset for one in novel})
    counts = [[[is_right(one) for one in side if one.dataset == name] for name in sets] for side in (base, novel)]
    shares = np.array([[_mean(own) for own in side] for side in counts]).reshape(2, len(sets))
    sizes = np.array([[len(own) for own in side] for side in counts], dtype=np.int64).reshape(2, len(sets))
    if not sets:
        return Harmonic(0.0, 0.0, 0.0, 0.0, 0.0)
    drawn = np.random.default_rng(0).binomial(sizes, shares, (RESAMPLES, *sizes.shape)) / sizes
    spread = [_harmonic_mean(*sample.mean(-1)) for sample in drawn]
    low, high = np.quantile(spread, [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2])
    each = [_harmonic_mean(b, n) for b, n in shares.T]
    joint = _mean([right for side in counts for own in side for right in own])
    return Harmonic(_harmonic_mean(*shares.mean(-1)), float(low), float(high), float(np.mean(each)), joint)


def _harmonic_mean(base: float, novel: float) -> float:
    return float(2 * base * novel / (base + novel)) if base + novel else 0.0


def _rung(name: str, right: Sequence[bool], tokens: float) -> Rung:
    return Rung(name, _mean(right), *wilson(sum(right), len(right)), len(right), tokens)


def _flag(row: Row, name: str) -> bool:
    if not isinstance(row[name], bool):
        raise ValueError(f"{name} must be true or false, got {row[name]!r}")
    return row[name]


def _number(row: Row, name: str) -> float:
    value = row[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{name} must be a number, got {value!r}")
    return value


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
