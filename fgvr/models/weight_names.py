"""Which of a model's weights a setting means: those of a part of it, or those whose names fit a pattern."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from typing import Any, Literal, get_args

from torch import nn

from fgvr.errors import UserError

Part = Literal["vision", "projector", "language"]
PARTS: tuple[str, ...] = get_args(Part)
BASE_MODEL = "base_model.model."  # what peft puts before the names of the model that it adapts
ADAPTERS = ".lora_"  # in the name of every weight that an adapter has


def parts_of(model: Any) -> dict[str, list[nn.Module]]:
    """The modules that go by one name: tower without projector, projector(s), language model with its head."""
    visual = model.model.visual
    projectors = [module for name, module in visual.named_children() if "merger" in name]
    tower = [module for name, module in visual.named_children() if "merger" not in name]
    return {"vision": tower, "projector": projectors, "language": [model.model.language_model, model.lm_head]}


def named_weights(model: Any) -> Iterator[tuple[str, nn.Parameter]]:
    """All weights under the names that they have without adapters, those of adapters after their layer's.

    `model` is the transformers model, with adapters in it or without. A weight of two names comes under both.
    """
    for name, weight in model.named_parameters(remove_duplicate=False):
        yield name.replace(".base_layer.", "."), weight


def refuse_unreadable(names: Sequence[str], setting: str) -> None:
    """Raises UserError for a name that stands twice, and for a pattern that cannot be read."""
    for name in names:
        if list(names).count(name) > 1:
            raise UserError(f"{setting} must hold each name once, but {name!r} stands there twice: take one out")
        try:
            re.compile(name)
        except re.error as error:
            raise UserError(
                f"{setting} must hold {', '.join(PARTS)}, or regular expressions, got {name!r}: {error}"
            ) from error


def weights_meant(model: Any, names: Sequence[str], setting: str) -> dict[str, dict[str, nn.Parameter]]:
    """The weights that each of the names means, by their own names: a part, or a pattern.

    A pattern is a regular expression that fits the whole name of a weight, or of a module, which then means all that
    lies in it. Raises UserError for one that means none.
    """
    refuse_unreadable(names, setting)
    weights = dict(named_weights(model))
    found: dict[str, dict[str, nn.Parameter]] = {}
    for name in names:
        found[name] = _of_part(model, weights, name) if name in PARTS else _fitting(weights, name)
        if not found[name]:
            raise UserError(_means_nothing(name, weights, setting))
    return found


def _of_part(model: Any, weights: dict[str, nn.Parameter], part: str) -> dict[str, nn.Parameter]:
    own = {id(weight) for module in parts_of(model)[part] for weight in module.parameters()}
    return {name: weight for name, weight in weights.items() if id(weight) in own}


def _fitting(weights: dict[str, nn.Parameter], pattern: str) -> dict[str, nn.Parameter]:
    fits = re.compile(pattern).fullmatch
    return {name: weight for name, weight in weights.items() if any(fits(way) for way in _ways_to(name))}


def _ways_to(name: str) -> Iterator[str]:
    """The name itself, and those of all modules that it lies in."""
    while name:
        yield name
        name = name.rpartition(".")[0]


def _means_nothing(name: str, weights: dict[str, nn.Parameter], setting: str) -> str:
    ways = dict.fromkeys(way for weight in weights for way in _ways_to(weight))
    near = difflib.get_close_matches(name, [*PARTS, *ways], n=1)
    hint = f"did you mean {near[0]}?" if near else "mend it, or take it out"
    return (
        f"{setting} must name {', '.join(PARTS)}, or weights or modules by regular expressions that fit their whole "
        f"names, such as model.visual.merger, but {name!r} means none: {hint}"
    )
