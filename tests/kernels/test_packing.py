import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fgvr.kernels.packing import balanced_rows, block_causal_mask, token_budget_batches

lengths_strategy = st.lists(st.integers(1, 40), min_size=1, max_size=40)


@given(lengths=lengths_strategy, row_tokens=st.integers(1, 200))
def test_rows_hold_every_sequence_once(lengths, row_tokens):
    rows = balanced_rows(lengths, row_tokens)
    assert sorted(index for row in rows for index in row) == list(range(len(lengths)))
    assert all(rows)


@given(lengths=lengths_strategy, budget=st.integers(1, 120))
def test_micro_batches_keep_order_and_budget(lengths, budget):
    batches = token_budget_batches(lengths, budget)
    assert [index for batch in batches for index in batch] == list(range(len(lengths)))
    assert all(sum(lengths[i] for i in batch) <= budget or len(batch) == 1 for batch in batches)


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


@pytest.mark.parametrize("call", [lambda: balanced_rows([1], 0), lambda: token_budget_batches([1], 0)])
def test_budgets_below_one_are_refused(call):
    with pytest.raises(ValueError, match="at least 1"):
        call()
