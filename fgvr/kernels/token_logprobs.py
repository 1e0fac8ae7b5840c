"""Log-probabilities of given tokens, straight from hidden states and the head's weight: the logits never exist whole.

Log Z is found tile by tile with a running maximum (Milakov and Gimelshein, arXiv 1805.02867, algorithm 3), and tiles of
logits are made again in the backward pass, as in Cut Cross-Entropy (arXiv 2411.09009).

Shape legend: N target rows, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable


def suppression(tokens: Sequence[int], vocabulary: int) -> Float[Tensor, " V"]:
    """What is added to the logits so that these tokens have no probability: -inf there, 0 at the others."""
    return torch.zeros(vocabulary).index_fill_(0, torch.tensor(tokens, dtype=torch.long), -torch.inf)


def head_dtype(hidden: Tensor) -> torch.dtype:
    """What a head and the hidden states it reads are rounded to before they are multiplied.

    On a GPU bfloat16 where autocast is on in it, or where the hidden states have it: products of float32 are several
    times as slow there, and read twice the bytes. Anywhere else nothing is rounded. Who samples and who trains both ask
    here, so that they speak of one distribution.
    """
    kind = hidden.device.type
    computed = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden.dtype
    return torch.bfloat16 if kind == "cuda" and computed == torch.bfloat16 else _accumulator(hidden)


def product_in(dtype: torch.dtype, left: Float[Tensor, "A D"], right: Float[Tensor, "D B"]) -> Float[Tensor, "A B"]:
    """left @ right, added up and given in `dtype`, which the operands may have less precision than."""
    if left.dtype == dtype:
        return left @ right
    if left.device.type == "cuda":
        return torch.mm(left, right, out_dtype=dtype)
    return left.to(dtype) @ right.to(dtype)  # a product of two bfloat16 numbers is one of float32, not rounded


def token_logprobs(
    hidden: Float[Tensor, "N D"],
    weight: Float[Tensor, "V D"],
    targets: Int[Tensor, " N"],
    *,
    row_chunk: int = 1024,
    vocab_chunk: int = 16384,
) -> Float[Tensor, " N"]:
    """log softmax(hidden @ weight.T)[targets] in nats, in tiles of `row_chunk` x `vocab_chunk`.

    Logits and sums are float32 (float64 for float64 inputs) whatever the inputs' precision: rounding a tile before it
    is summed biases training. What is multiplied is rounded to `head_dtype`, in the backward pass too. Beyond inputs,
    hidden states so rounded and gradients the memory is a few tiles, whatever V is. An empty N gives an empty,
    differentiable result. Raises ValueError for chunk sizes below 1.
    """
    return _apply(hidden, weight, targets, None, 1.0, False, row_chunk, vocab_chunk)[0]


def token_logprobs_and_entropy(
    hidden: Float[Tensor, "N D"],
    weight: Float[Tensor, "V D"],
    targets: Int[Tensor, " N"],
    bias: Float[Tensor, " V"] | None,
    temperature: float = 1.0,
    *,
    row_chunk: int = 1024,
    vocab_chunk: int = 16384,
) -> tuple[Float[Tensor, " N"], Float[Tensor, " N"]]:
    """Log-probs of the targets and the exact entropy, both in nats, of the distribution that is sampled from.

    That is softmax(hidden @ weight.T / temperature + bias), where `bias` is a `suppression`, or None. A suppressed
    target has log-prob -inf. Both results have gradients; precision, memory and errors are those of `token_logprobs`.
    """
    return _apply(hidden, weight, targets, bias, temperature, True, row_chunk, vocab_chunk)


def token_logprobs_reference(
    hidden: Float[Tensor, "N D"], weight: Float[Tensor, "V D"], targets: Int[Tensor, " N"]
) -> Float[Tensor, " N"]:
    """The same with the whole [N, V] in memory: the slow twin."""
    return token_logprobs_and_entropy_reference(hidden, weight, targets, None)[0]


def token_logprobs_and_entropy_reference(
    hidden: Float[Tensor, "N D"],
    weight: Float[Tensor, "V D"],
    targets: Int[Tensor, " N"],
    bias: Float[Tensor, " V"] | None,
    temperature: float = 1.0,
) -> tuple[Float[Tensor, " N"], Float[Tensor, " N"]]:
    """The same with the whole [N, V] in memory: the slow twin."""
    logp = next_token_logprobs(hidden, weight, bias, temperature)
    surprise = torch.where(logp.isneginf(), 0.0, logp)
    return logp.gather(-1, targets[:, None]).squeeze(-1), -(logp.exp() * surprise).sum(-1)


def next_token_logprobs(
    hidden: Float[Tensor, "N D"],
    weight: Float[Tensor, "V D"],
    bias: Float[Tensor, " V"] | None,
    temperature: float = 1.0,
) -> Float[Tensor, "N V"]:
    """The whole distribution that a next token is drawn from, as log-probs: the decoder's slow twin."""
    dtype = _accumulator(hidden)
    with torch.autocast(hidden.device.type, enabled=False):
        logits = hidden.to(dtype) @ weight.to(dtype).T
        if temperature != 1.0:
            logits = logits / temperature
        return (logits if bias is None else logits + bias).log_softmax(-1)


