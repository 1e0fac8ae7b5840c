from collections import Counter
from functools import partial
from itertools import accumulate

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fgvr.kernels import packing
from fgvr.kernels.packing import (
    balanced_rows,
    block_causal_mask,
    in_one_row,
    packed_so_far,
    packed_tokens,
    padded_so_far,
    padded_tokens,
    token_budget_batches,
    token_budget_batches_reference,
)
from fgvr.types import PackedRows

lengths_strategy = st.lists(st.integers(1, 40), min_size=1, max_size=40)


@given(lengths=lengths_strategy, row_tokens=st.integers(1, 200))
def test_rows_hold_every_sequence_once(lengths, row_tokens):
    rows = balanced_rows(lengths, row_tokens)
    assert sorted(index for row in rows for index in row) == list(range(len(lengths)))
    assert all(rows)


COUNTED = {
    "padded": (padded_so_far, padded_tokens),
    "without padding": (accumulate, sum),
    **{f"rows of {n}": (partial(packed_so_far, row_tokens=n), partial(packed_tokens, row_tokens=n)) for n in (7, 64)},
}


@pytest.mark.parametrize("how", COUNTED)
@given(lengths=lengths_strategy, budget=st.integers(1, 120))
def test_no_more_than_the_budget_is_computed_of_a_micro_batch(how, lengths, budget):
    so_far, computed = COUNTED[how]
    batches = token_budget_batches(lengths, budget, so_far)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        assert batch == sorted(batch)
        assert computed([lengths[i] for i in batch]) <= budget or len(batch) == 1


@pytest.mark.parametrize("how", COUNTED)
@given(
    lengths=st.lists(st.one_of(st.integers(1, 40), st.integers(1, 9), st.integers(1, 500)), max_size=60),
    budget=st.integers(1, 3000),
)
def test_counting_on_cuts_where_counting_anew_does(how, lengths, budget):
    so_far, computed = COUNTED[how]
    assert token_budget_batches(lengths, budget, so_far) == token_budget_batches_reference(lengths, budget, computed)
    falling = sorted(lengths, reverse=True)
    assert list(so_far(falling)) == [computed(falling[:n]) for n in range(1, len(falling) + 1)]


def test_a_large_batch_is_cut_without_spreading_all_of_it_for_every_sequence(monkeypatch: pytest.MonkeyPatch):
    calls: Counter[str] = Counter()
    replace_smallest = packing.heapq.heapreplace

    def counted(heap: list[int], item: int) -> int:
        calls["heapreplace"] += 1
        return replace_smallest(heap, item)

    monkeypatch.setattr(packing.heapq, "heapreplace", counted)
    (batch,) = token_budget_batches([60] * 256, 16_384, partial(packed_so_far, row_tokens=512))
    # 31 rows at the end: 32 numbers of rows are filled once, with 128 sequences on average, and each sequence goes
    # into three; counted anew every time it would be 3 x 256 x 128 = 98,304
    assert len(batch) == 256
    assert calls["heapreplace"] < 32 * 128 + 3 * 256


def test_one_rambling_group_does_not_widen_the_others():
    # 8 groups of 1,072 tokens and one of 8,832: side by side they would be 9 x 8,832 = 79,488 tokens
    lengths = [1072] * 4 + [8832] + [1072] * 4
    # alone 8,832; 15 rows of 1,072 fit into 16,384
    assert token_budget_batches(lengths, 16_384, padded_so_far) == [[4], [0, 1, 2, 3, 5, 6, 7, 8]]
    # without padding 8,832 + 7 x 1,072 = 16,336 fit
    assert token_budget_batches(lengths, 16_384, accumulate) == [[0, 1, 2, 3, 4, 5, 6, 7], [8]]


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


@pytest.mark.parametrize("call", [lambda: balanced_rows([1], 0), lambda: token_budget_batches([1], 0, accumulate)])
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
