"""Log-probabilities of given tokens, straight from hidden states and the head's weight: the logits never exist whole.

Shape legend: N target rows, D width, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable


def token_logprobs(
    hidden: Float[Tensor, "N D"],
    weight: Float[Tensor, "V D"],
    targets: Int[Tensor, " N"],
    *,
    row_chunk: int = 1024,
    vocab_chunk: int = 16384,
) -> Float[Tensor, " N"]:
    """log softmax(hidden @ weight.T)[targets] in nats, in tiles of `row_chunk` x `vocab_chunk`.

    Products and sums are float32 (float64 for float64 inputs) whatever the inputs' precision: rounding a tile before
    it is summed biases training. Beyond inputs and gradients the memory is a few tiles, whatever V is. An empty N
    gives an empty, differentiable result. Raises ValueError for chunk sizes below 1.
    """
    if row_chunk < 1 or vocab_chunk < 1:
        raise ValueError(f"chunk sizes must be at least 1, got row_chunk={row_chunk} and vocab_chunk={vocab_chunk}")
    return _TokenLogprobs.apply(hidden, weight, targets, row_chunk, vocab_chunk)  # pyright: ignore[reportReturnType]


def token_logprobs_reference(
    hidden: Float[Tensor, "N D"], weight: Float[Tensor, "V D"], targets: Int[Tensor, " N"]
) -> Float[Tensor, " N"]:
    """The same with the whole [N, V] in memory: the slow twin."""
    dtype = _accumulator(hidden)
    logits = hidden.to(dtype) @ weight.to(dtype).T
    return logits.log_softmax(-1).gather(-1, targets[:, None]).squeeze(-1)


def _accumulator(hidden: Tensor) -> torch.dtype:
    return torch.float64 if hidden.dtype == torch.float64 else torch.float32


class _TokenLogprobs(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, rows: int, columns: int) -> Tensor:
        dtype, chosen, total = _accumulator(hidden), [], []
        with torch.autocast(hidden.device.type, enabled=False):  # which would round the products
            for h, t in zip(hidden.split(rows), targets.split(rows), strict=True):
                h = h.to(dtype)
                running = torch.full_like(t, -torch.inf, dtype=dtype)
                for w in weight.split(columns):
                    running = torch.logaddexp(running, (h @ w.to(dtype).T).logsumexp(-1))
                total.append(running)
                chosen.append((h * weight[t].to(dtype)).sum(-1))
        log_total = torch.cat(total) if total else hidden.new_zeros(0, dtype=dtype)
        ctx.save_for_backward(hidden, weight, targets, log_total)
        ctx.chunks = rows, columns
        return (torch.cat(chosen) if chosen else hidden.new_zeros(0, dtype=dtype)) - log_total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, targets, log_total = ctx.saved_tensors
        rows, columns = ctx.chunks
        dtype = _accumulator(hidden)
        d_hidden = torch.zeros_like(hidden, dtype=dtype) if ctx.needs_input_grad[0] else None
        d_weight = torch.zeros_like(weight, dtype=dtype) if ctx.needs_input_grad[1] else None
        with torch.autocast(hidden.device.type, enabled=False):
            for r in range(0, len(hidden), rows):
                at = slice(r, r + rows)
                h, t, g = hidden[at].to(dtype), targets[at], grad[at].to(dtype)
                for c in range(0, len(weight), columns):
                    w = weight[c : c + columns].to(dtype)
                    # d logp / d logits = onehot(target) - softmax
                    d_logits = -g[:, None] * (h @ w.T - log_total[at, None]).exp()
                    inside = (t >= c) & (t < c + len(w))
                    d_logits[inside, t[inside] - c] += g[inside]
                    if d_hidden is not None:
                        d_hidden[at] += d_logits @ w
                    if d_weight is not None:
                        d_weight[c : c + columns] += d_logits.T @ h
        d_hidden = None if d_hidden is None else d_hidden.to(hidden.dtype)
        d_weight = None if d_weight is None else d_weight.to(weight.dtype)
        return d_hidden, d_weight, None, None, None
