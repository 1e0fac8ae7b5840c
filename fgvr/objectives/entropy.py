"""How undecided the policy is, in nats: estimated from the tokens that were drawn, or exactly from all logits.

Shape legend: N target tokens, V vocabulary.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def sampled_entropy(logp: Float[Tensor, " N"]) -> Float[Tensor, " N"]:
    """-logp: the entropy on average over tokens drawn from the policy, at least 0.

    A figure to watch, not one to maximise: on policy its gradient is 0 on average, unlike that of `exact_entropy`.
    """
    return -logp


def exact_entropy(logits: Float[Tensor, "N V"]) -> Float[Tensor, " N"]:
    """-sum p log p of softmax(logits), between 0 and log V; the whole [N, V] is in memory.

    A logit of -inf is a token that cannot be drawn: it adds nothing, and its gradient is 0. Computed in float32
    (float64 for float64 logits).
    """
    dtype = torch.float64 if logits.dtype == torch.float64 else torch.float32
    logp = logits.log_softmax(-1, dtype=dtype)
    return -(logp.exp() * torch.where(logp == -torch.inf, 0.0, logp)).sum(-1)
