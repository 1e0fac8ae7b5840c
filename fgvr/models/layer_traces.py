"""What a module keeps in memory between its forward and its backward pass, counted where nothing is computed.

The module stands on the meta device: its own code runs, on tensors without values, and every storage that comes and
goes is counted. Attention is counted as the fused kernels do it, which keep no scores.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

HALVED = (F.linear, torch.matmul, Tensor.matmul, Tensor.__matmul__, F.conv3d)  # what autocast rounds the operands of


@dataclass(frozen=True)
class Pass:
    """Bytes that one pass of a module takes, its inputs, weights and gradients left out.

    `kept` stays from its forward to its backward pass, its output among it; `cast` are the copies of frozen weights in
    half precision which stay as well. `most` is the largest sum of all at one moment of the two passes.
    """

    kept: int
    cast: int
    most: int


def trace(
    module: nn.Module,
    run: Callable[..., Tensor],
    inputs: Sequence[Tensor],
    half: torch.dtype | None,
    repeats_heads: bool = False,
) -> Pass:
    """Counts a pass of `run(*inputs)` through `module`, all on the meta device.

    `half` is autocast's precision, None without it. `repeats_heads` says that attention under a mask copies key heads
    until there is one for every query head, as torch's kernels on a GPU want it.
    """
    for parameter in module.parameters():
        parameter.grad = torch.empty_like(parameter) if parameter.requires_grad else None
    learned = [x.detach().requires_grad_() for x in inputs]
    autocast = _Autocast(half, repeats_heads)
    with _Live() as live:
        with autocast:
            out = run(*learned)
        kept, trained, frozen = live.now, autocast.of_trained, autocast.of_frozen()
        with autocast:
            out.backward(torch.empty_like(out))
    return Pass(kept - trained - frozen, frozen, live.most - trained)


@torch.no_grad()
def most_of_forward(run: Callable[..., Tensor], inputs: Sequence[Tensor], half: torch.dtype | None) -> int:
    """The most bytes at one moment of a forward pass of which nothing is to be learned, its inputs left out."""
    with _Live() as live, _Autocast(half, repeats_heads=False):
        run(*inputs)
    return live.most


class _Live(TorchDispatchMode):
    """Bytes of the storages made within it that are alive now, and the most that there were."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self._seen: weakref.WeakSet[Any] = weakref.WeakSet()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {id(x.untyped_storage()) for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)}
        out = func(*args, **(kwargs or {}))
        for made in tree_leaves(out):
            if isinstance(made, Tensor):
                storage = made.untyped_storage()
                if id(storage) not in given and storage not in self._seen:
                    self._add(storage)
        self.most = max(self.most, self.now)
        return out

    def _add(self, storage: Any) -> None:
        size = storage.nbytes()
        self._seen.add(storage)
        self.now += size
        weakref.finalize(storage, self._drop, size)

    def _drop(self, size: int) -> None:
        self.now -= size


class _Autocast(TorchFunctionMode):
    """Autocast and fused attention on the meta device, which torch itself has neither of.

    As autocast does, it keeps a trained weight's copy for all who ask and makes a frozen one's anew each time.
    """

    def __init__(self, half: torch.dtype | None, repeats_heads: bool) -> None:
        super().__init__()
        self.half, self.repeats_heads = half, repeats_heads
        self._kept: dict[int, Tensor] = {}
        self._frozen: list[weakref.ref[Any]] = []

    @property
    def of_trained(self) -> int:
        return sum(copy.untyped_storage().nbytes() for copy in self._kept.values())

    def of_frozen(self) -> int:
        """Bytes of those that a backward pass waits for."""
        return sum(storage.nbytes() for made in self._frozen if (storage := made()) is not None)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            return self._attend(*args, **kwargs)
        if func in HALVED and self.half is not None:
            args = [self._rounded(x) if isinstance(x, Tensor) else x for x in args]
        return func(*args, **kwargs)

    def _rounded(self, x: Tensor) -> Tensor:
        if self.half is None or x.dtype != torch.float32:
            return x
        if not isinstance(x, nn.Parameter):
            return x.to(self.half)
        if x.requires_grad:
            return self._kept.setdefault(id(x), x.to(self.half)) if id(x) not in self._kept else self._kept[id(x)]
        copy = x.to(self.half)
        self._frozen.append(weakref.ref(copy.untyped_storage()))
        return copy

    def _attend(
        self, query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, *_: Any, **__: Any
    ) -> Tensor:
        query, key, value = self._rounded(query), self._rounded(key), self._rounded(value)
        mask = None if attn_mask is None else torch.empty(attn_mask.shape, dtype=query.dtype, device=query.device)
        times = query.shape[1] // key.shape[1]
        if mask is not None and self.repeats_heads and times > 1:
            key, value = key.repeat_interleave(times, 1), value.repeat_interleave(times, 1)
        return _Fused.apply(query, key, value, mask)  # pyright: ignore[reportReturnType]


class _Fused(torch.autograd.Function):
    """Keeps what the fused kernels keep: queries, keys, values, the mask, the answer, and a sum for each query."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        out = torch.empty_like(query)
        ctx.save_for_backward(query, key, value, mask, out, query.new_empty(query.shape[:-1], dtype=torch.float32))
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, *_ = ctx.saved_tensors
        return torch.empty_like(query), torch.empty_like(key), torch.empty_like(value), None
