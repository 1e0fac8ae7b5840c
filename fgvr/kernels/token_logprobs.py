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
    """The whole distribution that a next token is drawn from, as log-probs; for sampling, where N is small."""
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


def _tile(h: Tensor, w: Tensor, start: int, suppressed: Tensor, temperature: float) -> Tensor | None:
    """Logits of the tokens start ... start + len(w) - 1; None when all of them are suppressed."""
    inside = suppressed[(suppressed >= start) & (suppressed < start + len(w))] - start
    if len(inside) == len(w):
        return None
    logits = h @ w.to(h.dtype).T
    if temperature != 1.0:
        logits /= temperature
    return logits.index_fill_(-1, inside, -torch.inf) if len(inside) else logits


class _TokenLogprobs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, suppressed: Tensor, options: tuple[Any, ...]
    ) -> tuple[Tensor, Tensor]:
        temperature, with_entropy, rows, columns = options
        dtype = _accumulator(hidden)
        log_total = hidden.new_full((len(hidden),), -torch.inf, dtype=dtype)
        mean_logit = torch.zeros_like(log_total)
        chosen = torch.zeros_like(log_total)
        with torch.autocast(hidden.device.type, enabled=False):  # which would round the products
            for r in range(0, len(hidden), rows):
                at = slice(r, r + rows)
                h = hidden[at].to(dtype)
                for c in range(0, len(weight), columns):
                    logits = _tile(h, weight[c : c + columns], c, suppressed, temperature)
                    if logits is None:
                        continue
                    total = logits.logsumexp(-1)
                    both = torch.logaddexp(log_total[at], total)
                    if with_entropy:
                        # the mean logit so far and this tile's, each weighted by its share of the probability
                        share = logits.sub(both[:, None]).exp_()
                        mean = (share * logits.clamp_(min=torch.finfo(dtype).min)).sum(-1)
                        mean_logit[at] = mean_logit[at] * (log_total[at] - both).exp() + mean
                    log_total[at] = both
                chosen[at] = (h * weight[targets[at]].to(dtype)).sum(-1) / temperature
        chosen.masked_fill_(torch.isin(targets, suppressed), -torch.inf)
        entropy = log_total - mean_logit if with_entropy else torch.zeros_like(log_total)
        ctx.save_for_backward(hidden, weight, targets, suppressed, log_total, entropy)
        ctx.options = options
        if not with_entropy:
            ctx.mark_non_differentiable(entropy)
        return chosen - log_total, entropy

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, grad_entropy: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, targets, suppressed, log_total, entropy = ctx.saved_tensors
        temperature, with_entropy, rows, columns = ctx.options
        dtype = _accumulator(hidden)
        d_hidden = torch.zeros_like(hidden, dtype=dtype) if ctx.needs_input_grad[0] else None
        d_weight = torch.zeros_like(weight, dtype=dtype) if ctx.needs_input_grad[1] else None
        spread = with_entropy and bool(grad_entropy.any())
        with torch.autocast(hidden.device.type, enabled=False):
            for r in range(0, len(hidden), rows):
                at = slice(r, r + rows)
                h, t, g = hidden[at].to(dtype), targets[at], grad[at].to(dtype)
                for c in range(0, len(weight), columns):
                    w = weight[c : c + columns].to(dtype)
                    logits = _tile(h, w, c, suppressed, temperature)
                    if logits is None:
                        continue
                    logp = logits.sub_(log_total[at, None])
                    # d logp / d logits = onehot(target) - p;  d H / d logits = -p (log p + H)
                    factor = g[:, None]
                    if spread:
                        finite = logp.clamp(min=-1e4)  # where p is 0 at any precision
                        factor = factor + grad_entropy[at, None].to(dtype) * (finite + entropy[at, None])
                    d_logits = logp.exp_().mul_(factor).neg_()
                    inside = (t >= c) & (t < c + len(w))
                    d_logits[inside, t[inside] - c] += g[inside]
                    d_logits /= temperature
                    if d_hidden is not None:
                        d_hidden[at] += d_logits @ w
                    if d_weight is not None:
                        d_weight[c : c + columns] += d_logits.T @ h
        d_hidden = None if d_hidden is None else d_hidden.to(hidden.dtype)
        d_weight = None if d_weight is None else d_weight.to(weight.dtype)
        return d_hidden, d_weight, None, None, None
