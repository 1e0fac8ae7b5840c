from __future__ import annotations

import pytest
import torch

from fgvr.models import LoRA, PixelBudget, Policy, PolicyConfig, TinyQwen
from fgvr.models.anatomy import Anatomy
from fgvr.models.sharding import units_of

FAMILIES = ("qwen2_5_vl", "qwen3_vl")


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    "lora",
    [None, LoRA(rank=4), LoRA(rank=4, exclude_vision=False), LoRA(rank=4, full=("projector", "lm_head"))],
    ids=["full", "lora", "all", "in full beside"],
)
def test_counts_are_those_of_the_policy_itself(family, lora):
    backbone = TinyQwen(["."], family=family, hidden=64, layers=2, vision_hidden=64, vision_layers=2)
    freeze = () if lora is not None else ("vision",)
    config = PolicyConfig(backbone, freeze=freeze, lora=lora)
    policy, model = Policy(config, backbone.processor(PixelBudget())), Anatomy(backbone.config(), config)
    assert model.weights == sum(x.numel() for x in policy.parameters())
    assert model.trained == sum(x.numel() for _, x in policy.trainable())
    units = [unit for stack in units_of(policy) for unit in stack]
    in_units = sum(x.numel() for unit in units for x in unit.parameters())
    assert model.root[0] == model.weights - in_units
    assert model.root[1] == model.trained - sum(
        x.numel() for unit in units for x in unit.parameters() if x.requires_grad
    )
    assert all(x.is_meta for x in model.base.parameters())


def test_layers_that_are_alike_are_one_kind():
    backbone = TinyQwen(["."], hidden=64, layers=5, vision_hidden=64)
    every = Anatomy(backbone.config(), PolicyConfig(backbone, lora=LoRA(rank=2)))
    some = LoRA(rank=2, targets=r"model\.language_model\.layers\.[34]\.self_attn\.q_proj")
    last = Anatomy(backbone.config(), PolicyConfig(backbone, lora=some))
    assert [times for _, times in every.layers] == [5]
    assert [times for _, times in last.layers] == [3, 2]
    assert not any(isinstance(x, torch.nn.Parameter) and not x.is_meta for x in last.base.parameters())
