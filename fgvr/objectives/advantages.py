"""What each completion of a group is worth, measured against the others of its group.

Shape legend: B groups, G completions of a group. NaN stands for a reward that could not be had.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fgvr.errors import UserError

Baseline = Literal["mean", "leave_one_out"]
Scale = Literal["none", "sample", "population"]


@dataclass(frozen=True)
class Advantage:
    """The settings of `group_advantages`: what is taken off a reward, and what the rest is divided by.

    `baseline` is the group's mean, or the mean of the others ("leave_one_out", which goes with scale "none").
    `scale` is the group's standard deviation with Bessel's correction ("sample"), without it ("population"), or
    nothing; `eps`, in units of reward, is added to the deviation. Raises UserError for what does not go together.
    """

    baseline: Baseline = "mean"
    scale: Scale = "sample"
    eps: float = 1e-4

    def __post_init__(self) -> None:
        if self.baseline not in ("mean", "leave_one_out") or self.scale not in ("none", "sample", "population"):
            raise UserError(
                "an advantage's baseline is mean or leave_one_out and its scale none, sample or population, got "
                f"baseline={self.baseline} and scale={self.scale}"
            )
        if self.baseline == "leave_one_out" and self.scale != "none":
            raise UserError(f"the leave_one_out baseline is not scaled, got scale={self.scale}: set scale to none")
        if not (math.isfinite(self.eps) and self.eps > 0):
            raise UserError(f"eps keeps a small deviation from dividing by 0 and must be above 0, got {self.eps}")


@dataclass(frozen=True)
class GroupFilter:
    """Which groups are learned from: those whose mean `score` lies strictly inside (`low`, `high`), see `informative`.

    `score` names a component of the reward. After `max_tries` batches in a row without one such group the run stops.
    DAPO (arXiv 2503.14476, eq. 11) keeps (0, 1), EasyR1 (0.01, 0.99). Raises UserError for bounds out of order and for
    max_tries below 1.
    """

    score: str = "exact"
    low: float = 0.0
    high: float = 1.0
    max_tries: int = 20

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise UserError(f"a group filter's low must be below its high, got {self.low} and {self.high}")
        if self.max_tries < 1:
            raise UserError(f"a group filter needs at least one try, got max_tries={self.max_tries}")


def group_advantages(
    rewards: Float[Tensor, "B G"],
    *,
    baseline: Baseline = "mean",
    scale: Scale = "sample",
    eps: float = 1e-4,
) -> Float[Tensor, "B G"]:
    """How much better each completion did than its group, in units of reward, or of its deviation when scaled.

    A missing reward has the advantage 0 and no part in any mean or deviation. A group whose rewards are all equal, or
    that has only one, gets exact zeros. The sum over a group is 0, whatever the settings.

    - baseline "mean": (r - mean) / (std + eps), GRPO (arXiv 2402.03300, section 4.1.2). Scale "sample" divides the sum
      of squares by n - 1 (GRPO's code, DAPO), "population" by n; "none" does not scale (Dr.GRPO, arXiv 2503.20783: the
      deviation weighs very easy and very hard prompts too heavily).
    - baseline "leave_one_out": r - mean of the others (RLOO, arXiv 2402.14740): n / (n - 1) times the unscaled
      "mean", and the only one of them whose policy gradient is unbiased.

    Raises ValueError for infinite rewards, for groups of fewer than two completions, and as `Advantage` does.
    """
    Advantage(baseline, scale, eps)  # refuses what does not go together
    if rewards.shape[-1] < 2:
        raise ValueError(
            f"a completion is compared with others, so a group needs at least 2 of them, got {rewards.shape[-1]}: "
            "raise the group size"
        )
    present = _present(rewards)
    n = present.sum(-1, keepdim=True)  # [B, 1]
    others = (n - 1).clamp(min=1)
    varied = present & ~zero_variance(rewards)[:, None]
    centred = torch.where(varied, rewards - _mean(rewards, present)[:, None], 0.0)
    if baseline == "leave_one_out":
        return centred * n / others
    if scale == "none":
        return centred
    divisor = others if scale == "sample" else n.clamp(min=1)
    return centred / ((centred.square().sum(-1, keepdim=True) / divisor).sqrt() + eps)


def informative(scores: Float[Tensor, "B G"], low: float, high: float) -> Bool[Tensor, " B"]:
    """True for groups whose mean score lies strictly inside (low, high): neither too hard nor too easy to teach.

    The mean is that of the scores that are present; a group without any is not informative. With scores 0 or 1 and
    bounds 0 and 1 this is DAPO's dynamic sampling (arXiv 2503.14476, eq. 11). Raises ValueError for infinite scores.
    """
    present = _present(scores)
    mean = _mean(scores, present)
    return present.any(-1) & (mean > low) & (mean < high)


def zero_variance(rewards: Float[Tensor, "B G"]) -> Bool[Tensor, " B"]:
    """True for groups whose present rewards are all equal, or are fewer than two: they teach nothing.

    Compares rewards, not a deviation, which rounding keeps from being 0. Raises ValueError for infinite rewards.
    """
    present = _present(rewards)
    best = torch.where(present, rewards, -torch.inf).amax(-1)
    worst = torch.where(present, rewards, torch.inf).amin(-1)
    return best <= worst


def _present(rewards: Tensor) -> Tensor:
    if bool(rewards.isinf().any()):
        raise ValueError("rewards must be finite, or NaN where they are missing, got an infinite one")
    return ~rewards.isnan()


def _mean(rewards: Tensor, present: Tensor) -> Tensor:
    """[B]: the mean of what is present, 0 where nothing is."""
    return torch.where(present, rewards, 0.0).sum(-1) / present.sum(-1).clamp(min=1)
