"""Drawing tokens by the inverse of their cumulative distribution, in double precision or finer.

The inversion method for discrete variates (Devroye, Non-Uniform Random Variate Generation, 1986, section III.2).

Shape legend: M rows, V vocabulary, K draws from a row, C tokens of a span.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

SPAN = 128
ONE = 2.0**62  # what a probability of 1 is as a whole number: a sum that is a little above 1 still fits 64 bits


def draw_tokens(
    probabilities: Float[Tensor, "M V"], chance: Float[Tensor, "M K"], sums: torch.dtype | None = None
) -> tuple[Int[Tensor, "M K"], Float[Tensor, "M K"]]:
    """The tokens at which the cumulative probability of each row passes `chance`, in [0, 1), and their probabilities.

    A token of probability 0 is never drawn. First the span of tokens is found and then the token in it, so that only
    spans are added up over the whole vocabulary. `sums` are float64 on a CPU and int64 on a GPU, which adds up whole
    numbers exactly but floats along a row in no fixed order; deterministic runs may not do that.
    """
    rows, vocabulary = probabilities.shape
    sums = sums or (torch.long if probabilities.is_cuda else torch.float64)
    shares = (probabilities * ONE).long() if sums == torch.long else probabilities
    whole = F.pad(shares, (0, -vocabulary % SPAN)) if vocabulary % SPAN else shares
    spans = whole.view(rows, -1, SPAN)
    upto = spans.sum(-1, dtype=sums).cumsum_(-1)  # [M V/C]
    below = (chance * upto[:, -1:]).to(sums)
    at = _first_above(upto, below)
    before = F.pad(upto, (1, 0)).gather(1, at)
    inside = spans.gather(1, at[..., None].expand(-1, -1, SPAN))  # [M K C]
    within = _first_above(inside.cumsum(-1, dtype=sums), (below - before)[..., None])
    # NaN leads past the last token: what follows must still be a token's number
    tokens = (at * SPAN + within[..., 0]).clamp_(max=vocabulary - 1)
    return tokens, probabilities.gather(1, tokens)


def draw_tokens_reference(
    probabilities: Float[Tensor, "M V"], chance: Float[Tensor, "M K"]
) -> tuple[Int[Tensor, "M K"], Float[Tensor, "M K"]]:
    """The same over the whole vocabulary at once: the slow twin."""
    upto = probabilities.cumsum(-1, dtype=torch.float64)
    tokens = _first_above(upto, chance * upto[:, -1:])
    return tokens, probabilities.gather(1, tokens)


def _first_above(upto: Tensor, value: Tensor) -> Tensor:
    """Where sums that rise along the last axis first pass the values, which rounding must not lift to the last sum."""
    last = upto[..., -1:]
    highest = last * (1 - 2**-52) if upto.is_floating_point() else last - 1
    return torch.searchsorted(upto, torch.minimum(value, highest), right=True).clamp_(max=upto.shape[-1] - 1)
