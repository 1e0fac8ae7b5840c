"""How completions are drawn: the one owner of the temperature, for sampling and for training log-probs alike."""

from __future__ import annotations

import math
from dataclasses import dataclass

from fgvr.errors import UserError


@dataclass(frozen=True)
class Sampling:
    """`group_size` completions an example at `temperature`, each of at most `max_new_tokens` tokens.

    `positives` of them are sampled from the photo of its positive, another sample of its class (Fine-R1, arXiv
    2602.07605, section 4.3), where it has one; all others from its own. There is no top-p and no top-k: the log-probs
    learned from are those of the distribution that was sampled, all of the vocabulary but the vision tokens. Raises
    UserError outside the ranges.
    """

    group_size: int = 8
    temperature: float = 1.0
    max_new_tokens: int = 64
    positives: int = 0

    def __post_init__(self) -> None:
        if self.group_size < 1 or self.max_new_tokens < 1:
            raise UserError(
                f"sampling needs a group_size and max_new_tokens of at least 1, got {self.group_size} and "
                f"{self.max_new_tokens}"
            )
        if not 0 <= self.positives <= self.group_size:
            raise UserError(
                f"sampling.positives are some of the group_size={self.group_size} completions of an example, from 0 to "
                f"all of them, got {self.positives}"
            )
        if not (math.isfinite(self.temperature) and self.temperature > 0):
            raise UserError(f"temperature must be above 0 in training, got {self.temperature}: 1.0 is usual")
