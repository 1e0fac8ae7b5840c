"""Log-probabilities of given tokens, straight from hidden states and the head's weight: the logits never exist whole.

Shape legend: N target rows, D width, V vocabulary, K suppressed tokens.
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
    nothing = torch.zeros(0, dtype=torch.long, device=hidden.device)
    return _apply(hidden, weight, targets, nothing, 1.0, False, row_chunk, vocab_chunk)[0]


def token_logprobs_and_entropy(
    hidden: Float[Tensor, "N D"],
    weight: Float[Tensor, "V D"],
    targets: Int[Tensor, " N"],
    suppressed: Int[Tensor, " K"],
    temperature: float = 1.0,
    *,
    row_chunk: int = 1024,
    vocab_chunk: int = 16384,
) -> tuple[Float[Tensor, " N"], Float[Tensor, " N"]]:
    """Log-probs of the targets and the exact entropy, both in nats, of the distribution that is sampled from.

    That is softmax(hidden @ weight.T / temperature) over all tokens but the suppressed ones. A suppressed target has
    log-prob -inf. Both results have gradients; precision, memory and errors are those of `token_logprobs`.
    """
    return _apply(hidden, weight, targets, suppressed, temperature, True, row_chunk, vocab_chunk)


def token_logprobs_reference(
    hidden: Float[Tensor, "N D"], weight: Float[Tensor, "V D"], targets: Int[Tensor, " N"]
) -> Float[Tensor, " N"]:
    """The same with the whole [N, V] in memory: the slow twin."""
    return token_logprobs_and_entropy_reference(hidden, weight, targets, targets[:0])[0]


def token_logprobs_and_entropy_reference(
    hidden: Float[Tensor, "N D"],
    weight: Float[Tensor, "V D"],
    targets: Int[Tensor, " N"],
    suppressed: Int[Tensor, " K"],
    temperature: float = 1.0,
) -> tuple[Float[Tensor, " N"], Float[Tensor, " N"]]:
    """The same with the whole [N, V] in memory: the slow twin."""
    logp = next_token_logprobs(hidden, weight, suppressed, temperature)
    surprise = torch.where(logp.isneginf(), 0.0, logp)
    return logp.gather(-1, targets[:, None]).squeeze(-1), -(logp.exp() * surprise).sum(-1)


def next_token_logprobs(
    hidden: Float[Tensor, "N D"],
    weight: Float[Tensor, "V D"],
    suppressed: Int[Tensor, " K"],
    temperature: float = 1.0,
) -> Float[Tensor, "N V"]:
    """The whole distribution that a next token is drawn from, as log-probs: the decoder's slow twin."""
    dtype = _accumulator(hidden)
    with torch.autocast(hidden.device.type, enabled=False):
        logits = hidden.to(dtype) @ weight.to(dtype).T
        if temperature != 1.0:
            logits = logits / temperature
        return logits.index_fill(-1, suppressed, -torch.inf).log_softmax(-1)


def _apply(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    suppressed: Tensor,
    temperature: float,
    entropy: bool,
    row_chunk: int,
    vocab_chunk: int,
) -> tuple[Tensor, Tensor]:
    if row_chunk < 1 or vocab_chunk < 1:
        raise ValueError(f"chunk sizes must be at least 1, got row_chunk={row_chunk} and vocab_chunk={vocab_chunk}")
    options = (temperature, entropy, row_chunk, vocab_chunk)
    return _TokenLogprobs.apply(hidden, weight, targets, suppressed, options)  # pyright: ignore[reportReturnType]


def _accumulator(hidden: Tensor) -> torch.dtype:
    return torch.float64 if hidden.dtype == torch.float64 else torch.float32


def _suppression(suppressed: Tensor, weight: Tensor, dtype: torch.dtype) -> Float[Tensor, " V"] | None:
    """What is added to the logits: -inf at the suppressed tokens, 0 at the others; None when there are none."""
    if not len(suppressed):
        return None
    return torch.zeros(len(weight), dtype=dtype, device=weight.device).index_fill_(0, suppressed, -torch.inf)


