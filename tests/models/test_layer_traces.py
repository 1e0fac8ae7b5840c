from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fgvr.models.layer_traces import most_of_forward, trace

ROWS, WIDE, NARROW = 8, 32, 16


def linear(trained: bool = True) -> nn.Module:
    return nn.Linear(WIDE, NARROW, bias=False, device="meta").requires_grad_(trained)


def given() -> torch.Tensor:
    return torch.empty(ROWS, WIDE, device="meta")


class TestAProduct:
    def test_keeps_its_output_in_float32_for_its_input_is_there_anyway(self):
        layer = linear()
        found = trace(layer, layer, [given()], None)
        assert (found.kept, found.cast) == (ROWS * NARROW * 4, 0)

    def test_keeps_input_and_output_in_half_precision_under_autocast(self):
        layer = linear()
        found = trace(layer, layer, [given()], torch.bfloat16)
        # the cached copy of the trained weight is counted elsewhere
        assert (found.kept, found.cast) == (ROWS * (NARROW + WIDE) * 2, 0)

    def test_keeps_a_copy_of_a_frozen_weight_and_not_of_its_input(self):
        layer = linear(trained=False)
        found = trace(layer, layer, [given()], torch.bfloat16)
        assert (found.kept, found.cast) == (ROWS * NARROW * 2, NARROW * WIDE * 2)

    def test_holds_most_while_gradients_are_made(self):
        layer = linear()
        found = trace(layer, layer, [given()], None)
        # output and its gradient, the weight's new gradient or the input's beside them, and the sums they are added to
        assert found.most >= ROWS * NARROW * 4 * 2 + ROWS * WIDE * 4
        assert most_of_forward(layer, [given()], None) == ROWS * NARROW * 4


def test_fused_attention_keeps_no_scores():
    shape = (1, 2, 64, 16)
    query = torch.empty(shape, device="meta")

    def attend(x: torch.Tensor) -> torch.Tensor:
        return F.scaled_dot_product_attention(x, x, x, is_causal=True)

    found = trace(nn.Identity(), attend, [query], None)
    assert found.kept == query.nbytes + 2 * 64 * 4  # the answer, and a sum for each query


@pytest.mark.parametrize(("repeats", "heads"), [(False, 0), (True, 4)])
def test_a_gpu_copies_key_heads_under_a_mask(repeats: bool, heads: int):
    query, key = torch.empty(1, 4, 8, 16, device="meta"), torch.empty(1, 2, 8, 16, device="meta")
    mask = torch.empty(1, 1, 8, 8, dtype=torch.bool, device="meta")

    def attend(q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        return F.scaled_dot_product_attention(q, k, k, mask, enable_gqa=True)

    found = trace(nn.Identity(), attend, [query, key], None, repeats_heads=repeats)
    assert found.kept == query.nbytes + 4 * 8 * 4 + mask.numel() * 4 + 2 * heads * 8 * 16 * 4


def test_what_is_freed_counts_no_more():
    def run(x: torch.Tensor) -> torch.Tensor:
        for _ in range(10):
            x = (x + 1).detach()
        return x

    assert most_of_forward(run, [given()], None) == 2 * given().nbytes  # of ten sums two at a time
