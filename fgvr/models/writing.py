"""Completions, token by token: the one loop from which sampling, greedy answers and best-of-n are drawn.

Shape legend: B prompts, G completions of each, L longest completion, V vocabulary, b and s the prompts and completions
of each that are still being written, M = b * s rows, N tokens written so far.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from fgvr.errors import UserError
from fgvr.kernels.group_decoding import GroupCache, PromptCache
from fgvr.kernels.replaying import Replayed
from fgvr.kernels.token_draws import draw_tokens
from fgvr.models.decoder import Decoder
from fgvr.models.sampling import Sampling
from fgvr.types import EncodedPrompt

BLOCK = 16  # tokens between two questions whether all have ended, which a GPU would have to be waited for
SHRINK_AT = 0.75  # rows still needed, as a share of those computed, under which the others are cut away


@dataclass(frozen=True)
class Written:
    """One completion: ids, the end token included where one was reached, and the log-probs in nats they were drawn at.

    There are none of the likeliest tokens, which were not drawn.
    """

    ids: Int[Tensor, " C"]
    logprobs: Float[Tensor, " C"] | None
    ended: bool


@dataclass(frozen=True)
class ReadPrompts:
    """Prompts that have been read: what is kept of them, the state that predicts what comes next, at which position."""

    prompts: Sequence[EncodedPrompt]
    cache: PromptCache
    hidden: Float[Tensor, "B D"]
    after: Int[Tensor, " B"]

    def kept(self) -> ReadPrompts:
        """The same, which stays whole while completions are written after it."""
        cache = copy.copy(self.cache)
        cache.layers = list(self.cache.layers)
        return replace(self, cache=cache)


class Page:
    """What is being written, all of it on the device: each step appends a token to every completion.

    `chances` [B G L] are the random numbers, in [0, 1), that choose the tokens; None takes the likeliest ones, for
    which no log-probs are worked out. `values` [L M] are the log-probs of drawn tokens, the scores of likeliest ones.
    A step's operations depend on no value; what it computes after an end token is not read.
    """

    def __init__(
        self,
        decoder: Decoder,
        read: ReadPrompts,
        sampling: Sampling,
        chances: Float[Tensor, "B G L"] | None,
    ) -> None:
        self.decoder, self.temperature, self.longest = decoder, sampling.temperature, sampling.max_new_tokens
        shape, device = (len(read.hidden), sampling.group_size), read.hidden.device
        self.shape, self.fixed = shape, device.type == "cuda"
        self.cache = GroupCache(read.cache, sampling.group_size, self.longest)
        self.turns = decoder.turns(read.after, self.longest)
        self.chances = None if chances is None else chances.permute(2, 0, 1).flatten(1).contiguous()  # [L M]
        self.ids = torch.zeros(self.longest, shape[0] * shape[1], dtype=torch.long, device=device)
        self.values = torch.zeros(self.ids.shape, dtype=decoder.bias.dtype, device=device)
        self.last = torch.zeros(1, dtype=torch.long, device=device)  # the step of the token written last
        with torch.autocast(device.type, enabled=False):
            self._append(decoder.scores(read.hidden, self.temperature))

    def step(self) -> None:
        tokens = self.ids.index_select(0, self.last)[0]
        turns = self.turns.index_select(0, self.last)[0]
        hidden = self.decoder.read(tokens, turns, self.last, self.cache)
        self.last.add_(1)
        self._append(self.decoder.scores(hidden, self.temperature))

    def keep(self, prompts: Int[Tensor, " b"], slots: Int[Tensor, "b s"]) -> None:
        """Goes on with these prompts and, of each, these completions only."""
        rows = (prompts[:, None] * self.shape[1] + slots).flatten()
        self.shape = (slots.shape[0], slots.shape[1])
        self.ids, self.values = self.ids[:, rows], self.values[:, rows]
        self.chances = None if self.chances is None else self.chances[:, rows]
        self.turns = self.turns[:, prompts]
        self.cache.keep(prompts, slots)

    def _append(self, scores: Float[Tensor, "_ V"]) -> None:
        """Scores of the prompts, then of every completion."""
        if self.chances is None:
            values, tokens = scores.max(-1)
        else:
            chance = self.chances.index_select(0, self.last).view(len(scores), -1)
            tokens, values = draw_tokens(scores.softmax(-1), chance)
            values = values.log_()
        self.ids.index_copy_(0, self.last, tokens.view(1, -1))
        self.values.index_copy_(0, self.last, values.view(1, -1))


def write_completions(page: Page, ends: Int[Tensor, " _"]) -> Iterator[tuple[int, list[Written]]]:
    """Each prompt's number with its completions, a block of tokens after the last of them has ended at the latest.

    Raises UserError when the policy's scores are no numbers.
    """
    (batch, group), longest, device = page.shape, page.longest, page.ids.device
    is_end = torch.zeros(len(page.decoder.bias), dtype=torch.bool, device=device).index_fill_(0, ends, True)
    done = _Done(
        torch.zeros(batch, group, longest, dtype=torch.long, device=device),
        torch.zeros(batch, group, longest, dtype=page.values.dtype, device=device),
        torch.zeros(batch, group, longest, dtype=torch.bool, device=device),
        drawn=page.chances is not None,
    )
    left = torch.arange(batch, device=device)  # [b]
    slots = torch.arange(group, device=device).expand(batch, group)  # [b s]
    open_, written, step = set(range(batch)), 1, stepping(page)
    while open_:
        upto = min(longest, (written // BLOCK + 1) * BLOCK)
        if not page.fixed:
            page.cache.read_up_to(upto)
        with torch.inference_mode(), torch.autocast(device.type, enabled=False):
            for _ in range(written, upto):
                step()
        written = upto
        done.take(page, left, slots, is_end)
        writing = ~done.ends[left[:, None], slots, :written].any(-1)  # [b s]
        still = set() if written == longest else set(left[writing.any(1)].tolist())
        if open_ > still:
            _refuse_broken(page.values[:written])
        for prompt in sorted(open_ - still):
            yield prompt, done.of(prompt, written)
        open_ = still
        prompts, chosen = _still_needed(writing) if open_ else (left, None)
        if chosen is not None:
            page.keep(prompts, chosen)
            left, slots, step = left[prompts], slots[prompts].gather(1, chosen), stepping(page)


@dataclass
class _Done:
    """Everything written so far, also of completions that have left the page; `ends` is where an end token is."""

    ids: Int[Tensor, "B G L"]
    values: Float[Tensor, "B G L"]
    ends: Bool[Tensor, "B G L"]
    drawn: bool

    def take(self, page: Page, left: Tensor, slots: Tensor, is_end: Tensor) -> None:
        at = left[:, None], slots
        ids, values = (x.unflatten(1, page.shape).permute(1, 2, 0) for x in (page.ids, page.values))
        self.ids[at], self.values[at], self.ends[at] = ids, values, is_end[ids]

    def of(self, prompt: int, written: int) -> list[Written]:
        ids, values, ends = (x[prompt, :, :written].cpu() for x in (self.ids, self.values, self.ends))
        ended = ends.any(-1).tolist()
        lengths = torch.where(ends.any(-1), ends.int().argmax(-1) + 1, written).tolist()
        return [
            Written(ids[slot, :length].clone(), values[slot, :length].clone() if self.drawn else None, ended[slot])
            for slot, length in enumerate(lengths)
        ]


def stepping(page: Page) -> Callable[[], None]:
    """A page's step, on a GPU recorded and replayed."""
    return Replayed(page.step) if page.fixed else page.step


def _refuse_broken(values: Tensor) -> None:
    if bool(values.isnan().any()):
        raise UserError(
            "the policy's log-probs must be numbers, but some were NaN while it wrote: its weights are broken, or the "
            "temperature is too low; go back to an earlier checkpoint, or lower the learning rate"
        )


def _still_needed(writing: Bool[Tensor, "b s"]) -> tuple[Tensor, Tensor | None]:
    """Which prompts and completions of each to go on with; None for the latter while cutting would save too little.

    Every prompt keeps as many as the one that needs most, so that rows stay a rectangle.
    """
    counts = writing.sum(1)
    prompts = counts.nonzero().flatten()
    most = int(counts.max())
    if len(prompts) * most > SHRINK_AT * writing.numel():
        return prompts, None
    order = writing[prompts].int().argsort(dim=1, descending=True, stable=True)
    return prompts, order[:, :most]
