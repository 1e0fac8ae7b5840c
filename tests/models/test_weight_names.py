"""What a name in a setting means of a model, and which weights are then frozen, adapted or trained in full."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import pytest
from conftest import tiny_policy
from hypothesis import given
from hypothesis import strategies as st

from fgvr.errors import UserError
from fgvr.models import LoRA, Policy
from fgvr.models.weight_names import PARTS, named_weights, refuse_unreadable, weights_meant

FAMILIES = ("qwen2_5_vl", "qwen3_vl")


policy_of = cache(tiny_policy)


@cache
def all_names() -> list[str]:
    return sorted(name for name, _ in named_weights(policy_of("qwen2_5_vl").base))


def meant(policy: Policy, name: str) -> set[str]:
    return set(weights_meant(policy.base, (name,), "policy.freeze")[name])


@pytest.mark.parametrize("family", FAMILIES)
def test_the_parts_are_the_whole_model_and_share_no_weight(family: str):
    policy = policy_of(family)
    parts = [meant(policy, part) for part in PARTS]
    assert set.union(*parts) == {name for name, _ in named_weights(policy.base)}
    assert sum(map(len, parts)) == len(set.union(*parts))


def test_a_pattern_fits_the_whole_name_of_a_weight_or_of_a_module():
    policy = policy_of("qwen2_5_vl")
    block = {name for name in all_names() if name.startswith("model.visual.blocks.1.")}
    assert block
    assert meant(policy, r"model\.visual\.blocks\.1") == meant(policy, r".*visual\.blocks\.[1-9]\..*") == block
    assert meant(policy, "lm_head") == meant(policy, r"lm_head\.weight") == {"lm_head.weight"}
    assert meant(policy, r".*\.bias") == {name for name in all_names() if name.endswith(".bias")}
    with pytest.raises(UserError, match="means none"):
        meant(policy, "visual")


@given(st.deferred(lambda: st.sampled_from(all_names())), st.integers(1, 9))
def test_a_module_means_all_that_lies_in_it_and_nothing_else(name: str, depth: int):
    module = ".".join(name.split(".")[:depth])
    lies_in = {other for other in all_names() if other == module or other.startswith(f"{module}.")}
    assert meant(policy_of("qwen2_5_vl"), re.escape(module)) == lies_in


def test_names_are_the_same_with_adapters_and_those_of_adapters_follow_their_layers():
    policy = tiny_policy(lora=LoRA(rank=2))
    names = {name for name, _ in named_weights(policy.base)}
    assert set(all_names()) < names
    layer = "model.language_model.layers.0.self_attn.q_proj"
    found = meant(policy, re.escape(layer))
    assert found == {f"{layer}.{end}" for end in ("weight", "bias", "lora_A.default.weight", "lora_B.default.weight")}


def test_a_weight_of_two_names_goes_by_both():
    policy = tiny_policy()
    policy.base.lm_head.weight = policy.base.get_input_embeddings().weight
    found = weights_meant(policy.base, ("lm_head", ".*embed_tokens"), "policy.freeze")
    assert [id(weight) for weights in found.values() for weight in weights.values()] == [
        id(policy.base.lm_head.weight)
    ] * 2


def trained(**options: Any) -> set[str]:
    policy = tiny_policy(**options)
    return {name for name, weight in named_weights(policy.base) if weight.requires_grad}


def test_patterns_freeze_beside_parts():
    frozen = set(all_names()) - trained(freeze=("projector", r"model\.language_model\.layers\.0", r".*norm.*"))
    assert {"model.visual.merger.mlp.0.weight", "model.language_model.layers.0.mlp.up_proj.weight"} <= frozen
    assert all("merger" in name or "layers.0." in name or "norm" in name for name in frozen)


@pytest.mark.parametrize("full", [("projector",), ("model.visual.merger",), (r".*\.merger\..*",)])
def test_what_is_named_is_trained_in_full_beside_the_adapters(full: tuple[str, ...]):
    found = trained(lora=LoRA(rank=2, full=full))
    whole = {name for name in found if ".lora_" not in name}
    assert whole == {name for name in all_names() if "merger" in name}
    assert found - whole == trained(lora=LoRA(rank=2))


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"freeze": ("vison",)}, r"policy\.freeze must name vision, .* but 'vison' means none: did you mean vision\?"),
    ({"freeze": ("vision", "vision")}, r"policy\.freeze must hold each name once, but 'vision' stands there twice"),
    ({"freeze": ("(",)}, r"policy\.freeze must hold vision, projector, language, or regular expressions, got '\('"),
    ({"freeze": ("lm_head", "model")}, "something must be left to train, .* take a name out"),
    ({"freeze": ("language",), "lora": LoRA(2)}, "either frozen or given an adapter, but 14 of those that 'language'"),
    ({"freeze": (r".*layers\.0",), "lora": LoRA(2)}, "7 of those .* such as model.language_model.layers.0.mlp.down"),
    ({"lora": LoRA(2, full=("language",))}, "trained in full or given an adapter, but 14 of those that 'language'"),
    ({"lora": LoRA(2, full=("nothing",))}, r"policy\.lora\.full must name .* 'nothing' means none"),
    ({"freeze": ("projector",), "lora": LoRA(2, full=("projector",))}, "frozen or trained in full, but 5 of those"),
]


@pytest.mark.parametrize(("options", "said"), REFUSED, ids=[said[-30:] for _, said in REFUSED])
def test_names_that_contradict_each_other_are_refused(options: dict[str, Any], said: str):
    with pytest.raises(UserError, match=said):
        tiny_policy(**options)


def test_a_name_that_cannot_be_read_is_refused_before_a_model_is_there():
    with pytest.raises(UserError, match=r"policy\.lora\.full must hold each name once"):
        LoRA(full=("projector", "projector"))
    refuse_unreadable(("projector", r"model\..*"), "policy.freeze")
