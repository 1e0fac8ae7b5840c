"""What the best of several sampled answers would have come to."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor
from torchmetrics import Metric

from fgvr.metrics.verdicts import INTERVALS, SPECIFICITY_WEIGHTS, UNJUDGED, VERDICT_FIGURES, checked, summary


def curve(n: int) -> list[int]:
    """1, 2, 4, ... and n itself."""
    return sorted({n} | {2**power for power in range(n.bit_length()) if 2**power <= n})


class BestOfN(Metric):
    """`summary` of the best answer among k of the n sampled for each photo, for k = 1, 2, 4, ... n.

    Answers are ordered by verdict; those that did not parse stand below WRONG, those without a verdict lowest of all.

    The k are any of the n with equal chance, and the expectation over that choice is exact, not drawn. Let m_j of a
    photo's n answers be of bin j or below. All of the k are when none of the other n - m_j is among them, so the best
    of k is of bin j or below with probability C(m_j, k) / C(n, k), and of bin j itself with that less the same for
    j - 1 (for "correct or not" this is the unbiased pass@k of arXiv 2107.03374, eq. 1). Added up over photos that is
    the expected histogram of the best, of which `summary` is taken: specificity is therefore the expected weight over
    the expected number of correct ones. Correctness never falls as k grows. At k = 1 it is the mean over all samples.

    `update` takes the verdicts of all n answers of each photo. Raises ValueError when n is below 1.
    """

    full_state_update = False
    below: Tensor  # [8, n + 1]: of how many photos exactly m answers are of a bin or below it

    def __init__(self, n: int, weights: Sequence[float] = SPECIFICITY_WEIGHTS) -> None:
        super().__init__()
        if n < 1:
            raise ValueError(f"the best of n needs n of at least 1, got {n}")
        self.n, self.weights = n, checked(weights)
        self.add_state("below", torch.zeros(len(VERDICT_FIGURES), n + 1, dtype=torch.long), dist_reduce_fx="sum")

    def update(self, verdicts: Int[Tensor, "P K"]) -> None:
        bins = (verdicts.long() - UNJUDGED).view(-1, self.n)
        at_or_below = (bins[:, :, None] <= torch.arange(len(VERDICT_FIGURES))).sum(1)  # [P, 8]
        counted = torch.nn.functional.one_hot(at_or_below, self.n + 1).sum(0)
        self.below += counted.to(self.below.device)

    def compute(self) -> dict[str, float]:
        """`best_of/K/FIGURE` for correctness, specificity and harmonic_mean; `sampled/VERDICT` over all n answers."""
        figures: dict[str, float] = {}
        for k in curve(self.n):
            values = summary(np.array(self._best(k)), self.weights)
            figures |= {f"best_of/{k}/{name}": float(values[name]) for name in INTERVALS}
        each = self._best(1)
        photos = sum(each)
        shares = [count / photos if photos else 0.0 for count in each]
        return figures | {f"sampled/{name}": share for name, share in zip(VERDICT_FIGURES, shares, strict=True)}

    def _best(self, k: int) -> list[float]:
        """How many photos have the best of k answers in each bin, in expectation. The binomials are whole numbers."""
        ways = [math.comb(m, k) for m in range(self.n + 1)]
        up_to = [sum(a * b for a, b in zip(row, ways, strict=True)) for row in self.below.tolist()]
        return [(here - under) / ways[-1] for under, here in zip([0, *up_to], up_to, strict=False)]
