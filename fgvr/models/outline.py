"""A policy's model without its weights: on the meta device, with what is frozen, and adapters, as it is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForImageTextToText, PretrainedConfig, PreTrainedModel

from fgvr.errors import UserError
from fgvr.models.adapters import LoRA, adapted_layers, with_adapters
from fgvr.models.backbone import Attention
from fgvr.models.weight_names import weights_meant


def outline(config: PretrainedConfig, freeze: Sequence[str] = (), lora: LoRA | None = None) -> Any:
    """The transformers model in float32 on the meta device, or peft's around it: nothing is read and nothing held."""
    return prepared(empty_model(config, "sdpa"), freeze, lora)


def empty_model(config: PretrainedConfig, attention: Attention) -> PreTrainedModel:
    """The transformers model in float32 on the meta device, whose weights are still to be loaded."""
    with torch.device("meta"):
        return AutoModelForImageTextToText.from_config(config, dtype=torch.float32, attn_implementation=attention)


def prepared(model: Any, freeze: Sequence[str], lora: LoRA | None) -> Any:
    """The model with what `freeze` names frozen, and with adapters, which freeze all but themselves and `lora.full`.

    Raises UserError for a name that means no weight, where nothing is left to train, and where a layer would be two of
    frozen, adapted and trained in full.
    """
    frozen = weights_meant(model, freeze, "policy.freeze")
    _let_train(frozen, False)
    if lora is None:
        if not any(weight.requires_grad for weight in model.parameters()):
            raise UserError(
                f"something must be left to train, but policy.freeze names the whole model ({', '.join(freeze)}) and "
                "there is no LoRA: take a name out"
            )
        return model
    full = weights_meant(model, lora.full, "policy.lora.full")
    _refuse_two_ways(frozen, full, {f"{layer}.weight" for layer in adapted_layers(model, lora)})
    with torch.device("meta") if model.lm_head.weight.is_meta else nullcontext():
        adapted = with_adapters(model, lora)
    _let_train(full, True)
    return adapted


def _let_train(named: Mapping[str, Mapping[str, nn.Parameter]], trains: bool) -> None:
    for weights in named.values():
        for weight in weights.values():
            weight.requires_grad_(trains)


def _refuse_two_ways(
    frozen: Mapping[str, Mapping[str, nn.Parameter]], full: Mapping[str, Mapping[str, nn.Parameter]], adapted: set[str]
) -> None:
    """Raises UserError for a weight that two of policy.freeze, policy.lora.full and adapters claim."""
    for name, weights in frozen.items():
        if both := sorted(adapted & weights.keys()):
            raise UserError(
                f"a layer must be either frozen or given an adapter, but {len(both)} of those that {name!r} in "
                f"policy.freeze means are given one, such as {_layer(both[0])}: take {name!r} out there, as a layer "
                "with an adapter is frozen anyway, or set policy.lora.targets to others"
            )
    for name, weights in full.items():
        if both := sorted(adapted & weights.keys()):
            raise UserError(
                f"a layer must be either trained in full or given an adapter, but {len(both)} of those that {name!r} "
                f"in policy.lora.full means are given one, such as {_layer(both[0])}: take {name!r} out there, or set "
                "policy.lora.targets to others"
            )
        if both := sorted(own for own, weight in weights.items() if not weight.requires_grad):
            raise UserError(
                f"a weight must be either frozen or trained in full, but {len(both)} of those that {name!r} in "
                f"policy.lora.full means are frozen by policy.freeze, such as {both[0]}: take it out of one of the two"
            )


def _layer(weight: str) -> str:
    return weight.removesuffix(".weight")
