"""What an answer is worth by how specific it is: against the best of its own group, or on a fixed ladder.

The rules are pure functions of one group's verdicts; None stands for a reply that did not parse. They are those of
SpeciaRL (arXiv 2603.03197, section 3) and of the rewards that it is compared with.
"""

from __future__ import annotations

import copy
import hashlib
import math
import random
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Self

from fgvr.errors import UserError
from fgvr.judges.base import Judge, Judgement, Unjudged
from fgvr.rewards.base import AnsweredGroup, Reward
from fgvr.taxonomy.tree import Taxonomy
from fgvr.types import Verdict

Rule = Literal["best_in_group", "binary", "scala1", "scala2", "scala3", "correct"]
Unparsable = Literal["apart", "minus_one"]
Verdicts = Sequence[Verdict | None]
Scores = list[float | None]

# What a verdict is worth by the rules that do not look at the group: wrong, abstain, generic, less specific, specific,
# more specific. "binary" is the paper's RFT baseline, "correct" asks for no specificity at all.
LADDERS: Mapping[str, tuple[float, ...]] = {
    "binary": (0.0, 0.0, 0.0, 0.0, 1.0, 1.0),
    "scala1": (0.0, 0.25, 0.5, 0.75, 1.0, 1.0),
    "scala2": (0.0, 0.0, 0.5, 0.75, 1.0, 1.0),
    "scala3": (0.0, 0.0, 0.0, 0.75, 1.0, 1.0),
    "correct": (0.0, 0.0, 1.0, 1.0, 1.0, 1.0),
}
STEPS = (Verdict.SPECIFIC, Verdict.LESS_SPECIFIC, Verdict.GENERIC, Verdict.ABSTAIN, Verdict.WRONG)


@dataclass(frozen=True)
class Specificity:
    """How verdicts become rewards.

    `rule` is best_in_group, or a ladder (`LADDERS`). For best_in_group, `reached_by` completions must reach a verdict
    before it is asked of the others (1: the best of all, as in the paper), and without `abstention` a group's best must
    be correct: where nobody is, abstaining earns nothing.

    `unparsable` replies are left out of the comparison and pushed down by an advantage of their own, `penalty` times
    the share of their group that did parse ("apart"); or they score -1 within it, as in the released code
    ("minus_one"), which lifts the wrong answers of their group. With probability `noise` a verdict is moved by one step
    before it is rewarded (`noisy`); `seed` decides which. Raises UserError for values out of range.
    """

    rule: Rule = "best_in_group"
    reached_by: int = 1
    abstention: bool = True
    unparsable: Unparsable = "apart"
    penalty: float = 1.0
    noise: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.rule != "best_in_group" and self.rule not in LADDERS:
            raise UserError(f"a specificity rule is best_in_group or one of {sorted(LADDERS)}, got {self.rule!r}")
        if self.reached_by < 1:
            raise UserError(f"reached_by counts completions and must be at least 1, got {self.reached_by}")
        if self.unparsable not in ("apart", "minus_one"):
            raise UserError(f"unparsable replies are scored apart or minus_one, got {self.unparsable!r}")
        if not (math.isfinite(self.penalty) and self.penalty >= 0):
            raise UserError(f"the penalty of an unparsable reply must be 0 or more, got {self.penalty}")
        if not 0 <= self.noise <= 1:
            raise UserError(f"noise is a probability, from 0 to 1, got {self.noise}")


def anchor(verdicts: Verdicts, reached_by: int = 1) -> Verdict:
    """c*: the best verdict that at least `reached_by` replies reach or surpass, MORE_SPECIFIC taken for SPECIFIC.

    Where fewer replies than that have a verdict, all of them must reach it. WRONG where none has one.
    """
    ranked = sorted((min(verdict, Verdict.SPECIFIC) for verdict in verdicts if verdict is not None), reverse=True)
    return ranked[min(reached_by, len(ranked)) - 1] if ranked else Verdict.WRONG


def best_in_group(verdicts: Verdicts, reached_by: int = 1, abstention: bool = True) -> Scores:
    """1 for a reply that reaches the `anchor` of its own group, else 0; all 0 where the anchor is WRONG.

    r(p) = 1[c(p) >= c*], with c* = S for S+ (SpeciaRL, section 3.2). None stays None. Without `abstention` all are 0
    where the anchor is ABSTAIN.
    """
    best = anchor(verdicts, reached_by)
    lowest = Verdict.ABSTAIN if abstention else Verdict.GENERIC
    return [None if verdict is None else float(best >= lowest and verdict >= best) for verdict in verdicts]


def on_ladder(verdicts: Verdicts, ladder: Sequence[float]) -> Scores:
    """What each verdict is worth by itself, six values from WRONG to MORE_SPECIFIC; None stays None."""
    return [None if verdict is None else ladder[verdict] for verdict in verdicts]


