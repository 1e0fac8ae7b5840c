"""Several sequences in one row: where each goes, and the mask that keeps them apart.

Shape legend: R rows, T row length in tokens.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice, takewhile
from typing import TypeVar

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from fgvr.types import GroupRows, PackedRows

Rows = TypeVar("Rows", PackedRows, GroupRows)


def token_budget_batches(
    lengths: Sequence[int], budget: int, computed: Callable[[Iterable[int]], Iterator[int]]
) -> list[list[int]]:
    """Cuts sequences into micro-batches of which no more than `budget` tokens are computed; returns their indices.

    `computed` says, of lengths that come longest first, how many tokens that is for the first of them, for the first
    two and so on: `accumulate` without padding, else `padded_so_far` or `packed_so_far`. Like lengths come together, so
    that little is padding: the longest stand in the first micro-batch. A sequence longer than the budget is a
    micro-batch of its own. Indices ascend within each. Raises ValueError when the budget is below 1.
    """
    if budget < 1:
        raise ValueError(f"the token budget must be at least 1, got {budget}")
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    batches: list[list[int]] = []
    start = 0
    while start < len(order):
        sizes = computed(lengths[i] for i in islice(order, start, None))
        more = sum(1 for _ in takewhile(lambda size: size <= budget, islice(sizes, 1, None)))
        batches.append(sorted(order[start : start + 1 + more]))
        start += 1 + more
    return batches


def token_budget_batches_reference(
    lengths: Sequence[int], budget: int, computed: Callable[[Sequence[int]], int]
) -> list[list[int]]:
    """The same, all that a micro-batch would hold counted anew for every sequence: the slow twin."""
    batches: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if not batches or computed([lengths[i] for i in (*batches[-1], index)]) > budget:
            batches.append([])
        batches[-1].append(index)
    return [sorted(batch) for batch in batches]


def padded_tokens(lengths: Sequence[int]) -> int:
    """Tokens computed where each sequence is a row, padded to the longest."""
    return len(lengths) * max(lengths, default=0)


def padded_so_far(lengths: Iterable[int]) -> Iterator[int]:
    """`padded_tokens` of the first length, of the first two and so on; they come longest first."""
    longest = 0
    for count, length in enumerate(lengths, start=1):
        longest = max(longest, length)
        yield count * longest


def packed_tokens(lengths: Sequence[int], row_tokens: int) -> int:
    """Tokens computed where sequences stand side by side in `balanced_rows`, padding included."""
    return padded_tokens([sum(lengths[i] for i in row) for row in balanced_rows(lengths, row_tokens)])


def packed_so_far(lengths: Iterable[int], row_tokens: int) -> Iterator[int]:
    """`packed_tokens` of the first length, of the first two and so on; they come longest first.

    The rows are filled in that order too, so one more sequence only adds to the emptiest row.
    """
    taken: list[int] = []
    total = longest = 0
    fills: dict[int, list[int]] = {}  # of each number of rows how full they are, the emptiest first
    for length in lengths:
        total, longest = total + length, max(longest, length)
        counts = _row_counts(len(taken) + 1, total, longest, row_tokens)
        fills = {count: fills[count] if count in fills else _filled(taken, count) for count in counts}
        for fill in fills.values():
            heapq.heapreplace(fill, fill[0] + length)
        taken.append(length)
        yield min(count * max(fill) for count, fill in fills.items())


def _filled(lengths: Sequence[int], count: int) -> list[int]:
    """How full `count` rows are, the emptiest first, when each length in turn goes to the emptiest."""
    fill = [0] * count
    for length in lengths:
        heapq.heapreplace(fill, fill[0] + length)
    return fill


def balanced_rows(lengths: Sequence[int], row_tokens: int) -> list[list[int]]:
    """Spreads sequences over as few rows of about `row_tokens` as hold them, so evenly that little padding is left.

    Longest first, each to the emptiest row (of so many rows no other spread has a fullest one that is shorter by more
    than a quarter: Graham, 1969); the rows are then as wide as the fullest. One or two rows fewer are taken when that
    wastes less. Returns the indices in each row, ascending; never an empty row. Raises ValueError when
    `row_tokens` is below 1.
    """
    if row_tokens < 1:
        raise ValueError(f"row_tokens must be at least 1, got {row_tokens}")
    if not lengths:
        return []
    counts = _row_counts(len(lengths), sum(lengths), max(lengths), row_tokens)
    return min(
        (_spread(lengths, count) for count in counts),
        key=lambda rows: padded_tokens([sum(lengths[i] for i in row) for row in rows]),
    )


def _row_counts(sequences: int, tokens: int, longest: int, row_tokens: int) -> range:
    """The numbers of rows that are tried, the most first."""
    most = min(sequences, max(1, math.ceil(tokens / max(row_tokens, longest))))
    return range(most, (max(1, most - 2) if most > 3 else most) - 1, -1)


def _spread(lengths: Sequence[int], count: int) -> list[list[int]]:
    fill: list[tuple[int, int]] = [(0, row) for row in range(count)]
    rows: list[list[int]] = [[] for _ in range(count)]
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        used, row = heapq.heappop(fill)
        rows[row].append(index)
        heapq.heappush(fill, (used + lengths[index], row))
    return [sorted(row) for row in rows]


def block_causal_mask(segments: Int[Tensor, "R T"]) -> Bool[Tensor, "R 1 T T"]:
    """True where a token may look: itself and what stands before it in its segment. Padding (0) sees only itself."""
    same = segments[:, :, None] == segments[:, None, :]
    causal = torch.ones(segments.shape[1], segments.shape[1], dtype=torch.bool, device=segments.device).tril()
    real = (segments > 0)[:, :, None]
    itself = torch.eye(segments.shape[1], dtype=torch.bool, device=segments.device)
    return ((same & causal & real) | itself)[:, None]


def in_one_row(rows: PackedRows) -> PackedRows:
    """The same sequences in a single row without padding, numbered on from 1."""
    first = torch.arange(len(rows.segments), device=rows.segments.device)[:, None] * rows.segments.max()
    numbered = torch.where(rows.segments > 0, rows.segments + first, 0)
    return without_padding(replace(rows, segments=numbered), numbered > 0)


def without_padding(rows: Rows, real: Bool[Tensor, "R T"]) -> Rows:
    """Only the `real` tokens, row after row in one; targets and images stay as they are."""
    places = real.flatten().nonzero().flatten()
    return replace(
        rows,
        input_ids=rows.input_ids.flatten()[None, places],
        segments=rows.segments.flatten()[None, places],
        positions=rows.positions.flatten(1)[:, None, places],
        target_index=(real.flatten().cumsum(0) - 1)[rows.target_index],
    )
