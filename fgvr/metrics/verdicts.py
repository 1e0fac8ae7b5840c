"""The histogram of verdicts, what follows from it, and how far that might have come out otherwise."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric

from fgvr.judges.base import Judged
from fgvr.types import Verdict

UNJUDGED, PARSE_FAILURE = -2, -1
VERDICT_FIGURES = ("unjudged", "parse_failures", *(verdict.name.lower() for verdict in Verdict))  # the bins, in order
FIRST_CORRECT = int(Verdict.GENERIC) - UNJUDGED
SPECIFICITY_WEIGHTS = (1 / 3, 2 / 3, 1.0, 1.0)
INTERVALS = ("correctness", "specificity", "harmonic_mean")  # what has an interval
SUMMARY_FIGURES = (*INTERVALS, "validation_reward")
RESAMPLES, COVERAGE = 1000, 0.95

Floats = NDArray[np.float64]


def verdict_values(judged: Sequence[Judged]) -> Int[Tensor, " N"]:
    """The verdicts as integers; PARSE_FAILURE where the reply did not parse, UNJUDGED where the judge could not say."""
    return torch.tensor([_value(entry) for entry in judged], dtype=torch.long)


def _value(entry: Judged) -> int:
    if entry.judgement is not None:
        return int(entry.judgement.verdict)
    return PARSE_FAILURE if entry.unjudged is None else UNJUDGED


def binned(verdicts: Int[Tensor, " N"]) -> Int[Tensor, " 8"]:
    """How many of each, in the order of VERDICT_FIGURES."""
    return torch.bincount(verdicts.long() - UNJUDGED, minlength=len(VERDICT_FIGURES))


def checked(weights: Sequence[float]) -> tuple[float, ...]:
    """The weights of GENERIC, LESS_SPECIFIC, SPECIFIC, MORE_SPECIFIC. Raises ValueError for others than 4 in [0, 1]."""
    if len(weights) != 4 or not all(0 <= weight <= 1 for weight in weights):
        raise ValueError(f"specificity needs four weights in [0, 1], from generic to more specific, got {weights}")
    return tuple(weights)


def summary(counts: Float[np.ndarray, "*H 8"], weights: Sequence[float]) -> dict[str, Float[np.ndarray, "*H"]]:
    """What histograms over VERDICT_FIGURES come to; the counts of each need not be whole.

    - correctness: c = share of all n answers whose verdict is GENERIC or better. Abstentions, replies that did not
      parse and answers without a verdict stay in n.
    - specificity: s = mean weight of the correct answers alone; 0 when none is correct.
    - harmonic_mean: 2cs / (c + s) of this very set of answers; 0 when both are 0.
    - validation_reward: mean weight over all n, where what is not correct weighs 0: c times s. A policy that always
      abstains earns 0, the least there is, and one that is ever correct earns more (while every weight is above 0).
      The reward of training would not do here: it compares an answer with the others of its group, so that a single
      answer is its own best and a policy that always abstains earns 1.
    """
    correct = counts[..., FIRST_CORRECT:]
    n, right, weight = counts.sum(-1), correct.sum(-1), (correct * np.asarray(weights)).sum(-1)
    correctness, specificity = _shares(right, n), _shares(weight, right)
    harmonic_mean = _shares(2 * correctness * specificity, correctness + specificity)
    values = (correctness, specificity, harmonic_mean, _shares(weight, n))
    return dict(zip(SUMMARY_FIGURES, values, strict=True))


def resampled(counts: Int[np.ndarray, " 8"], weights: Sequence[float], *key: int) -> dict[str, Floats]:
    """`summary` of RESAMPLES bootstrap samples [RESAMPLES]; `key` decides which.

    To draw n answers out of n with replacement is to draw the histogram's counts from a multinomial distribution of
    its shares; so that is done. A histogram of nothing stays one. A sample without a correct answer has specificity 0,
    as `summary` says, so with a few correct answers the interval reaches down to it.
    """
    n = int(counts.sum())
    shares = counts / n if n else np.eye(len(counts))[0]
    return summary(np.random.default_rng(key).multinomial(n, shares, RESAMPLES).astype(np.float64), weights)


def intervals(samples: dict[str, Floats]) -> dict[str, float]:
    """`NAME_low` and `NAME_high` for each of INTERVALS: the percentile interval of bootstrap samples, 95 % wide."""
    ends = {"low": (1 - COVERAGE) / 2, "high": (1 + COVERAGE) / 2}
    return {
        f"{name}_{end}": float(np.quantile(samples[name], share)) for name in INTERVALS for end, share in ends.items()
    }


class VerdictHistogram(Metric):
    """Counts of the six verdicts, of replies that did not parse and of answers not judged; and what `summary` makes.

    `several` counts answers that gave more names than one, which are WRONG besides. Raises ValueError for weights
    outside [0, 1].
    """

    full_state_update = False
    counts: Tensor
    several: Tensor

    def __init__(self, weights: Sequence[float] = SPECIFICITY_WEIGHTS) -> None:
        super().__init__()
        self.weights = checked(weights)
        self.add_state("counts", torch.zeros(len(VERDICT_FIGURES), dtype=torch.long), dist_reduce_fx="sum")
        self.add_state("several", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def update(self, verdicts: Int[Tensor, " N"], several: int = 0) -> None:
        self.counts += binned(verdicts).to(self.counts.device)
        self.several += several

    def compute(self) -> dict[str, float]:
        """n; `summary` and its intervals; the shares of VERDICT_FIGURES and of answers with several names."""
        counts = self.counts.cpu().numpy()
        n = int(counts.sum())
        shares = dict(zip(VERDICT_FIGURES, map(float, _shares(counts, np.array(n))), strict=True))
        figures = {name: float(value) for name, value in summary(counts, self.weights).items()}
        figures |= intervals(resampled(counts, self.weights, 0))
        return {"n": float(n), **figures, **shares, "several": float(_shares(self.several.cpu().numpy(), np.array(n)))}


def _shares(part: NDArray[np.number], whole: NDArray[np.number]) -> Floats:
    """part / whole, 0 where the whole is 0."""
    return np.divide(part, whole, out=np.zeros(np.broadcast_shapes(part.shape, whole.shape)), where=whole != 0)
