"""A penalty that rises as a completion nears the length limit, so that the limit itself comes as no surprise."""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor


def soft_overlong_penalty(length: Int[Tensor, "*shape"], *, limit: int, buffer: int) -> Float[Tensor, "*shape"]:
    """0 up to limit - buffer tokens, -1 from `limit` on, and 1 / buffer lower with each token in between.

    DAPO (arXiv 2503.14476, eq. 13; there limit 20480 and buffer 4096). Raises ValueError unless 1 <= buffer <= limit.
    """
    if not 1 <= buffer <= limit:
        raise ValueError(f"the buffer must hold between 1 token and all of the limit, got {buffer} of {limit}")
    return ((limit - buffer - length) / buffer).clamp(-1, 0)
