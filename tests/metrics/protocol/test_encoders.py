from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fgvr.metrics.protocol.encoders import fitted, objective, probe


def test_the_nearest_mean_by_hand() -> None:
    # normalised, finches are (1, 0) and (0, 1): their mean points to (1, 1)/sqrt 2; the wren's is (-1, 0)
    heads = fitted(torch.tensor([[2.0, 0.0], [0.0, 5.0], [-3.0, 0.0]]), ["finch", "finch", "wren"])
    scores = heads.scores(torch.tensor([[4.0, 0.0]]))["nearest mean"][0]
    assert scores.tolist() == pytest.approx([2**-0.5, -1.0])
    assert heads.chosen(scores, ["wren", "finch"]) == 1
    assert heads.shots == {"finch": 2, "wren": 1}
    # a class that had no photo is never chosen, and where no option had one there is no choice
    assert heads.chosen(scores, ["owl", "wren"]) == 1
    assert heads.chosen(scores, ["owl", "emu"]) is None
    assert heads.chosen(torch.zeros(2).double(), ["wren", "finch"]) == 0  # the first of equal ones


def test_the_probe_by_hand() -> None:
    # one feature, -1 for the first class and 1 for the second. With W = (-w, w), b = 0 the loss is
    # log(1 + e^(-2w)) + decay w^2; its slope -2 / (1 + e^(2w)) + 2 decay w is 0 at w = 1 for decay = 1 / (1 + e^2).
    decay = 1 / (1 + torch.e**2)
    weight, bias = probe(torch.tensor([[-1.0], [1.0]]).double(), torch.tensor([0, 1]), 2, decay)
    assert weight.flatten().tolist() == pytest.approx([-1, 1], abs=1e-5)
    assert bias.tolist() == pytest.approx([0, 0], abs=1e-6)


def test_the_objective_has_the_gradient_of_its_differences() -> None:
    torch.manual_seed(0)
    x, targets = torch.randn(5, 3).double(), torch.tensor([0, 1, 2, 1, 0])
    weight, bias = torch.randn(3, 3).double().requires_grad_(), torch.randn(3).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda w, b: objective(x, targets, w, b, 0.1), (weight, bias))


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000), st.permutations(range(12)))
def test_the_order_of_photos_and_the_scale_of_features_do_not_matter(seed: int, order: list[int]) -> None:
    x = torch.randn(12, 4, generator=torch.Generator().manual_seed(seed))
    labels = ["a", "b", "c"] * 4
    own = fitted(x, labels, 0.1).scores(x)
    other = fitted(10 * x[order], [labels[n] for n in order], 0.1).scores(10 * x)
    for name, scores in own.items():
        torch.testing.assert_close(other[name], scores, atol=1e-3, rtol=1e-3)


def test_photos_and_labels_must_go_together() -> None:
    with pytest.raises(ValueError, match="a label for each"):
        fitted(torch.zeros(2, 3), ["a"])
    with pytest.raises(ValueError, match="a label for each"):
        fitted(torch.zeros(0, 3), [])
    heads = fitted(torch.ones(3, 2), ["a", "b", "b"])  # features that say nothing: no division by their spread
    assert all(scores.isfinite().all() for scores in heads.scores(torch.ones(1, 2)).values())
