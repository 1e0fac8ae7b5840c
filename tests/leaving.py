"""A spawned process that ends while gloo's threads run is aborted now and then; these let go of the group first."""

from __future__ import annotations

import atexit

import torch.distributed as dist


def leave_group_at_exit() -> None:
    """To be called in a process of the group; does nothing in one that has none."""
    if dist.is_initialized():
        atexit.register(_leave)


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()
