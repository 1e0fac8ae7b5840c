"""A policy in parts: what is gathered when, and that nothing of what it says changes."""

from __future__ import annotations

import ast
import inspect
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import prompt, prompt_batch, sequenced, tiny_policy
from spread import Counted, meet, policy_of, work_together
from torch.distributed.fsdp import FSDPModule

from fgvr.data.collate import pack
from fgvr.kernels.group_packing import pack_groups
from fgvr.models import LoRA, Policy
from fgvr.models.sampling import Sampling
from fgvr.models.sharding import is_sharded, place_buffers, units_of, unsharded, whole
from fgvr.rollouts import InProcess

SHAPES = ((1, 84), (2, 112), (1, 140))


def written(policy: Policy, tokens: int, times: int) -> list[list[int]]:
    """Greedy answers and samples of so many tokens, asked for as often."""
    batch, sampling = prompt_batch(policy, SHAPES), Sampling(group_size=3, max_new_tokens=tokens)
    found: list[list[int]] = []
    for _ in range(times):
        found = policy.generate(batch, tokens)
        groups = InProcess().sample(policy, batch, sampling, range(len(SHAPES)))
        found += [one.ids.tolist() for group in groups for one in group.completions]
    return found


def roll_out(rank: int, world: int) -> dict[str, Any]:
    """Writes with weights that are gathered once, on each process as often as its number says."""
    meet(rank, world)
    found: dict[str, Any] = {}
    for family in ("qwen2_5_vl", "qwen3_vl"):
        policy, alone = policy_of(family, world), policy_of(family)
        for tokens in (1, 20):
            with Counted() as counted, torch.inference_mode(), unsharded(policy):
                said = written(policy, tokens, times=1 + rank)
            found[f"{family}/{tokens}"] = counted.gathers_and_reduces
            found[f"{family}/{tokens}/same"] = said == written(alone, tokens, 1)
        found[f"{family}/units"] = sum(map(len, units_of(policy)))
        found[f"{family}/parted"] = all(type(weight).__name__ == "DTensor" for weight in policy.parameters())
        found[f"{family}/after"] = steps_of(policy)
    return found


def steps_of(policy: Policy) -> tuple[int, int]:
    """The gathers and the reduces of one step."""
    rows = pack([sequenced(policy, "An owl.")], [[0]], policy.processor.padding_token)
    with Counted() as counted:
        policy(rows).sum().backward()
    return counted.gathers_and_reduces


@pytest.mark.slow
def test_a_rollout_of_any_length_gathers_each_unit_once_and_a_step_twice(tmp_path: Path):
    for found in work_together(roll_out, 2, tmp_path):
        for family in ("qwen2_5_vl", "qwen3_vl"):
            units = found[f"{family}/units"]
            # embeddings, last norm and head are the root's, which is gathered once, also in a step
            assert found[f"{family}/1"] == found[f"{family}/20"] == (units + 1, 0)
            assert found[f"{family}/1/same"]
            assert found[f"{family}/20/same"]
            assert found[f"{family}/parted"]
            assert found[f"{family}/after"] == (2 * units + 1, units + 1)


def variants(rank: int, world: int) -> dict[str, Any]:
    meet(rank, world)
    found: dict[str, Any] = {"frozen tower": steps_of(policy_of(world=world, freeze=("vision", "projector")))}
    found["LoRA"] = steps_of(policy_of(world=world, lora=LoRA(rank=3)))
    found["checkpointed"] = steps_of(policy_of(world=world, gradient_checkpointing=True))
    bare = policy_of(world=world)
    rows = pack([sequenced(bare, "An owl.")], [[0]], bare.processor.padding_token)
    with Counted() as counted:  # one process has rows without an image
        bare(rows if rank else type(rows)(**{**vars(rows), "images": None})).sum().backward()
    found["no image"] = counted.gathers_and_reduces
    low = policy_of(world=world, precision=torch.bfloat16, lora=LoRA(rank=3))
    found["dtypes"] = sorted({f"{p.dtype}/{p.requires_grad}" for unit in units_of(low)[-1] for p in unit.parameters()})
    reference = policy_of(lora=LoRA(rank=3))
    group = pack_groups([prompt(low)], [[torch.tensor(low.processor.encode_target("An owl."))]], [None], 0)
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        ours, theirs = (one.completion_logprobs(group)[0] for one in (low, reference))
        found["half apart"] = float((ours - theirs).abs().max())
        with unsharded(low):
            batch = prompt_batch(low, SHAPES)
            found["half same"] = low.generate(batch, 8) == reference.generate(batch, 8)
    found["adapters"] = {name: whole(weight).detach().clone() for name, weight in low.trainable()}
    return found


