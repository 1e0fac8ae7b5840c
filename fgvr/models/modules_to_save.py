"""An adapter's folder as peft has it, with the modules that were trained in full beside the adapters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from peft.utils import SAFETENSORS_WEIGHTS_NAME
from safetensors.torch import load_file, save_file
from torch import nn

from fgvr.errors import UserError
from fgvr.models.weight_names import ADAPTERS, BASE_MODEL


def save_adapter(policy: Any, folder: Path) -> None:
    """Writes a policy's adapters, and what it trained in full as peft's `modules_to_save`: each module whole.

    Raises UserError where peft could not put one in its place again.
    """
    base, config = policy.base, policy.model.peft_config["default"]
    modules = dict(modules_in_full(base))
    owners = Counter(id(weight) for module in modules.values() for weight in module.parameters())
    if shared := [name for name, module in modules.items() if any(owners[id(x)] > 1 for x in module.parameters())]:
        raise UserError(
            f"an adapter kept apart must have its weights to itself, but {' and '.join(shared)}, which policy.lora.full"
            " had trained, are one weight, and peft would make two of it: export with --adapter merge"
        )
    config.modules_to_save = list(modules) or None
    policy.model.save_pretrained(str(folder))
    if not modules:
        return
    file = folder / SAFETENSORS_WEIGHTS_NAME
    weights = load_file(file)
    for name, module in modules.items():
        weights |= {f"{BASE_MODEL}{name}.{key}": value.clone() for key, value in module.state_dict().items()}
    save_file(weights, file, metadata={"format": "pt"})


def modules_in_full(base: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The largest modules of which every weight is trained in full, and for the rest those that own such a weight.

    Raises UserError for a layer that has an adapter besides, of which peft could not put both back.
    """
    taken: tuple[str, ...] = ()
    for name, module in base.named_modules():
        if not name or name.startswith(taken) or ADAPTERS in f".{name}":
            continue
        weights = list(module.parameters())
        whole = bool(weights) and all(x.requires_grad for x in weights) and not isinstance(module, nn.ModuleList)
        if whole or any(x is not None and x.requires_grad for x in module._parameters.values()):
            if name.endswith(".base_layer"):
                raise UserError(
                    f"an adapter kept apart must have its layers to itself, but of {name.removesuffix('.base_layer')} "
                    "other weights were trained as well (policy.lora.full): export with --adapter merge"
                )
            taken += (f"{name}.",)
            yield name, module