def _apply(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    bias: Tensor | None,
    temperature: float,
    entropy: bool,
    row_chunk: int,
    vocab_chunk: int,
) -> tuple[Tensor, Tensor]:
    if row_chunk < 1 or vocab_chunk < 1:
        raise ValueError(f"chunk sizes must be at least 1, got row_chunk={row_chunk} and vocab_chunk={vocab_chunk}")
    options = (temperature, entropy, row_chunk, vocab_chunk, head_dtype(hidden))
    return _TokenLogprobs.apply(hidden, weight, targets, bias, options)  # pyright: ignore[reportReturnType]


def _accumulator(hidden: Tensor) -> torch.dtype:
    return torch.float64 if hidden.dtype == torch.float64 else torch.float32


def _tile(dtype: torch.dtype, h: Tensor, w: Tensor, bias: Tensor | None, temperature: float) -> Tensor:
    """Logits of the rows `h` for the tokens whose weights are `w`."""
    logits = product_in(dtype, h, w.T)
    if temperature != 1.0:
        logits /= temperature
    return logits if bias is None else logits.add_(bias)


class _Totals:
    """Sums over the tokens seen so far, row by row: with x a logit and m the largest, of e^(x-m) and of (x-m) e^(x-m).

    From these come log Z = m + log(sum) and the entropy log(sum) - leaning / sum, which no large common part of the
    logits can blur. Tiles are summed in their own precision, the rows' sums are brought together in float64.
    """

    def __init__(self, rows: int, device: torch.device, dtype: torch.dtype) -> None:
        self.floor = torch.finfo(dtype).min
        self.peak = torch.full((rows,), self.floor, dtype=torch.float64, device=device)
        self.sum, self.leaning = torch.zeros_like(self.peak), torch.zeros_like(self.peak)

    def add(self, at: slice, logits: Tensor, with_entropy: bool) -> None:
        """Takes a tile of logits in, which is overwritten."""
        peak = logits.amax(-1).clamp_(min=self.floor)  # which a tile that is suppressed as a whole has not
        below = logits.sub_(peak[:, None])
        weights = below.exp()
        total = weights.sum(-1).double()
        new = torch.maximum(self.peak[at], peak)
        down, up = self.peak[at] - new, peak - new  # one of the two is 0
        if with_entropy:
            leaning = below.clamp_(min=self.floor).mul_(weights).sum(-1).double()
            before = (self.leaning[at] + down * self.sum[at]) * down.exp()
            self.leaning[at] = before + (leaning + up * total) * up.exp()
        self.sum[at] = self.sum[at] * down.exp() + total * up.exp()
        self.peak[at] = new


def _in_tile(targets: Tensor, start: int, width: int) -> tuple[Tensor, Tensor]:
    """Whether each target is one of the tokens start ... start + width - 1; its column, or one that is not meant."""
    column = targets - start
    return (column >= 0) & (column < width), column.clamp(0, width - 1)[:, None]


