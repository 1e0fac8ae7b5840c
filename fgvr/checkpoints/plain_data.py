"""What a checkpoint may hold: tensors, numbers, text, and lists, tuples and dicts of these."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import PurePath
from typing import Any, TypeVar

import torch
from omegaconf import Container, OmegaConf

from fgvr.errors import UserError

PLAIN = (str, bytes, int, float, complex, bool, type(None), torch.dtype, torch.device, torch.Size)

T = TypeVar("T")

SETTINGS = ("hyper_parameters", "datamodule_hyper_parameters")


def plain(value: Any, where: str = "checkpoint", settings: bool = False) -> Any:
    """`value` with paths as text, enums and numpy scalars as their values, mappings as dicts; tensors are not copied.

    Dataclasses become dicts in `settings` (lightning's hyper-parameters): nobody restores an object from these.
    Raises UserError naming the place of anything that could not be loaded again without running its own code.
    """
    if isinstance(value, torch.Tensor) and value.is_meta:
        raise UserError(f"A checkpoint holds tensors with their values, but {where} is on the meta device.")
    if type(value) in PLAIN or isinstance(value, torch.Tensor):
        return value
    if isinstance(value, Container):
        return plain(OmegaConf.to_container(value, resolve=True), where)
    if settings and is_dataclass(type(value)):
        return {entry.name: plain(getattr(value, entry.name), f"{where}.{entry.name}", True) for entry in fields(value)}
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, Enum):
        return plain(value.value, where, settings)
    if isinstance(value, Mapping):
        items = [
            (plain(key, f"a key of {where}"), plain(entry, f"{where}[{key!r}]", settings or key in SETTINGS))
            for key, entry in value.items()
        ]
        return _like(value, items)
    kind: Any = type(value)
    if kind in (list, tuple, set):
        return kind(plain(entry, f"{where}[{index}]", settings) for index, entry in enumerate(value))
    for base in (bool, int, float, str):  # subclasses, numpy's float64 and str_ among them
        if isinstance(value, base):
            return base(value)
    if kind.__module__ == "numpy" and getattr(value, "shape", None) == ():
        return plain(value.item(), where)
    raise UserError(
        f"A checkpoint holds tensors, numbers, text, lists and dicts only, but {where} is a "
        f"{kind.__module__}.{kind.__qualname__}: return plain data from the state_dict it comes from."
    )


def with_each(kind: type[T], value: Any, change: Callable[[T, str], Any], place: str = "") -> Any:
    """Plain data with all of that kind in it replaced by what `change` makes of it and of its place ("a/0/b")."""
    if isinstance(value, kind):
        return change(value, place)
    inner = f"{place}/" if place else ""
    if isinstance(value, Mapping):
        return _like(value, [(key, with_each(kind, entry, change, f"{inner}{key}")) for key, entry in value.items()])
    if type(value) in (list, tuple):
        return type(value)(with_each(kind, entry, change, f"{inner}{index}") for index, entry in enumerate(value))
    return value


def _like(value: Mapping[Any, Any], items: list[tuple[Any, Any]]) -> dict[Any, Any]:
    if type(value) is not OrderedDict:
        return dict(items)
    ordered = OrderedDict(items)
    if hasattr(value, "_metadata"):  # torch keeps the version of each module there
        ordered._metadata = value._metadata  # pyright: ignore[reportAttributeAccessIssue]
    return ordered
