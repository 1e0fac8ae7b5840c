"""What a policy's weights were when its run began, where they are trained in full and the adapters do not tell."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from fgvr.checkpoints.sharded import own_rows
from fgvr.models.sharding import is_gathered, spread_weights
from fgvr.models.weight_names import ADAPTERS


class Start:
    """Copies of a policy's weights, this process's rows of each, that can stand in their places for a while."""

    def __init__(self) -> None:
        self._kept: dict[str, Tensor] = {}

    def keep(self, policy: Any) -> None:
        """Copies what is trained of the policy beside its adapters; without adapters nothing."""
        self._kept = {name: own_rows(weight).clone() for name, weight in _in_full(policy)}

    @contextmanager
    def in_place(self, policy: Any) -> Iterator[None]:
        """Within it the copies stand where the weights do, which come back to the last bit.

        Raises ValueError where not all of what is trained in full was kept, and while a policy in parts is gathered.
        """
        if lacking := sorted({name for name, _ in _in_full(policy)} - self._kept.keys()):
            raise ValueError(f"the start must be kept before anything is learned, but {lacking[:3]} were not")
        if not self._kept:
            yield
            return
        if is_gathered(policy):
            raise ValueError("the start must be put in place before the weights are gathered, not within")
        self._exchange(policy)
        try:
            yield
        finally:
            self._exchange(policy)

    @torch.no_grad()
    def _exchange(self, policy: Any) -> None:
        spread_weights(policy)  # the root may still be there from a forward pass, and would be used on as it is
        for name, weight in _in_full(policy):
            now = own_rows(weight)
            before = now.clone()
            now.copy_(self._kept[name])
            self._kept[name] = before
        torch.clear_autocast_cache()  # of the weights before, in another precision


def _in_full(policy: Any) -> Iterator[tuple[str, Any]]:
    """What is trained beside adapters, where there are any."""
    named = policy.trainable() if policy.config.lora is not None else ()
    return ((name, weight) for name, weight in named if ADAPTERS not in name)
