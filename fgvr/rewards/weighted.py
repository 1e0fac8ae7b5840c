"""The weighted sum of named rewards, with every component kept, and with a place for scores that could not be had."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor

from fgvr.data.taxonomy import Taxonomy
from fgvr.errors import UserError
from fgvr.rewards.base import AnsweredGroup, Reward

log = logging.getLogger(__name__)

NAMED = 5  # faults that one warning spells out


@dataclass(frozen=True)
class Term:
    """One reward of a sum. Weight 0 shows it in the logs without learning from it."""

    reward: Reward
    weight: float = 1.0


@dataclass(frozen=True)
class Scores:
    """Float32 scores per group of G completions: each component by name, and their weighted sum. NaN is missing.

    `missing` counts the component scores that a reward left out (None), `faulty` those that were NaN or infinite.
    """

    components: dict[str, list[Float[Tensor, " G"]]]
    totals: list[Float[Tensor, " G"]]
    missing: int
    faulty: int


class WeightedSum:
    """The sum of weight times score over named rewards; the names are those of the logs.

    A total is missing when any component with a weight other than 0 is. Raises UserError when there are no terms, a
    term is no `Term` of a `Reward`, a weight is not finite, or all weights are 0.
    """

    def __init__(self, terms: dict[str, Term]) -> None:
        if not terms:
            raise UserError("a weighted sum must have at least one term, got none: name a reward under terms")
        for name, term in terms.items():
            if not isinstance(term, Term) or not isinstance(term.reward, Reward):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise UserError(f"the term {name!r} must be a reward and its weight, got {term!r}")
            if not math.isfinite(term.weight):
                raise UserError(f"the weight of {name!r} must be a finite number, got {term.weight}")
        if not any(term.weight for term in terms.values()):
            raise UserError(f"one weight at least must differ from 0, but {', '.join(terms)} all weigh 0")
        self.terms = dict(terms)

    def bind(self, taxonomy: Taxonomy) -> Self:
        """A sum whose rewards all know the taxonomy."""
        bound = copy.copy(self)
        bound.terms = {name: replace(term, reward=term.reward.bind(taxonomy)) for name, term in self.terms.items()}
        return bound

    def judge(self, groups: Sequence[AnsweredGroup]) -> Scores:
        """All components and totals, in the order of the groups. Faulty scores are named in one warning.

        Raises ValueError when a reward returns another number of groups or of scores than it was given.
        """
        given = {name: _scored(name, term.reward, groups) for name, term in self.terms.items()}
        components = {name: [_tensor(scores) for scores in by_group] for name, by_group in given.items()}
        totals = [self._total([components[name][i] for name in components], len(groups[i])) for i in range(len(groups))]
        faults = [
            f"{name} of {group.example.uid} is {score}"
            for name, by_group in given.items()
            for group, scores, kept in zip(groups, by_group, components[name], strict=True)
            for score, lost in zip(scores, kept.isnan().tolist(), strict=True)
            if score is not None and lost
        ]
        if faults:
            more = f", and {len(faults) - NAMED} more" if len(faults) > NAMED else ""
            log.warning("scores must be finite; these count as missing: %s%s", "; ".join(faults[:NAMED]), more)
        missing = sum(score is None for by_group in given.values() for scores in by_group for score in scores)
        return Scores(components, totals, missing, len(faults))

    def _total(self, components: Sequence[Tensor], size: int) -> Tensor:
        total = torch.zeros(size, dtype=torch.float64)
        for term, scores in zip(self.terms.values(), components, strict=True):
            if term.weight:
                total += term.weight * scores.double()
        return total.float()


def _scored(name: str, reward: Reward, groups: Sequence[AnsweredGroup]) -> list[list[float | None]]:
    scores = reward.score(groups)
    if len(scores) != len(groups):
        raise ValueError(f"the reward {name!r} must score every group, got scores of {len(scores)} for {len(groups)}")
    for group, of_group in zip(groups, scores, strict=True):
        if len(of_group) != len(group):
            raise ValueError(
                f"the reward {name!r} must score every completion of {group.example.uid}, got {len(of_group)} scores "
                f"for {len(group)} completions"
            )
    return scores


def _tensor(scores: Sequence[float | None]) -> Float[Tensor, " G"]:
    values = torch.tensor([math.nan if score is None else score for score in scores], dtype=torch.float32)
    return values.where(values.isfinite(), math.nan)