class _TokenLogprobs(torch.autograd.Function):
    """Vocabulary tiles are the outer loop, so that each is cast once."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, bias: Tensor | None, options: tuple[Any, ...]
    ) -> tuple[Tensor, Tensor]:
        temperature, with_entropy, rows, columns, operands = options
        dtype, states = _accumulator(hidden), hidden.to(operands)
        totals = _Totals(len(hidden), hidden.device, dtype)
        chosen = torch.full_like(totals.peak, torch.nan)
        with torch.autocast(hidden.device.type, enabled=False):  # which would round the logits
            for c in range(0, len(weight), columns):
                tile = slice(c, c + columns)
                w, b = weight[tile].to(operands), None if bias is None else bias[tile]
                for r in range(0, len(hidden), rows):
                    at = slice(r, r + rows)
                    logits = _tile(dtype, states[at], w, b, temperature)
                    inside, column = _in_tile(targets[at], c, len(w))
                    # the tile's own number, so that no target is likelier than all tokens together
                    picked = logits.gather(1, column).squeeze(1)
                    chosen[at] = torch.where(inside, picked.double(), chosen[at])
                    totals.add(at, logits, with_entropy)
        spread = totals.sum.log()
        entropy = (spread - totals.leaning / totals.sum).to(dtype) if with_entropy else spread.new_zeros(len(hidden))
        log_total = totals.peak.to(dtype) + totals.sum.to(dtype).log()
        ctx.save_for_backward(hidden, weight, targets, bias, log_total, entropy)
        ctx.options = options
        ctx.set_materialize_grads(False)  # what nothing is learned from has None, which need not be looked at to know
        if not with_entropy:
            ctx.mark_non_differentiable(entropy)
        return (chosen - totals.peak - spread).to(dtype), entropy

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor | None, grad_entropy: Tensor | None) -> tuple[Tensor | None, ...]:
        hidden, weight, targets, bias, log_total, entropy = ctx.saved_tensors
        temperature, _, rows, columns, operands = ctx.options
        dtype, states = _accumulator(hidden), hidden.to(operands)
        grad = torch.zeros_like(log_total) if grad is None else grad.to(dtype)
        d_hidden = torch.zeros_like(hidden, dtype=dtype) if ctx.needs_input_grad[0] else None
        d_weight = torch.zeros_like(weight, dtype=dtype) if ctx.needs_input_grad[1] else None
        with torch.autocast(hidden.device.type, enabled=False):
            for c in range(0, len(weight), columns):
                tile = slice(c, c + columns)
                w, b = weight[tile].to(operands), None if bias is None else bias[tile]
                for r in range(0, len(hidden), rows):
                    at = slice(r, r + rows)
                    h, g = states[at], grad[at]
                    logp = _tile(dtype, h, w, b, temperature).sub_(log_total[at, None])
                    # d logp / d logits = onehot(target) - p;  d H / d logits = -p (log p + H)
                    factor = -g[:, None]
                    if grad_entropy is not None:
                        finite = logp.clamp(min=-1e4)  # where p is 0 at any precision
                        factor = factor - grad_entropy[at, None].to(dtype) * (finite + entropy[at, None])
                    d_logits = logp.exp_().mul_(factor)
                    inside, column = _in_tile(targets[at], c, len(w))
                    at_target = d_logits.gather(1, column) + torch.where(inside, g, 0.0)[:, None]
                    d_logits.scatter_(1, column, at_target)
                    if temperature != 1.0:
                        d_logits /= temperature
                    d_logits = d_logits.to(operands)
                    if d_hidden is not None:
                        d_hidden[at] += product_in(dtype, d_logits, w)
                    if d_weight is not None:
                        d_weight[tile] += product_in(dtype, d_logits.T, h)
        d_hidden = None if d_hidden is None else d_hidden.to(hidden.dtype)
        d_weight = None if d_weight is None else d_weight.to(weight.dtype)
        return d_hidden, d_weight, None, None, None
