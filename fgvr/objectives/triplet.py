"""Beside DAPO's loss: the same words must be less likely about a photo of the class that looks most alike.

With l = logp of a sampled token under its own photo and m = its log-prob under the negative's, TAPO (Fine-R1, arXiv
2602.07605, section 4.3, eq. 4) minimises, per token and beside the policy loss,

    - gamma k + eta1 (-l) + eta2 (-m),    k = clamp(e^u - u - 1, -10, 10),  u = clamp(m - l, -20, 20).

k is the k3 estimate of KL(policy || policy under the negative): its ratio is that of m over l. (The paper prints the
inverse ratio and the entropies with the opposite sign; what is here is what its authors ran, as in PAPO, arXiv
2507.06448.) With m detached the slope of k in l is 1 - e^(m - l), and the term of eta2 is a constant.

Shape legend: N target tokens of one micro-batch, M those of them that are compared with a negative, flat.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fgvr.errors import UserError
from fgvr.objectives.policy_loss import bounded

MOST = 10.0  # nats that one token's divergence counts at most


@dataclass(frozen=True)
class Triplet:
    """How answers about an example are kept apart from those about its negative.

    `gamma`, at least 0, is what a nat of divergence earns; with `annealed_over` it falls linearly to 0 over that share
    of the run's optimiser steps, None keeps it fixed. `eta1` times the sampled entropy (-logp) under the own photo and
    `eta2` times that under the negative's are added to the loss, at least 0: the first makes every sampled token
    likelier, right or wrong. `negative` says whether the policy under the negative is a constant taken before the first
    update ("detached", for which eta2 changes nothing) or learned through ("full"). `scope` compares all completions or
    those alone that are right. PAPO found gamma of 0.02 and more to collapse without entropy terms. Raises UserError
    outside the ranges.
    """

    gamma: float = 0.01
    annealed_over: float | None = None
    eta1: float = 0.03
    eta2: float = 0.0
    negative: Literal["detached", "full"] = "detached"
    scope: Literal["all", "correct_only"] = "all"

    def __post_init__(self) -> None:
        for name, value in (("gamma", self.gamma), ("eta1", self.eta1), ("eta2", self.eta2)):
            if isinstance(value, bool) or not (math.isfinite(value) and value >= 0):
                raise UserError(f"triplet.{name} must be finite and not below 0, got {value}: 0 turns its term off")
        share = self.annealed_over
        if share is not None and (isinstance(share, bool) or not 0 < share <= 1):
            raise UserError(
                "triplet.annealed_over is the share of the run's steps over which gamma falls to 0, above 0 and at "
                f"most 1, got {share}: leave it out to keep gamma as it is"
            )
        if self.negative not in ("detached", "full"):
            raise UserError(f"triplet.negative is detached or full, got {self.negative!r}")
        if self.scope not in ("all", "correct_only"):
            raise UserError(f"triplet.scope is all or correct_only, got {self.scope!r}")

    @property
    def compares(self) -> bool:
        """Whether log-probs under the negative are asked for at all."""
        return self.gamma > 0 or self.eta2 > 0

    def gamma_at(self, step: int, total: int | None) -> float:
        """gamma at optimiser step `step`, counted from 0, of `total`, which may be None where it is fixed."""
        if self.annealed_over is None:
            return self.gamma
        if total is None:
            raise ValueError("an annealed gamma must know the run's last step, got none")
        return self.gamma * max(0.0, 1 - step / (self.annealed_over * total))


def divergence(logp: Float[Tensor, " M"], negative_logp: Float[Tensor, " M"]) -> Float[Tensor, " M"]:
    """k in nats, from 0 to 10, and 0 where both are equal. No gradient where it is cut off, or u beyond +-20.

    Raises ValueError for shapes that disagree. Computed in float32 (float64 for float64 log-probs).
    """
    if logp.shape != negative_logp.shape:
        raise ValueError(
            "every compared target needs a log-prob under its own photo and under the negative's, got "
            f"{tuple(logp.shape)} and {tuple(negative_logp.shape)}"
        )
    dtype = torch.float64 if logp.dtype == torch.float64 else torch.float32
    log_ratio = bounded(negative_logp.to(dtype) - logp.to(dtype))
    value = log_ratio.expm1() - log_ratio
    return torch.where(value > MOST, MOST, value)  # not torch.clamp, which would make a NaN's gradient 0


def triplet_loss(
    logp: Float[Tensor, " N"],
    negative_logp: Float[Tensor, " M"] | None,
    compared: Bool[Tensor, " N"] | None,
    gamma: float,
    triplet: Triplet,
) -> tuple[Float[Tensor, " N"], Float[Tensor, " M"]]:
    """What is added to each target's policy loss, to be weighed and summed with it, and the divergence of each of M.

    `compared` marks the M targets that `negative_logp` is of, in order; both are None where none is compared. `gamma`
    takes the place of `triplet.gamma`. A detached negative is a constant, whatever graph it carries.
    """
    values = -triplet.eta1 * logp
    if negative_logp is None or compared is None:
        return values, logp.new_zeros(0)
    if triplet.negative == "detached":
        negative_logp = negative_logp.detach()
    apart = divergence(logp[compared], negative_logp)
    added = -gamma * apart - triplet.eta2 * negative_logp
    return values.masked_scatter(compared, values[compared] + added), apart
