"""A policy's model without its weights: on the meta device, with what is frozen, and adapters, as it is trained."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, Literal

import torch
from torch import nn
from transformers import AutoModelForImageTextToText, PretrainedConfig, PreTrainedModel

from fgvr.models.adapters import LoRA, with_adapters
from fgvr.models.backbone import Attention

Part = Literal["vision", "projector", "language"]


def outline(config: PretrainedConfig, freeze: Sequence[Part] = (), lora: LoRA | None = None) -> Any:
    """The transformers model in float32 on the meta device, or peft's around it: nothing is read and nothing held."""
    return prepared(empty_model(config, "sdpa"), freeze, lora)


def empty_model(config: PretrainedConfig, attention: Attention) -> PreTrainedModel:
    """The transformers model in float32 on the meta device, whose weights are still to be loaded."""
    with torch.device("meta"):
        return AutoModelForImageTextToText.from_config(config, dtype=torch.float32, attn_implementation=attention)


def prepared(model: Any, freeze: Sequence[Part], lora: LoRA | None) -> Any:
    """The model with these parts frozen, and with adapters, which freeze all besides themselves."""
    for part in freeze:
        for module in parts_of(model)[part]:
            module.requires_grad_(False)
    if lora is None:
        return model
    with torch.device("meta") if model.lm_head.weight.is_meta else nullcontext():
        return with_adapters(model, lora)


def parts_of(model: Any) -> dict[str, list[nn.Module]]:
    """The modules that can be frozen by name: tower without projector, projector(s), language model with its head."""
    visual = model.model.visual
    projectors = [module for name, module in visual.named_children() if "merger" in name]
    tower = [module for name, module in visual.named_children() if "merger" not in name]
    return {"vision": tower, "projector": projectors, "language": [model.model.language_model, model.lm_head]}
