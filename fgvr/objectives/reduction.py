"""Normalisation as data: weights for the whole global batch, after which every loss is `(weight * x).sum()`.

Shape legend: N target tokens of one micro-batch, flat.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

Reduction = Literal["token", "sequence", "constant"]


def loss_weights(
    sequence: Int[Tensor, " N"],
    how: Reduction,
    *,
    tokens: int,
    sequences: int,
    world: int = 1,
    length: int | None = None,
) -> Float[Tensor, " N"]:
    """A weight per target token: the weighted sum over all micro-batches, averaged over ranks, is the global mean.

    `sequence` says which sequence each token belongs to (any labels; a sequence is never split between
    micro-batches). `tokens` and `sequences` count the targets of the whole global batch, summed over ranks. `world`
    is the number of ranks whose gradients are averaged afterwards; the weights undo that average.

    - "token": every target token of the batch counts alike, world / tokens (DAPO, arXiv 2503.14476, eq. 8).
    - "sequence": every sequence counts alike, world / (sequences * its length) (GRPO, arXiv 2402.03300, eq. 3).
    - "constant": world / (sequences * length) with a fixed `length` (Dr.GRPO, arXiv 2503.20783, section 3.2).

    Raises ValueError for counts below 1 where tokens are given, and for "constant" without a positive length.
    """
    if sequence.numel() == 0:
        return torch.zeros(0, device=sequence.device)
    if tokens < 1 or sequences < 1:
        raise ValueError(
            f"the global batch must hold at least one target, got {tokens} tokens in {sequences} sequences"
        )
    if how == "token":
        return torch.full(sequence.shape, world / tokens, device=sequence.device)
    if how == "sequence":
        _, inverse, lengths = torch.unique(sequence, return_inverse=True, return_counts=True)
        return world / (sequences * lengths[inverse].to(torch.get_default_dtype()))
    if length is None or length < 1:
        raise ValueError(f"the constant reduction needs length, the fixed number of tokens to divide by, got {length}")
    return torch.full(sequence.shape, world / (sequences * length), device=sequence.device)
