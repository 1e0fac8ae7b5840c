from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fgvr.kernels.packing import (
    balanced_rows,
    block_causal_mask,
    in_one_row,
    packed_tokens,
    padded_tokens,
    token_budget_batches,
)
from fgvr.types import PackedRows

lengths_strategy = st.lists(st.integers(1, 40), min_size=1, max_size=40)


@given(lengths=lengths_strategy, row_tokens=st.integers(1, 200))
def test_rows_hold_every_sequence_once(lengths, row_tokens):
    rows = balanced_rows(lengths, row_tokens)
    assert sorted(index for row in rows for index in row) == list(range(len(lengths)))
    assert all(rows)


ROWS_OF_64 = partial(packed_tokens, row_tokens=64)


@pytest.mark.parametrize("computed", [padded_tokens, sum, ROWS_OF_64])
@given(lengths=lengths_strategy, budget=st.integers(1, 120))
def test_no_more_than_the_budget_is_computed_of_a_micro_batch(computed, lengths, budget):
    batches = token_budget_batches(lengths, budget, computed)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        assert batch == sorted(batch)
        assert computed([lengths[i] for i in batch]) <= budget or len(batch) == 1


def test_one_rambling_group_does_not_widen_the_others():
    # 8 groups of 1,072 tokens and one of 8,832: side by side they would be 9 x 8,832 = 79,488 tokens
    lengths = [1072] * 4 + [8832] + [1072] * 4
    # alone 8,832; 15 rows of 1,072 fit into 16,384
    assert token_budget_batches(lengths, 16_384, padded_tokens) == [[4], [0, 1, 2, 3, 5, 6, 7, 8]]
    # without padding 8,832 + 7 x 1,072 = 16,336 fit
    assert token_budget_batches(lengths, 16_384, sum) == [[0, 1, 2, 3, 4, 5, 6, 7], [8]]


def test_what_is_computed_by_hand():
    assert padded_tokens([5, 3, 9]) == 27
    assert padded_tokens([]) == 0
    # in rows of 9: 9 | 5 + 3, both 9 wide
    assert packed_tokens([5, 3, 9], 9) == 18


def test_rows_by_hand():
    # 17 tokens in rows of 9 make two rows; longest first, each to the emptier: 9 | 5 + 3
    assert balanced_rows([5, 3, 9], 9) == [[2], [0, 1]]


def test_similar_lengths_leave_under_three_percent_padding():
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        lengths = torch.randint(48, 58, (32,), generator=generator).tolist()
        rows = balanced_rows(lengths, 512)
        area = len(rows) * max(sum(lengths[i] for i in row) for row in rows)
        assert 1 - sum(lengths) / area < 0.03


def test_mask_by_hand():
    mask = block_causal_mask(torch.tensor([[1, 1, 2, 0]]))[0, 0].int()
    # token 1 sees 0 and itself; token 2 begins a new segment; padding sees only itself
    assert mask.tolist() == [[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]


@pytest.mark.parametrize("call", [lambda: balanced_rows([1], 0), lambda: token_budget_batches([1], 0, sum)])
def test_budgets_below_one_are_refused(call):
    with pytest.raises(ValueError, match="at least 1"):
        call()


def test_rows_become_one_without_padding():
    segments = torch.tensor([[1, 1, 2, 0], [1, 1, 1, 1]])
    ids = torch.tensor([[10, 11, 20, 0], [30, 31, 32, 33]])
    positions = torch.arange(4 * 8).view(4, 2, 4)
    target = torch.tensor([0, 5, 6])  # flat: the first row's first token, the second row's second and third
    rows = in_one_row(PackedRows(ids, segments, positions, target, torch.tensor([11, 32, 33]), target, None))
    assert rows.input_ids.tolist() == [[10, 11, 20, 30, 31, 32, 33]]
    assert rows.segments.tolist() == [[1, 1, 2, 3, 3, 3, 3]]
    assert rows.positions[1].tolist() == [[8, 9, 10, 12, 13, 14, 15]]
    assert rows.target_index.tolist() == [0, 4, 5]
    assert (rows.input_ids.flatten()[rows.target_index + 1] == rows.target_ids).all()


def test_neighbours_of_the_same_number_in_two_rows_stay_two():
    segments = torch.tensor([[1, 1], [1, 0]])
    nothing = torch.zeros(0, dtype=torch.long)
    rows = PackedRows(segments, segments, torch.zeros(4, 2, 2, dtype=torch.long), nothing, nothing, nothing, None)
    assert in_one_row(rows).segments.tolist() == [[1, 1, 2]]
