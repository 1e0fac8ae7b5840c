"""The policy that a run began with, where more than its adapters is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import prompt, tiny_policy
from spread import meet, policy_of, work_together

from fgvr.kernels.group_packing import pack_groups
from fgvr.models import LoRA, Policy
from fgvr.models.sharding import is_gathered, unsharded, whole

PROJECTOR = LoRA(rank=2, alpha=4.0, full=("projector",))


def logprobs(policy: Policy) -> torch.Tensor:
    """Of a reply to a photo, so that what the projector makes of it counts."""
    group = pack_groups([prompt(policy)], [[torch.tensor(policy.processor.encode_target("An owl."))]], [None], 0)
    with torch.no_grad():
        return policy.completion_logprobs(group)[0]


@torch.no_grad()
def learned(policy: Policy) -> Policy:
    for number, (_, weight) in enumerate(policy.trainable()):
        weight += 0.05 + 0.01 * (number % 3)
    return policy


@pytest.mark.parametrize("lora", [LoRA(2, 4.0, full=("projector", "vision", "lm_head")), LoRA(2, 4.0)])
def test_at_its_start_a_policy_is_what_it_was_to_the_last_bit_and_then_what_it_is(lora: LoRA):
    policy = tiny_policy(lora=lora)
    began = logprobs(policy)
    assert torch.equal(began, logprobs(tiny_policy()))
    policy.keep_start()
    learned(policy)
    now = {name: weight.clone() for name, weight in policy.named_parameters()}
    moved = logprobs(policy)
    assert (moved - began).abs().max() > 0.01
    for _ in range(2):
        with policy.at_start():
            assert torch.equal(logprobs(policy), began)
        assert all(torch.equal(weight, now[name]) for name, weight in policy.named_parameters())
        assert torch.equal(logprobs(policy), moved)


def test_without_adapters_alone_what_is_trained_in_full_would_stay_as_learned():
    policy = learned(tiny_policy(lora=PROJECTOR))
    with policy.adapters_off():
        assert (logprobs(policy) - logprobs(tiny_policy())).abs().max() > 0.01


def test_what_was_learned_comes_back_after_an_error_too():
    policy = tiny_policy(lora=PROJECTOR)
    policy.keep_start()
    now = {name: weight.clone() for name, weight in learned(policy).named_parameters()}
    with pytest.raises(KeyError), policy.at_start():
        raise KeyError
    assert all(torch.equal(weight, now[name]) for name, weight in policy.named_parameters())


def test_no_copy_in_half_precision_outlives_the_change():
    policy = tiny_policy(lora=PROJECTOR)
    with torch.autocast("cpu", torch.bfloat16):
        began = logprobs(policy)
    policy.keep_start()
    learned(policy)
    with torch.autocast("cpu", torch.bfloat16):  # whose copies of weights last for as long as it does
        moved = logprobs(policy)
        with policy.at_start():
            assert torch.equal(logprobs(policy), began)
        assert torch.equal(logprobs(policy), moved)
    assert not torch.equal(began, moved)


def test_a_start_that_was_not_kept_is_not_made_up():
    with (
        pytest.raises(ValueError, match="the start must be kept before anything is learned"),
        tiny_policy(lora=PROJECTOR).at_start(),
    ):
        pass


def in_parts(rank: int, world: int) -> dict[str, Any]:
    meet(rank, world)
    policy, alone = policy_of(world=world, lora=PROJECTOR), policy_of(lora=PROJECTOR)
    policy.keep_start()
    for one in (policy, alone):
        for name, weight in one.trainable():
            if ".lora_" not in name:
                weight.data.add_(0.25)
    moved = logprobs(policy)  # after which the root is still there
    with policy.at_start():
        gathered, began = is_gathered(policy), logprobs(policy)
    after = logprobs(policy)
    with unsharded(policy):
        try:
            with policy.at_start():
                refused = ""
        except ValueError as error:
            refused = str(error)
    whole_again = {name: whole(weight).clone() for name, weight in policy.trainable()}
    return {
        "gathered": gathered,
        "began": bool((began - logprobs(policy_of())).abs().max() < 1e-6),
        "moved": bool((moved - logprobs(alone)).abs().max() < 1e-6 and (moved - began).abs().max() > 0.01),
        "after": bool(torch.equal(after, moved)),
        "refused": refused,
        "same": all(torch.equal(whole_again[name], weight) for name, weight in alone.trainable()),
    }


@pytest.mark.slow
def test_a_policy_in_parts_goes_back_to_its_start_too(tmp_path: Path):
    for found in work_together(in_parts, 2, tmp_path):
        assert "before the weights are gathered" in found.pop("refused")
        assert all(found.values()), found
