"""Attention over whole groups: every completion sees the prompt, which is there once, and itself.

Shape legend: R rows (groups), T row length, G completions of a group, C longest completion, P longest prompt, H heads,
K key heads, D width of a head. `segments` is 0 on the prompt, g on the g-th completion, -1 on padding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from fgvr.kernels.attention import (
    AttentionPlan,
    Varlen,
    fastest_varlen,
    masked_attention,
    spans_of,
    varlen_attention,
)

Backend = Literal["dense", "split", "varlen", "flex"]
BLOCK = 128  # tokens on each side of FlexAttention's blocks


def prefix_attention(segments: Int[Tensor, "R T"], backend: Backend, varlen: Varlen | None = None) -> AttentionPlan:
    """The plan for rows of whole groups.

    "dense" masks the square of the row's length: the reference. "split" attends twice, prompt to prompt and completions
    to prompt and themselves, on any device; completions of like length go together where otherwise most would be
    padding. "varlen" does so without padding, by flash-attn or torch's kernel. "flex" is FlexAttention (arXiv
    2412.05496), which skips the blocks that nobody sees.
    """
    if backend == "dense":
        return DensePrefix(segments)
    if backend == "split":
        return SortedPrefix(segments) if _mostly_padding(segments) else SplitPrefix(segments)
    return VarlenPrefix(segments, varlen or fastest_varlen()) if backend == "varlen" else FlexPrefix(segments)


def prefix_mask(segments: Int[Tensor, "R T"]) -> Bool[Tensor, "R 1 T T"]:
    """True where a token may look: back, at the prompt and at its own completion. Padding sees only itself."""
    same = segments[:, :, None] == segments[:, None, :]
    seen = same | (segments == 0)[:, None, :]
    causal = torch.ones(segments.shape[1], segments.shape[1], dtype=torch.bool, device=segments.device).tril()
    real = (segments >= 0)[:, :, None]
    itself = torch.eye(segments.shape[1], dtype=torch.bool, device=segments.device)
    return ((seen & causal & real) | itself)[:, None]


class DensePrefix(AttentionPlan):
    """The whole mask, R x T x T: what the others are tested against."""

    def __init__(self, segments: Int[Tensor, "R T"]) -> None:
        self.mask = prefix_mask(segments)

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        return masked_attention(query, key, value, self.mask, scale)


class SplitPrefix(AttentionPlan):
    """The prompt attends to itself; then each completion, padded to C, attends to [prompt | itself]."""

    def __init__(self, segments: Int[Tensor, "R T"]) -> None:
        rows, width = segments.shape
        prompts = (segments == 0).sum(1)  # [R]
        self.prompt, self.groups = int(prompts.max()), int(segments.max().clamp(min=0))
        numbers = torch.arange(1, self.groups + 1, device=segments.device)
        member = segments[:, None, :] == numbers[:, None]  # [R G T]
        lengths = member.sum(-1)  # [R G]
        self.longest = int(lengths.max()) if self.groups else 0
        offset = torch.arange(self.longest, device=segments.device)
        first = member.int().argmax(-1)  # [R G]
        self.places = (first[..., None] + offset).clamp(max=width - 1).flatten(1)  # [R G*C], in the row
        sees_prompt = torch.arange(self.prompt, device=segments.device) < prompts[:, None]  # [R P]
        shape = (rows, self.groups, self.longest, self.longest)
        itself = torch.ones(shape[2:], dtype=torch.bool, device=segments.device).tril()
        mask = torch.cat(
            [sees_prompt[:, None, None].expand(*shape[:3], -1), itself.expand(shape)], -1
        )  # [R G C P+C]; a padded query stands behind its completion and is read by nobody
        even = bool((prompts == self.prompt).all())
        self.mask = mask[:1, :1].flatten(0, 1)[:, None] if even and self.groups else mask.flatten(0, 1)[:, None]
        # where, in [prompt | G x C], the output of each token of the row stands; padding reads the first
        before = segments.clamp(min=1) - 1
        inside = torch.arange(width, device=segments.device) - first.gather(1, before) if self.groups else 0
        back = torch.where(
            segments > 0,
            self.prompt + before * self.longest + inside,
            torch.arange(width, device=segments.device).expand(rows, -1),
        )
        self.back = torch.where(segments < 0, 0, back)  # [R T]
        full = self.prompt + self.groups * self.longest
        self.exact = width == full and bool((self.back == torch.arange(full, device=segments.device)).all())

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        # not slices, each of whose gradients is as large as the whole
        (query, asking), (key, own_keys), (value, own_values) = (self._parted(x) for x in (query, key, value))
        own = masked_attention(query, key, value, None, scale)
        if not self.groups:
            return self._in_row(own)
        keys, values = self._after_prompt(key, own_keys), self._after_prompt(value, own_values)  # [R*G K P+C D]
        answers = masked_attention(self._by_completion(asking), keys, values, self.mask, scale)
        answers = answers.unflatten(0, (-1, self.groups)).transpose(1, 2).flatten(2, 3)  # [R H G*C D]
        return self._in_row(torch.cat([own, answers], 2))

    def _parted(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What is of the prompts [R H P D], and of the completions [R H G*C D]."""
        prompt, rest = x.split([self.prompt, x.shape[2] - self.prompt], 2)
        if self.exact:
            return prompt, rest
        return prompt, x.gather(2, self.places[:, None, :, None].expand(-1, x.shape[1], -1, x.shape[3]))

    def _by_completion(self, x: Tensor) -> Tensor:
        return x.unflatten(2, (self.groups, self.longest)).transpose(1, 2).flatten(0, 1)  # [R*G H C D]

    def _after_prompt(self, prompt: Tensor, own: Tensor) -> Tensor:
        shared = prompt[:, None].expand(-1, self.groups, -1, -1, -1).flatten(0, 1)
        return torch.cat([shared, self._by_completion(own)], 2)

    def _in_row(self, out: Tensor) -> Tensor:
        if self.exact:
            return out
        return out.gather(2, self.back[:, None, :, None].expand(-1, out.shape[1], -1, out.shape[3]))


