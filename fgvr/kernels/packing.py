"""Several sequences in one row: where each goes, and the mask that keeps them apart.

Shape legend: R rows, T row length in tokens.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Int
from torch import Tensor


def token_budget_batches(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Cuts sequences, in order, into micro-batches of at most `budget` tokens; returns their indices.

    A sequence longer than the budget is a micro-batch of its own. Raises ValueError when the budget is below 1.
    """
    if budget < 1:
        raise ValueError(f"the token budget must be at least 1, got {budget}")
    batches: list[list[int]] = []
    used = 0
    for index, length in enumerate(lengths):
        if not batches or used + length > budget:
            batches.append([])
            used = 0
        batches[-1].append(index)
        used += length
    return batches


def balanced_rows(lengths: Sequence[int], row_tokens: int) -> list[list[int]]:
    """Spreads sequences over as few rows of about `row_tokens` as hold them, so evenly that little padding is left.

    Longest first, each to the emptiest row; the rows are then as wide as the fullest. One or two rows fewer are taken
    when that wastes less. Returns the indices in each row, ascending; never an empty row. Raises ValueError when
    `row_tokens` is below 1.
    """
    if row_tokens < 1:
        raise ValueError(f"row_tokens must be at least 1, got {row_tokens}")
    if not lengths:
        return []
    most = min(len(lengths), max(1, math.ceil(sum(lengths) / max(row_tokens, max(lengths)))))
    fewest = max(1, most - 2) if most > 3 else most
    return min(
        (_spread(lengths, count) for count in range(most, fewest - 1, -1)), key=lambda rows: _area(lengths, rows)
    )


def _spread(lengths: Sequence[int], count: int) -> list[list[int]]:
    fill: list[tuple[int, int]] = [(0, row) for row in range(count)]
    rows: list[list[int]] = [[] for _ in range(count)]
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        used, row = heapq.heappop(fill)
        rows[row].append(index)
        heapq.heappush(fill, (used + lengths[index], row))
    return [sorted(row) for row in rows]


def _area(lengths: Sequence[int], rows: list[list[int]]) -> int:
    """Tokens of the padded rectangle."""
    return len(rows) * max(sum(lengths[i] for i in row) for row in rows)


def block_causal_mask(segments: Int[Tensor, "R T"]) -> Bool[Tensor, "R 1 T T"]:
    """True where a token may look: itself and what stands before it in its segment. Padding (0) sees only itself."""
    same = segments[:, :, None] == segments[:, None, :]
    causal = torch.ones(segments.shape[1], segments.shape[1], dtype=torch.bool, device=segments.device).tril()
    real = (segments > 0)[:, :, None]
    itself = torch.eye(segments.shape[1], dtype=torch.bool, device=segments.device)
    return ((same & causal & real) | itself)[:, None]
