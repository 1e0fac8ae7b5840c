"""The weighted sum of named rewards, with every component kept, and with a place for scores that could not be had."""

from __future__ import annotations

import copy
import logging
import math
import threading
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor

from fgvr.errors import UserError
from fgvr.rewards.base import AnsweredGroup, Reward
from fgvr.taxonomy.tree import Taxonomy

log = logging.getLogger(__name__)

NAMED = 5  # faults that one warning spells out
ONE_AT_A_TIME = threading.Lock()  # for rewards that are not remote: they need not be safe in threads


@dataclass(frozen=True)
class Term:
    """One reward of a sum.

    The scores of `reward` count `weight` times. Weight 0 shows it in the logs without learning from it.
    """

    reward: Reward
    weight: float = 1.0


@dataclass(frozen=True)
class Scores:
    """Float32 scores per group of G completions: each component by name, and their weighted sum. NaN is missing.

    `own_advantages` is the weighted sum of those that rewards give of their own, to be added to those of the totals.
    `missing` counts the component scores that a reward left out (None), `faulty` those that were NaN or infinite.
    """

    components: dict[str, list[Float[Tensor, " G"]]]
    totals: list[Float[Tensor, " G"]]
    own_advantages: list[Float[Tensor, " G"]]
    missing: int
    faulty: int

    @classmethod
    def joined(cls, parts: Sequence[Scores]) -> Scores:
        """The scores of several calls as of one about all their groups. Raises ValueError for none."""
        if not parts:
            raise ValueError("scores are joined of at least one part, got none")
        return cls(
            {name: [values for part in parts for values in part.components[name]] for name in parts[0].components},
            [total for part in parts for total in part.totals],
            [own for part in parts for own in part.own_advantages],
            sum(part.missing for part in parts),
            sum(part.faulty for part in parts),
        )


class WeightedSum:
    """The sum of weight times score over named rewards; the names are those of the logs.

    `terms` are the rewards by name. A total is missing when any component with a weight other than 0 is. Raises
    UserError when there are no terms, a term is no `Term` of a `Reward`, a weight is not finite, or all weights are 0.
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

    @property
    def remote(self) -> bool:
        """True when some reward waits for a server; `judge` may then be called from several threads."""
        return any(term.reward.remote for term in self.terms.values())

    def check(self) -> None:
        """Raises UserError when one of the rewards cannot work as it is set up."""
        for term in self.terms.values():
            term.reward.check()

    def tally(self) -> dict[str, int]:
        """The counts of all rewards since this was last asked."""
        counts: Counter[str] = Counter()
        for term in self.terms.values():
            counts.update(term.reward.tally())
        return dict(counts)

    def release(self) -> None:
        """Lets go of what the rewards hold open."""
        for term in self.terms.values():
            term.reward.release()

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
        return Scores(components, totals, self._own_advantages(groups), missing, len(faults))

    def _own_advantages(self, groups: Sequence[AnsweredGroup]) -> list[Float[Tensor, " G"]]:
        sums = [torch.zeros(len(group)) for group in groups]
        for term in self.terms.values():
            if term.weight:
                for total, own in zip(sums, term.reward.own_advantages(groups), strict=True):
                    total += term.weight * torch.tensor(own)
        return sums

    def _total(self, components: Sequence[Tensor], size: int) -> Tensor:
        total = torch.zeros(size, dtype=torch.float64)
        for term, scores in zip(self.terms.values(), components, strict=True):
            if term.weight:
                total += term.weight * scores.double()
        return total.float()


def _scored(name: str, reward: Reward, groups: Sequence[AnsweredGroup]) -> list[list[float | None]]:
    with nullcontext() if reward.remote else ONE_AT_A_TIME:
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