@pytest.mark.slow
def test_what_a_step_gathers_and_what_is_kept_in_which_precision(tmp_path: Path):
    one, other = work_together(variants, 2, tmp_path)
    layers, blocks, projectors = 2, 2, 1
    # no gradient reaches the tower: it is gathered once, and nothing of it is added up
    assert one["frozen tower"] == (1 + 2 * layers + blocks + projectors, 1 + layers)
    # the adapters of the language model are added up, its embeddings and head are not trained
    assert one["LoRA"] == (1 + 2 * layers + blocks + projectors, layers)
    units = layers + blocks + projectors
    assert one["checkpointed"] == (1 + 2 * units, 1 + units)
    assert one["no image"] == other["no image"] == (1 + 2 * units, 1 + units)
    # norms are kept as they are: autocast rounds them nowhere
    assert one["dtypes"] == ["torch.bfloat16/False", "torch.float32/False", "torch.float32/True"]
    assert one["half apart"] == 0
    assert one["half same"]
    assert all(torch.equal(one["adapters"][name], other["adapters"][name]) for name in one["adapters"])


def test_a_policy_of_one_process_is_whole_already():
    policy = policy_of()
    assert not is_sharded(policy)
    with unsharded(policy):
        pass
    weight = next(policy.parameters())
    assert whole(weight) is weight
    assert not any(isinstance(module, FSDPModule) for module in policy.modules())


def test_every_weight_is_in_a_unit_but_embeddings_norm_head_and_the_first_layer_of_the_tower():
    for family in ("qwen2_5_vl", "qwen3_vl"):
        policy = policy_of(family)
        inside = {id(p) for stack in units_of(policy) for unit in stack for p in unit.parameters()}
        left = {name.removeprefix("model.") for name, weight in policy.named_parameters() if id(weight) not in inside}
        allowed = ("lm_head.", "model.language_model.embed_tokens.", "model.language_model.norm.")
        assert all(name.startswith((*allowed, "model.visual.patch_embed.", "model.visual.pos_embed.")) for name in left)


def test_no_entry_comes_to_another():
    """A policy in parts gathers where an entry begins, lets go where it ends: an inner one would let go too early."""
    entries = {"forward", *Policy.ENTRIES}
    calls = {name: _named(method) for name, method in inspect.getmembers(Policy, inspect.isfunction)}
    for entry in entries:
        reached, ahead = set[str](), [entry]
        while ahead:
            inner = calls.get(ahead.pop(), set()) - reached
            reached |= inner
            ahead += inner
        assert not reached & entries, entry


def _named(method: Any) -> set[str]:
    tree = ast.parse(textwrap.dedent(inspect.getsource(method)))
    names = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)]
    return {node.attr for node in names if node.value.id == "self"}  # pyright: ignore[reportAttributeAccessIssue]


def test_buffers_are_placed_without_what_is_in_parts():
    policy = tiny_policy()
    before = {name: id(weight) for name, weight in policy.named_parameters()}
    place_buffers(policy, torch.device("meta"))
    assert {name: id(weight) for name, weight in policy.named_parameters()} == before
    assert all(weight.device.type == "cpu" for weight in policy.parameters())
    buffers = list(policy.buffers())
    assert len(buffers) > 2
    assert {buffer.device.type for buffer in buffers} == {"meta"}
