"""The clipped policy gradient: how far an update may move the probability of what was sampled.

Shape legend: N target tokens of one micro-batch, flat.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from fgvr.errors import UserError

MAX_LOG_RATIO = 20.0  # nats: the ratio stays between 2e-9 and 5e8


@dataclass(frozen=True)
class Clip:
    """Where the ratio of new to old probability stops counting.

    `low` in (0, 1] and `high` above 0 bound it to [1 - low, 1 + high] in the direction that the advantage favours (PPO,
    arXiv 1707.06347, eq. 7; DAPO's "clip higher" is 0.2 and 0.28, arXiv 2503.14476, eq. 10). low 1 with high infinite
    clips nothing. `dual` above 1 is the most that the ratio counts where the advantage is negative (arXiv 1912.09729,
    eq. 5; 3 is usual), None for no such bound. `level` says whose ratio it is: each token's own, or one for the whole
    sequence. Raises UserError outside the ranges.
    """

    low: float = 0.2
    high: float = 0.2
    dual: float | None = None
    level: Literal["token", "sequence"] = "token"

    def __post_init__(self) -> None:
        if not (0 < self.low <= 1 and self.high > 0):
            raise UserError(f"clipping needs 0 < low <= 1 and high > 0, got low={self.low} and high={self.high}")
        if self.dual is not None and not self.dual > 1:
            raise UserError(f"the dual clip must be above 1, got {self.dual}: 3 is usual, null is none")
        if self.level not in ("token", "sequence"):
            raise UserError(f"the clipped ratio is that of a token or of a sequence, got level={self.level}")


@dataclass(frozen=True)
class PolicyLoss:
    """The loss of each target, to be weighed and summed, and what clipping did.

    `ratio` is new over old probability, detached. `low` and `high` mark the targets whose loss the lower and the upper
    bound cut, `dual` those that the dual clip cut; these have no gradient.
    """

    values: Float[Tensor, " N"]
    ratio: Float[Tensor, " N"]
    low: Bool[Tensor, " N"]
    high: Bool[Tensor, " N"]
    dual: Bool[Tensor, " N"]


def policy_loss(
    logp: Float[Tensor, " N"],
    old_logp: Float[Tensor, " N"],
    advantages: Float[Tensor, " N"],
    clip: Clip,
    sequence: Int[Tensor, " N"],
) -> PolicyLoss:
    """-A times the ratio, or times the bound that the ratio has crossed to A's advantage.

    Log-probs are in nats; `old_logp` is a constant, whatever graph it carries. `sequence` says which sequence each
    target belongs to (any labels). The same as PPO's max(-A r, -A clip(r)), below -A dual where A < 0
    (`policy_loss_reference`), written so that what is counted as clipped is what was clipped.

    At level "sequence" a target's ratio is exp of the mean log-ratio of its whole sequence, with its gradient into
    every token (GSPO, arXiv 2507.18071, eq. 6-7). Log-ratios are clamped to +-20 nats before exp, without gradient
    beyond. At ratio 1 the value is -A and the gradient is REINFORCE's, -A (Williams, 1992). A target of advantage 0
    has value and gradient 0, even if its log-probs are NaN; elsewhere a NaN reaches value and gradient.

    Raises ValueError for shapes that disagree and for an advantage that is not finite.
    """
    if not (logp.shape == old_logp.shape == advantages.shape == sequence.shape):
        raise ValueError(
            "every target needs a log-prob, an old one, an advantage and a sequence, got shapes "
            f"{[tuple(entry.shape) for entry in (logp, old_logp, advantages, sequence)]}"
        )
    if not bool(advantages.isfinite().all()):
        raise ValueError("advantages must be finite, got NaN or an infinite one: a missing reward has the advantage 0")
    log_ratio = logp - old_logp.detach()
    if clip.level == "sequence":
        log_ratio = _sequence_mean(log_ratio, sequence)
    log_ratio = bounded(log_ratio)
    ratio, dual = log_ratio.detach().exp(), math.inf if clip.dual is None else clip.dual
    cut_low = (ratio < 1 - clip.low) & (advantages < 0)
    cut_high = (ratio > 1 + clip.high) & (advantages > 0)
    cut_dual = (ratio > dual) & (advantages < 0)
    counted = torch.where(advantages == 0, 0.0, log_ratio).exp()
    counted = counted.masked_fill(cut_low, 1 - clip.low).masked_fill(cut_high, 1 + clip.high)
    return PolicyLoss(-advantages * counted.masked_fill(cut_dual, dual), ratio, cut_low, cut_high, cut_dual)


def policy_loss_reference(
    logp: Float[Tensor, " N"],
    old_logp: Float[Tensor, " N"],
    advantages: Float[Tensor, " N"],
    clip: Clip,
    sequence: Int[Tensor, " N"],
) -> Float[Tensor, " N"]:
    """The values as the papers write them, one sequence after the other: the slow twin."""
    log_ratio = logp - old_logp.detach()
    if clip.level == "sequence":
        log_ratio = torch.stack([log_ratio[sequence == label].mean() for label in sequence])
    ratio = log_ratio.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp()
    values = torch.maximum(-advantages * ratio, -advantages * ratio.clamp(1 - clip.low, 1 + clip.high))
    if clip.dual is None:
        return values
    return torch.where(advantages < 0, torch.minimum(values, -advantages * clip.dual), values)


def bounded(log_ratio: Float[Tensor, " N"]) -> Float[Tensor, " N"]:
    """Clamped to +-20 nats, without gradient beyond; NaN keeps its gradient, which torch.clamp would make 0."""
    beyond = log_ratio.abs() > MAX_LOG_RATIO
    return torch.where(beyond, log_ratio.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO), log_ratio)


def _sequence_mean(values: Tensor, sequence: Tensor) -> Tensor:
    """[N]: each target's entry is the mean over its sequence."""
    labels, place, lengths = torch.unique(sequence, return_inverse=True, return_counts=True)
    sums = values.new_zeros(len(labels)).index_add(0, place, values)
    return (sums / lengths)[place]