def noisy(verdict: Verdict, probability: float, rng: random.Random) -> Verdict:
    """The verdict, moved by one step of specific, less specific, generic, abstain, wrong with this probability.

    Up or down is even, at either end there is one way only. MORE_SPECIFIC that is moved counts as SPECIFIC before.
    """
    if rng.random() >= probability:
        return verdict
    place = STEPS.index(min(verdict, Verdict.SPECIFIC))
    return STEPS[rng.choice([step for step in (place - 1, place + 1) if 0 <= step < len(STEPS)])]


class SpecificityReward(Reward):
    """The verdicts of `judge` on one group's answers, as scores by the rule of `specificity`.

    A group with an answer that could not be judged has no scores at all: what its best is, is not known. Where
    unparsable replies stand apart they have none either, so the mean reward is that of answers alone: see it beside
    completions/parsed. Raises UserError when the judge cannot work as it is set up.
    """

    def __init__(self, judge: Judge, specificity: Specificity = Specificity()) -> None:
        self.judge, self.specificity = judge, specificity
        self._seen: deque[Counter[str]] = deque()  # safe to append to from several threads

    @property
    def remote(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.judge.remote

    def bind(self, taxonomy: Taxonomy) -> Self:
        bound = copy.copy(self)
        bound.judge = self.judge.bind(taxonomy)
        return bound

    def check(self) -> None:
        self.judge.check()

    def release(self) -> None:
        self.judge.release()

    def score(self, groups: Sequence[AnsweredGroup]) -> list[list[float | None]]:
        pairs = [(group.example.label, answer.text) for group in groups for answer in group.answers if answer]
        found = iter(self.judge.verdicts(pairs))
        return [self._of(group, [next(found) if answer else None for answer in group.answers]) for group in groups]

    def own_advantages(self, groups: Sequence[AnsweredGroup]) -> list[list[float]]:
        """-penalty times the share of the group that parsed, for each reply that did not; 0 for the others.

        So one lost reply among many weighs most, and a group without any answer teaches nothing.
        """
        if self.specificity.unparsable != "apart":
            return super().own_advantages(groups)
        return [
            [
                -self.specificity.penalty * parsed / len(group) if answer is None and parsed else 0.0
                for answer in group.answers
            ]
            for group in groups
            for parsed in [sum(answer is not None for answer in group.answers)]
        ]

    def tally(self) -> dict[str, int]:
        """The judge's counts, and those of `verdicts/NAME` and, per group, `anchors/NAME`."""
        counts = Counter(self.judge.tally())
        if self._seen:  # what did not occur is said too, for a curve that is not drawn on looks as if nothing changed
            counts.update({f"verdicts/{_name(verdict)}": 0 for verdict in (*Verdict, None)})
            counts.update({f"anchors/{_name(min(verdict, Verdict.SPECIFIC))}": 0 for verdict in Verdict})
        for _ in range(len(self._seen)):
            counts.update(self._seen.popleft())
        return dict(counts)

    def _of(self, group: AnsweredGroup, found: Sequence[Judgement | Unjudged | None]) -> list[float | None]:
        settings = self.specificity
        if any(isinstance(entry, Unjudged) for entry in found):
            return [None] * len(group)
        verdicts = [entry.verdict if isinstance(entry, Judgement) else None for entry in found]
        group.verdicts[:] = verdicts  # as they were judged, before any noise
        several = sum(entry.several for entry in found if isinstance(entry, Judgement))
        verdicts = self._with_noise(group, verdicts)
        self._count(verdicts, several)
        if settings.rule == "best_in_group":
            scores = best_in_group(verdicts, settings.reached_by, settings.abstention)
        else:
            scores = on_ladder(verdicts, LADDERS[settings.rule])
        if settings.unparsable == "minus_one":
            return [-1.0 if score is None else score for score in scores]
        return scores

    def _with_noise(self, group: AnsweredGroup, verdicts: Verdicts) -> list[Verdict | None]:
        """Which replies are moved depends on seed, epoch, sample and text alone, never on who else is in the batch."""
        if not self.specificity.noise:
            return [*verdicts]
        twins: Counter[str] = Counter()
        moved: list[Verdict | None] = []
        for text, verdict in zip(group.texts, verdicts, strict=True):
            key = f"{self.specificity.seed}\0{group.epoch}\0{group.example.uid}\0{twins[text]}\0{text}"
            twins[text] += 1
            rng = random.Random(hashlib.sha256(key.encode("utf-8", "backslashreplace")).digest())
            moved.append(None if verdict is None else noisy(verdict, self.specificity.noise, rng))
        return moved

    def _count(self, verdicts: Verdicts, several: int) -> None:
        named = Counter(f"verdicts/{_name(verdict)}" for verdict in verdicts)
        if several:
            named["judge/several"] = several
        if any(verdict is not None for verdict in verdicts):
            named[f"anchors/{_name(anchor(verdicts, self.specificity.reached_by))}"] += 1
        self._seen.append(named)


def _name(verdict: Verdict | None) -> str:
    return "parse_failures" if verdict is None else verdict.name.lower()
