from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fgvr.objectives import loss_weights


def test_token_weights_by_hand():
    # 5 targets in the whole batch, 2 ranks averaged afterwards: each counts 2 / 5 = 0.4
    weights = loss_weights(torch.tensor([0, 0, 1]), "token", tokens=5, sequences=3, world=2)
    torch.testing.assert_close(weights, torch.tensor([0.4, 0.4, 0.4]))


def test_sequence_weights_by_hand():
    # 4 sequences: the first has 2 tokens, 1 / (4 * 2) = 0.125; the second has 1, 1 / (4 * 1) = 0.25
    weights = loss_weights(torch.tensor([7, 7, 9]), "sequence", tokens=3, sequences=4)
    torch.testing.assert_close(weights, torch.tensor([0.125, 0.125, 0.25]))


def test_constant_weights_by_hand():
    # 2 sequences, divided by 10 tokens each whatever their length: 1 / (2 * 10) = 0.05
    weights = loss_weights(torch.tensor([0, 1]), "constant", tokens=2, sequences=2, length=10)
    torch.testing.assert_close(weights, torch.tensor([0.05, 0.05]))


def test_gradient_of_weighted_sum_is_the_weight():
    sequence = torch.tensor([0, 0, 1])
    x = torch.randn(3, requires_grad=True)
    weights = loss_weights(sequence, "sequence", tokens=3, sequences=2)
    (weights * x).sum().backward()
    torch.testing.assert_close(x.grad, torch.tensor([0.25, 0.25, 0.5]))


@given(
    lengths=st.lists(st.integers(1, 6), min_size=1, max_size=8),
    how=st.sampled_from(["token", "sequence", "constant"]),
    cuts=st.lists(st.integers(0, 8), max_size=3),
    world=st.integers(1, 3),
    seed=st.integers(0, 99),
)
def test_any_split_into_micro_batches_and_ranks_gives_the_same_sum(lengths, how, cuts, world, seed):
    sequence = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    x = torch.randn(len(sequence), dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    counts = {"tokens": len(sequence), "sequences": len(lengths), "length": 5}
    whole = (loss_weights(sequence, how, **counts) * x).sum()
    edges = sorted({0, len(lengths), *(min(cut, len(lengths)) for cut in cuts)})
    split = torch.zeros((), dtype=torch.float64)
    for first, last in pairwise(edges):
        inside = (sequence >= first) & (sequence < last)
        split += (
            loss_weights(sequence[inside], how, world=world, **counts) * x[inside]
        ).sum() / world  # the ranks' average
    torch.testing.assert_close(split, whole, rtol=1e-6, atol=1e-9)


def test_an_empty_micro_batch_has_no_weights():
    assert loss_weights(torch.zeros(0, dtype=torch.long), "token", tokens=0, sequences=0).shape == (0,)


@pytest.mark.parametrize(
    ("how", "counts", "message"),
    [
        ("token", {"tokens": 0, "sequences": 1}, "at least one target"),
        ("constant", {"tokens": 1, "sequences": 1}, "needs length"),
    ],
)
def test_bad_arguments_are_refused(how, counts, message):
    with pytest.raises(ValueError, match=message):
        loss_weights(torch.tensor([0]), how, **counts)
