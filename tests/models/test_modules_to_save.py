"""Adapters kept apart with what was trained in full beside them, opened by peft on their base."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import tiny_backbone, tiny_policy
from peft import PeftModel
from trained_runs import noisy

from fgvr.errors import UserError
from fgvr.models import LoRA
from fgvr.models.modules_to_save import modules_in_full, save_adapter

TOWER = ("model.visual.patch_embed", "model.visual.blocks.0", "model.visual.blocks.1")
CASES: list[tuple[str, tuple[str, ...], set[str]]] = [
    ("qwen3_vl", ("projector",), {"model.visual.merger", "model.visual.deepstack_merger_list.0"}),
    ("qwen2_5_vl", ("vision",), set(TOWER)),
    ("qwen2_5_vl", ("lm_head", r".*merger\.mlp\.0\.bias"), {"lm_head", "model.visual.merger.mlp.0"}),
]


@pytest.mark.parametrize(("family", "full", "modules"), CASES)
def test_peft_opens_the_folder_as_the_policy_that_was_trained(
    tmp_path: Path, family: str, full: tuple[str, ...], modules: set[str]
):
    policy = noisy(tiny_policy(family, lora=LoRA(rank=2, alpha=4.0, full=full)))
    found = dict(modules_in_full(policy.base))
    assert found.keys() == modules
    save_adapter(policy, tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert set(config["modules_to_save"]) == found.keys()
    base: Any = tiny_backbone(family).build("sdpa")
    opened = PeftModel.from_pretrained(base, str(tmp_path)).merge_and_unload()  # pyright: ignore[reportCallIssue]
    merged = policy.model.merge_and_unload().state_dict()
    assert opened.state_dict().keys() == merged.keys()
    assert all(torch.equal(value, merged[name]) for name, value in opened.state_dict().items())


def test_without_any_the_folder_is_as_it_always_was(tmp_path: Path):
    save_adapter(tiny_policy(lora=LoRA(rank=2)), tmp_path)
    assert json.loads((tmp_path / "adapter_config.json").read_text())["modules_to_save"] is None


def test_a_weight_that_head_and_embeddings_share_is_not_kept_apart(tmp_path: Path):
    policy = tiny_policy(lora=LoRA(rank=2, full=("lm_head", ".*embed_tokens")))
    policy.base.lm_head.weight = policy.base.get_input_embeddings().weight
    with pytest.raises(UserError, match=r"embed_tokens and lm_head, which .* are one weight, .* --adapter merge"):
        save_adapter(policy, tmp_path)


def test_a_layer_that_was_trained_in_both_ways_is_not_kept_apart(tmp_path: Path):
    policy = tiny_policy(lora=LoRA(rank=2, full=(r".*q_proj\.bias",)))
    with pytest.raises(UserError, match=r"of model\.language_model\.layers\.0\.self_attn\.q_proj other weights"):
        save_adapter(policy, tmp_path)
