"""An estimate of how far a policy has gone from its reference that no single token can blow up from one side."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from fgvr.objectives import KLEstimator


class Hellinger(KLEstimator):
    """(sqrt(r) - 1)^2 with r = reference / policy, at least 0: unbiased for twice the squared Hellinger distance.

    For tokens drawn from the policy, E[(sqrt(r) - 1)^2] = sum (sqrt(reference) - sqrt(policy))^2, from 0 to 2. A token
    that has become far likelier costs at most 1, while k2 grows with the square of the log-ratio. Near the reference it
    is d^2 / 4 in d = logp - ref_logp, half of k2 and k3, so it wants twice their coefficient. d is held above -20 nats.
    """

    def estimates(self, logp: Float[Tensor, " N"], ref_logp: Float[Tensor, " N"]) -> Float[Tensor, " N"]:
        return ((ref_logp - logp).clamp(max=20) / 2).expm1().square()
