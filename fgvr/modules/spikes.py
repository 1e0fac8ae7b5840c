"""When a gradient is so far from those before that a step with it would do more harm than none."""

from __future__ import annotations

import math

import torch
from torch import Tensor

SEEN_LEAST = 8  # steps before which nothing is known of what is usual


class SpikeRule(torch.nn.Module):
    """What the gradients' norms have been in the last `window` steps, and how many steps had a spike.

    A spike is a norm above `clip` (the largest that a step is taken with as it is) and above `times` the median of
    those before, of which at least 8 must be known; `times` None finds none. Norms of zero, of steps that had
    nothing to learn, and of spikes themselves say nothing of what is usual. All of it is in the checkpoint, so that
    a run that goes on has the rule that it had.
    """

    norms: Tensor  # float32 [window]; zero is none
    count: Tensor  # int64 []

    def __init__(self, times: float | None, clip: float, window: int = 32) -> None:
        super().__init__()
        self.times, self.clip = times, clip
        self.register_buffer("norms", torch.zeros(window))
        self.register_buffer("count", torch.zeros((), dtype=torch.long))

    def usual(self) -> float:
        """The median of the norms before, or infinity while too few are known."""
        known = self.norms[self.norms > 0]
        return float(known.median()) if len(known) >= SEEN_LEAST else math.inf

    def is_spike(self, norm: float) -> bool:
        return self.times is not None and norm > self.clip and norm > self.times * self.usual()

    def saw(self, norm: float, spike: bool) -> None:
        """Remembers a finite norm, in the place of the oldest, or counts a spike."""
        if spike:
            self.count += 1
        elif norm > 0:
            self.norms.copy_(torch.cat([self.norms[1:], self.norms.new_tensor([norm])]))
