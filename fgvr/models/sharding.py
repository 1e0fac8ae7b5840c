"""A policy spread over processes, each of which keeps a part of every weight (FSDP2, arXiv 2304.11277).

The policy is the root. Decoder layers, vision blocks and projectors are units, gathered one at a time; what is read
directly stays in the root: embeddings, last norm and head, which may be one weight, and the tower's first layer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import (
    CPUOffloadPolicy,
    FSDPModule,
    MixedPrecisionPolicy,
    OffloadPolicy,
    fully_shard,
    register_fsdp_forward_method,
)
from torch.distributed.tensor import DTensor

from fgvr.checkpoints.sharded import first_row, own_rows


@dataclass(frozen=True)
class Sharding:
    """How weights are spread: over the last dimension of `mesh`, and as often as the one before it says.

    `precision` is what units are gathered and computed in, None that of the weights, which keep their own; gradients
    are added up in float32. With `offload` the parts lie in the host's memory, and the optimiser steps there.
    `prefetch` units are gathered ahead of the one that is computed.
    """

    mesh: DeviceMesh
    precision: torch.dtype | None = None
    offload: bool = False
    prefetch: int = 1


def units_of(policy: Any) -> list[list[nn.Module]]:
    """The units, in stacks that are gone through in order: vision blocks, each projector, decoder layers."""
    model = policy.base.model
    mergers = [module for name, module in model.visual.named_children() if "merger" in name]
    projectors = chain.from_iterable(merger if isinstance(merger, nn.ModuleList) else [merger] for merger in mergers)
    return [list(model.visual.blocks), *([one] for one in projectors), list(model.language_model.layers)]


def shard_policy(policy: Any, sharding: Sharding) -> None:
    """Spreads the weights of a policy, which every process holds alike, and which stay what they are.

    What is frozen must be so already. Its linear layers are kept in `precision`, to which they are rounded at each use
    anyway.
    """
    stacks = units_of(policy)
    options: dict[str, Any] = {"mesh": sharding.mesh, "offload_policy": _offload(sharding)}
    added_up = None if sharding.precision is None else torch.float32
    rounded = MixedPrecisionPolicy(sharding.precision, added_up, cast_forward_inputs=False)
    for unit in chain.from_iterable(stacks):
        if sharding.precision is not None:
            _round_frozen(unit, sharding.precision)
        fully_shard(unit, mp_policy=rounded, **options)
    fully_shard(policy, mp_policy=MixedPrecisionPolicy(cast_forward_inputs=False), **options)
    for stack in stacks:
        _prefetch(policy, stack, sharding.prefetch)
    _prefetch(policy, [policy], 0)
    for name in policy.ENTRIES:
        register_fsdp_forward_method(policy, name)


def place_buffers(policy: nn.Module, device: torch.device) -> None:
    """Moves buffers, which are whole and computed with on the device, also where parts lie in the host's memory."""
    for module in policy.modules():
        kept = {name: buffer for name, buffer in module._buffers.items() if buffer is not None}
        module._buffers.update({name: buffer.to(device) for name, buffer in kept.items()})


def is_sharded(policy: nn.Module) -> bool:
    """Whether the weights are spread over processes, gathered at the moment or not."""
    return isinstance(policy, FSDPModule)


def is_gathered(policy: nn.Module) -> bool:
    """Whether the weights are spread over processes, and every one of these holds all of them at the moment."""
    units = _units(policy)
    return bool(units) and _is_whole(units)


def gather_weights(policy: nn.Module) -> None:
    """Every process holds all weights from now on, until `spread_weights`. A collective call, where they are not whole.

    Meanwhile a process may run as many passes as it likes, without gradients: no other need take part in them.
    """
    units = _units(policy)
    if not units or _is_whole(units):
        return
    with torch.inference_mode(False), torch.no_grad():  # training goes on with what is made here
        for unit in units:
            unit.unshard()
    for unit in units:
        unit.set_reshard_after_forward(False, recurse=False)


def spread_weights(policy: nn.Module) -> None:
    """Every process keeps its part alone, as before `gather_weights`. No collective call."""
    units = _units(policy)
    for unit in units:
        # the root's are needed again at once: torch keeps them up to the backward pass
        unit.set_reshard_after_forward(unit is not policy, recurse=False)
        unit.reshard()


@contextmanager
def unsharded(policy: nn.Module) -> Iterator[None]:
    """Within it every process holds all weights, gathered once at its beginning, see `gather_weights`.

    Within another one it does nothing. All processes must enter it alike.
    """
    units = _units(policy)
    if not units or _is_whole(units):
        yield
        return
    gather_weights(policy)
    try:
        yield
    finally:
        spread_weights(policy)


def whole(tensor: Tensor) -> Tensor:
    """The tensor of which each process has a part; others as they are. A collective call."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def rows_kept(tensor: Tensor) -> tuple[int, int]:
    """The first of the rows that this process keeps of a tensor, and how many: all of one that is not in parts."""
    return first_row(tensor) if isinstance(tensor, DTensor) else 0, len(own_rows(tensor))


def _units(policy: nn.Module) -> list[FSDPModule]:
    return [module for module in policy.modules() if isinstance(module, FSDPModule)]


def _is_whole(units: Sequence[FSDPModule]) -> bool:
    """Told by the last: the root's may still be there from a forward pass."""
    last: Any = units[-1]
    return not isinstance(next(last.parameters()), DTensor)


def _offload(sharding: Sharding) -> OffloadPolicy:
    if not sharding.offload:
        return OffloadPolicy()
    return CPUOffloadPolicy(pin_memory=sharding.mesh.device_type != "cpu")


def _round_frozen(unit: nn.Module, precision: torch.dtype) -> None:
    for layer in unit.modules():
        own = list(layer.parameters(recurse=False))
        if isinstance(layer, nn.Linear) and not any(parameter.requires_grad for parameter in own):
            layer.to(precision)


def _prefetch(root: Any, stack: Sequence[Any], ahead: int) -> None:
    """Never beyond the stack: the tower may not take part. The root is named where nothing is to be gathered ahead.

    Without a name torch goes by the order of all passes since the last backward one, of which there may be others.
    """
    for place, unit in enumerate(stack):
        unit.set_modules_to_forward_prefetch(list(stack[place + 1 : place + 1 + ahead]))
        behind = list(reversed(stack[max(0, place - ahead) : place]))
        unit.set_modules_to_backward_prefetch(behind or [root])
