from __future__ import annotations

from typing import Any

import pytest
import torch
from conftest import tiny_policy

from fgvr.models import LoRA, Policy
from fgvr.models.blank import blank_prompt
from fgvr.modules.idle import idle_groups, idle_rows

POLICIES: dict[str, dict[str, Any]] = {
    "full": {},
    "Qwen3-VL": {"family": "qwen3_vl"},
    "LoRA": {"lora": LoRA(rank=2)},
    "DoRA everywhere": {"lora": LoRA(rank=2, targets="all-linear", exclude_vision=False, dora=True)},
    "Qwen3-VL, frozen tower": {"family": "qwen3_vl", "freeze": ("vision", "projector")},
}


def gradients(policy: Policy, loss: torch.Tensor) -> list[torch.Tensor | None]:
    loss.backward()
    return [weight.grad for _, weight in policy.trainable()]


@pytest.mark.parametrize("name", POLICIES)
def test_every_trained_weight_takes_part_and_learns_nothing(name: str):
    policy = tiny_policy(**POLICIES[name])
    for loss in (
        lambda: policy(idle_rows(policy)).sum() * 0,
        lambda: policy.completion_logprobs(idle_groups(policy, carry=policy.fixed_features))[0].sum() * 0,
    ):
        policy.zero_grad()
        found = gradients(policy, loss())
        assert found
        assert all(gradient is not None and not gradient.any() for gradient in found)


@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen3_vl"])
def test_what_is_carried_has_the_shape_of_what_the_tower_makes(family: str):
    policy = tiny_policy(family, freeze=("vision", "projector"))
    carried = idle_groups(policy, carry=True)
    made = policy.image_features(blank_prompt(policy.processor).images)
    assert carried.images is None
    assert carried.features is not None
    assert carried.features.tokens.shape == made.tokens.shape
    assert (carried.features.deepstack is None) == (made.deepstack is None)
    if made.deepstack is not None and carried.features.deepstack is not None:
        assert carried.features.deepstack.shape == made.deepstack.shape
    looked_at = idle_groups(policy, carry=False)
    assert looked_at.features is None
    assert looked_at.images is not None


def test_rows_without_an_image_reach_the_tower_too():
    policy = tiny_policy()
    rows = idle_rows(policy)
    blind = type(rows)(**{**vars(rows), "images": None, "input_ids": rows.input_ids * 0 + policy.processor.end_of_turn})
    found = gradients(policy, policy(blind).sum())
    assert all(gradient is not None for gradient in found)
    with torch.no_grad():
        assert bool(policy(blind).isfinite().all())