def _tile(h: Tensor, w: Tensor, bias: Tensor | None, temperature: float) -> Tensor:
    """Logits of the rows `h` for the tokens whose weights are `w`."""
    logits = h @ w.to(h.dtype).T
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
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, suppressed: Tensor, options: tuple[Any, ...]
    ) -> tuple[Tensor, Tensor]:
        temperature, with_entropy, rows, columns = options
        dtype = _accumulator(hidden)
        bias = _suppression(suppressed, weight, dtype)
        totals = _Totals(len(hidden), hidden.device, dtype)
        chosen = torch.full_like(totals.peak, torch.nan)
        with torch.autocast(hidden.device.type, enabled=False):  # which would round the products
            for r in range(0, len(hidden), rows):
                at = slice(r, r + rows)
                h = hidden[at].to(dtype)
                for c in range(0, len(weight), columns):
                    tile = slice(c, c + columns)
                    logits = _tile(h, weight[tile], None if bias is None else bias[tile], temperature)
                    inside, column = _in_tile(targets[at], c, logits.shape[1])
                    # the tile's own number, so that no target is likelier than all tokens together
                    picked = logits.gather(1, column).squeeze(1)
                    chosen[at] = torch.where(inside, picked.double(), chosen[at])
                    totals.add(at, logits, with_entropy)
        spread = totals.sum.log()
        entropy = (spread - totals.leaning / totals.sum).to(dtype) if with_entropy else spread.new_zeros(len(hidden))
        log_total = totals.peak.to(dtype) + totals.sum.to(dtype).log()
        ctx.save_for_backward(hidden, weight, targets, suppressed, log_total, entropy)
        ctx.options = options
        if not with_entropy:
            ctx.mark_non_differentiable(entropy)
        return (chosen - totals.peak - spread).to(dtype), entropy

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, grad_entropy: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, targets, suppressed, log_total, entropy = ctx.saved_tensors
        temperature, with_entropy, rows, columns = ctx.options
        dtype = _accumulator(hidden)
        bias = _suppression(suppressed, weight, dtype)
        d_hidden = torch.zeros_like(hidden, dtype=dtype) if ctx.needs_input_grad[0] else None
        d_weight = torch.zeros_like(weight, dtype=dtype) if ctx.needs_input_grad[1] else None
        spread = with_entropy and bool(grad_entropy.any())
        with torch.autocast(hidden.device.type, enabled=False):
            for r in range(0, len(hidden), rows):
                at = slice(r, r + rows)
                h, g = hidden[at].to(dtype), grad[at].to(dtype)
                for c in range(0, len(weight), columns):
                    tile = slice(c, c + columns)
                    w = weight[tile].to(dtype)
                    logits = _tile(h, w, None if bias is None else bias[tile], temperature)
                    logp = logits.sub_(log_total[at, None])
                    # d logp / d logits = onehot(target) - p;  d H / d logits = -p (log p + H)
                    factor = -g[:, None]
                    if spread:
                        finite = logp.clamp(min=-1e4)  # where p is 0 at any precision
                        factor = factor - grad_entropy[at, None].to(dtype) * (finite + entropy[at, None])
                    d_logits = logp.exp_().mul_(factor)
                    inside, column = _in_tile(targets[at], c, len(w))
                    at_target = d_logits.gather(1, column) + torch.where(inside, g, 0.0)[:, None]
                    d_logits.scatter_(1, column, at_target)
                    if temperature != 1.0:
                        d_logits /= temperature
                    if d_hidden is not None:
                        d_hidden[at] += d_logits @ w
                    if d_weight is not None:
                        d_weight[tile] += d_logits.T @ h
        d_hidden = None if d_hidden is None else d_hidden.to(hidden.dtype)
        d_weight = None if d_weight is None else d_weight.to(weight.dtype)
        return d_hidden, d_weight, None, None, None