@dataclass(frozen=True)
class _Alike:
    """Completions of like length, padded to the longest of them: n in all, each with its row in the batch."""

    rows: Int[Tensor, " n"]
    places: Int[Tensor, "n C"]  # row-major over [R T]; what stands behind a completion is read by nobody
    mask: Bool[Tensor, "n 1 C M"]  # M = P + C keys


class SortedPrefix(AttentionPlan):
    """As "split", with a call for the longest completions and all of more than half their length, and so on down.

    So less than half of what is computed is padding, however long a single completion is.
    """

    def __init__(self, segments: Int[Tensor, "R T"]) -> None:
        device, width = segments.device, segments.shape[1]
        prompts = (segments == 0).sum(1)  # [R]
        self.prompt = int(prompts.max())
        sees_prompt = torch.arange(self.prompt, device=device) < prompts[:, None]  # [R P]
        completions = [run for number, run in _runs(segments) if number > 0]
        longest = max(map(len, completions))
        inside = torch.arange(width, device=device)
        # where each token's output stands among those of the prompts and, length by length, of the completions
        self.back = (self.prompt * torch.arange(len(segments), device=device)[:, None] + inside).flatten()
        self.back[segments.flatten() != 0] = 0
        self.alike: list[_Alike] = []
        start = len(segments) * self.prompt
        for halvings in sorted({(longest // len(run)).bit_length() for run in completions}):
            chosen = [run for run in completions if (longest // len(run)).bit_length() == halvings]
            most = max(map(len, chosen))
            first = torch.tensor([run.start for run in chosen], device=device)
            rows = first // width
            lower = torch.ones(most, most, dtype=torch.bool, device=device).tril().expand(len(chosen), -1, -1)
            mask = torch.cat([sees_prompt[rows, None].expand(-1, most, -1), lower], -1)[:, None]
            places = (first[:, None] + inside[:most]).clamp(max=segments.numel() - 1)
            self.alike.append(_Alike(rows, places, mask))
            for number, run in enumerate(chosen):
                self.back[run.start : run.stop] = start + number * most + inside[: len(run)]
            start += len(chosen) * most

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        asked, *shared = (x[:, :, : self.prompt] for x in (query, key, value))  # of the prompts
        tokens = [x.transpose(1, 2).flatten(0, 1) for x in (query, key, value)]  # [R*T H D]
        found = [masked_attention(asked, shared[0], shared[1], None, scale)]
        for alike in self.alike:
            asking, *own = (x.index_select(0, alike.places.flatten()) for x in tokens)
            asking, *own = (x.unflatten(0, alike.places.shape).transpose(1, 2) for x in (asking, *own))  # [n H C D]
            keys, values = (
                torch.cat([prompt.index_select(0, alike.rows), mine], 2)
                for prompt, mine in zip(shared, own, strict=True)
            )  # [n K P+C D]
            found.append(masked_attention(asking, keys, values, alike.mask, scale))
        out = torch.cat([part.transpose(1, 2).flatten(0, 1) for part in found])
        return out.index_select(0, self.back).unflatten(0, (len(query), -1)).transpose(1, 2)


def _mostly_padding(segments: Tensor) -> bool:
    """True where most of what "split" computes, as many completions a row and as long as any, would be padding."""
    lengths = [len(run) for number, run in _runs(segments) if number > 0]
    return len(segments) * int(segments.max()) * max(lengths, default=0) > 2 * sum(lengths)


class VarlenPrefix(AttentionPlan):
    """As "split", without any padding: the completions' keys are [prompt | own], aligned at the end.

    Groups may also stand one after the other in a row: each begins where segment 0 does.
    """

    def __init__(self, segments: Int[Tensor, "R T"], how: Varlen) -> None:
        self.how: Varlen = how
        device = segments.device
        prompts: list[range] = []
        completions: list[tuple[range, range]] = []  # each with its prompt
        for number, run in _runs(segments):
            if number == 0:
                prompts.append(run)
            elif number > 0:
                completions.append((prompts[-1], run))
        self.prompts = _places(prompts, device)
        self.completions = _places([own for _, own in completions], device)
        self.seen = _places([part for pair in completions for part in pair], device)
        lengths = [len(prompt) for prompt in prompts]
        self.prompt_spans = spans_of(lengths, lengths, device)
        own = [len(own) for _, own in completions]
        self.completion_spans = spans_of(own, [len(prompt) + len(own) for prompt, own in completions], device)

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        rows, width = query.shape[0], query.shape[2]
        q, k, v = (x.transpose(1, 2).flatten(0, 1) for x in (query, key, value))
        out = torch.zeros_like(q)
        at = self.prompts
        own = varlen_attention(q[at], k[at], v[at], self.prompt_spans, scale, self.how)
        out = out.index_copy(0, at, own.to(out.dtype))
        if len(self.completions):
            at = self.completions
            answers = varlen_attention(q[at], k[self.seen], v[self.seen], self.completion_spans, scale, self.how)
            out = out.index_copy(0, at, answers.to(out.dtype))
        return out.unflatten(0, (rows, width)).transpose(1, 2)


def _runs(segments: Tensor) -> Iterator[tuple[int, range]]:
    """Each stretch of one segment with its flat places, row-major; a stretch never goes on in the next row."""
    rows = torch.arange(len(segments), device=segments.device)[:, None].expand_as(segments)
    numbered = torch.stack([rows.flatten(), segments.flatten()])
    found, counts = torch.unique_consecutive(numbered, dim=1, return_counts=True)
    start = 0
    for number, count in zip(found[1].tolist(), counts.tolist(), strict=True):
        yield number, range(start, start + count)
        start += count


def _places(runs: Sequence[range], device: torch.device) -> Int[Tensor, " _"]:
    places = [torch.arange(run.start, run.stop) for run in runs]
    return torch.cat([torch.zeros(0, dtype=torch.long), *places]).to(device)


@cache
def _flex(compiled: bool) -> Any:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention, dynamic=True) if compiled else flex_attention


class FlexPrefix(AttentionPlan):
    """FlexAttention, compiled on a GPU; on a CPU it has no gradient and serves for comparison only.

    Which blocks are looked at, and which need no mask, is told from the numbers at both ends of each: nothing of the
    size of R x T x T is made.
    """

    def __init__(self, segments: Int[Tensor, "R T"]) -> None:
        from torch.nn.attention.flex_attention import BlockMask

        width = segments.shape[1]
        some, every = (_listed(blocks) for blocks in _blocks_seen(segments))
        self.blocks = BlockMask.from_kv_blocks(
            *some,
            *every,
            BLOCK,
            # as `prefix_mask`, for one pair of tokens
            lambda row, _, query, key: (
                (
                    (segments[row, query] >= 0)
                    & (query >= key)
                    & ((segments[row, key] == 0) | (segments[row, key] == segments[row, query]))
                )
                | (query == key)
            ),
            (width, width),
        )

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        out = _flex(query.is_cuda)(
            query, key, value, block_mask=self.blocks, scale=scale, enable_gqa=query.shape[1] != key.shape[1]
        )
        assert isinstance(out, Tensor)
        return out


def _blocks_seen(segments: Int[Tensor, "R T"]) -> tuple[Bool[Tensor, "R 1 B B"], Bool[Tensor, "R 1 B B"]]:
    """Of B blocks of queries and of keys: where a part of the tokens see each other, and where all do."""
    rows, width = segments.shape
    blocks = -(-width // BLOCK)
    numbers = segments.new_full((rows, blocks * BLOCK), -1)
    numbers[:, :width] = segments
    numbers = numbers.unflatten(1, (blocks, BLOCK))
    last, whole = numbers.amax(-1), numbers.amin(-1) >= 0
    first = numbers.masked_fill(numbers < 0, width).amin(-1)  # of the real tokens: padding stands behind them
    before = torch.ones(blocks, blocks, dtype=torch.bool, device=segments.device).tril(-1)
    real = last >= 0
    prompt, own = (first == 0)[:, None, :], last[:, None, :] == first[:, :, None]  # numbers rise along a row
    seen = before & real[:, :, None] & real[:, None, :] & (prompt | own)
    one = first == last
    alone = one | ((first == 0) & (last == 1))  # one completion, with a piece of the prompt before it or not
    all_prompt, all_own = (last == 0)[:, None, :], own & one[:, :, None] & alone[:, None, :]
    every = before & whole[:, :, None] & whole[:, None, :] & (all_prompt | all_own)
    itself = torch.eye(blocks, dtype=torch.bool, device=segments.device)
    return ((seen & ~every) | itself)[:, None], every[:, None]


def _listed(blocks: Bool[Tensor, "R 1 B B"]) -> tuple[Int[Tensor, "R 1 B"], Int[Tensor, "R 1 B B"]]:
    """Of each block of queries, how many blocks of keys are meant, and which: those first."""
    order = blocks.int().argsort(dim=-1, descending=True, stable=True)
    return blocks.sum(-1, dtype=torch.int32), order.int()
