"""Sampled estimates of KL(policy || reference), their value and their gradient chosen apart.

With d = logp - ref_logp at a token drawn from the policy (J. Schulman, "Approximating KL divergence", 2020):

    estimator            value                               gradient, on average over such tokens
    k1 = d               unbiased, may be negative           0: it does not hold the policy back at all
    k2 = d^2 / 2         biased, by little when d is small   that of KL(policy || reference)
    k3 = e^-d - 1 + d    unbiased, never negative            that of KL(reference || policy)

An unbiased value does not make an unbiased gradient (arXiv 2506.09477): value k3 with gradient k2 has both, and is the
same gradient, token by token, as that of k3 times the ratio of new to old probability while that ratio is 1.

Shape legend: N target tokens of one micro-batch, flat.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from fgvr.errors import UserError
from fgvr.objectives.policy_loss import bounded

Named = Literal["k1", "k2", "k3"]


class KLEstimator(ABC):
    """An estimator of one's own: any that is a function of two log-probs at a token drawn from the policy."""

    @abstractmethod
    def estimates(self, logp: Float[Tensor, " N"], ref_logp: Float[Tensor, " N"]) -> Float[Tensor, " N"]:
        """One estimate for each target, in nats, with the gradient that is learned from; the reference needs none."""


@dataclass(frozen=True)
class KL:
    """What leaving the reference policy costs: `coefficient`, at least 0, times the divergence.

    `value` is the estimator that is reported, `gradient` the one that is learned from: k1, k2, k3 or a class of your
    own. GRPO's is k3 for both (arXiv 2402.03300, eq. 4, with coefficient 0.04). Raises UserError for other
    coefficients and estimators.
    """

    coefficient: float
    value: Named | KLEstimator = "k3"
    gradient: Named | KLEstimator = "k3"

    def __post_init__(self) -> None:
        if not (math.isfinite(self.coefficient) and self.coefficient >= 0):
            raise UserError(f"the KL coefficient must be finite and not below 0, got {self.coefficient}")
        named = {one for one in (self.value, self.gradient) if not isinstance(one, KLEstimator)}
        if not named <= ESTIMATORS.keys():
            raise UserError(
                "KL estimators are k1, k2 and k3, or a subclass of fgvr.objectives.KLEstimator by its class_path, got "
                f"value={self.value} and gradient={self.gradient}"
            )


def k1(logp: Float[Tensor, " N"], ref_logp: Float[Tensor, " N"]) -> Float[Tensor, " N"]:
    """d, in nats: unbiased, of either sign. Its gradient, that of logp, is 0 on average: never learn from it."""
    return logp - ref_logp


def k2(logp: Float[Tensor, " N"], ref_logp: Float[Tensor, " N"]) -> Float[Tensor, " N"]:
    """d^2 / 2, at least 0: biased. On policy its gradient is on average that of KL(policy || reference)."""
    return (logp - ref_logp).square() / 2


def k3(logp: Float[Tensor, " N"], ref_logp: Float[Tensor, " N"]) -> Float[Tensor, " N"]:
    """e^-d - 1 + d, at least 0: unbiased. On policy its gradient is on average that of KL(reference || policy).

    d is clamped to +-20 nats before exp, without gradient beyond (so the value there is a constant).
    """
    log_ratio = bounded(ref_logp - logp)
    return log_ratio.expm1() - log_ratio


def kl_penalty(logp: Float[Tensor, " N"], ref_logp: Float[Tensor, " N"], kl: KL) -> Float[Tensor, " N"]:
    """Each target's divergence in nats, not yet times `kl.coefficient`: one estimator's value, one's gradient.

    The reference is a constant, whatever graph it carries. Raises ValueError for shapes that disagree, and where an
    estimator of one's own does not give one estimate for each target.
    """
    if logp.shape != ref_logp.shape:
        raise ValueError(
            f"every target needs a log-prob and a reference's, got {tuple(logp.shape)} and {tuple(ref_logp.shape)}"
        )
    learned = _estimates(kl.gradient, logp, ref_logp.detach())
    if kl.value == kl.gradient:
        return learned
    return _estimates(kl.value, logp, ref_logp).detach() + (learned - learned.detach())


def _estimates(by: Named | KLEstimator, logp: Float[Tensor, " N"], ref_logp: Float[Tensor, " N"]) -> Tensor:
    if not isinstance(by, KLEstimator):
        return ESTIMATORS[by](logp, ref_logp)
    found = by.estimates(logp, ref_logp)
    if found.shape != logp.shape:
        raise ValueError(
            f"{type(by).__name__} must give one estimate for each target, shape {tuple(logp.shape)}, got "
            f"{tuple(found.shape)}: reduce nothing"
        )
    return found


Function = Callable[[Tensor, Tensor], Tensor]
ESTIMATORS: dict[str, Function] = {"k1": k1, "k2": k2, "k3": k3}
