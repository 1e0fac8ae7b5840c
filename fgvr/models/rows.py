"""A policy's weights read from a disk, by each process its own rows alone, into a model that was built empty.

The names in safetensors files are the hub's or transformers' own, which differ from release to release; which weight
each of them is, transformers says itself.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightConverter, rename_source_key

from fgvr.checkpoints.sharded import own_rows
from fgvr.errors import UserError
from fgvr.models.adapters import draw_adapters
from fgvr.models.sharding import rows_kept

log = logging.getLogger(__name__)


class Rows(Protocol):
    """A weight that lies on a disk, of which some rows can be read alone."""

    @property
    def shape(self) -> Sequence[int]: ...

    def read(self, first: int = 0, last: int | None = None) -> Tensor:
        """The rows from `first` up to, but not including, `last`."""
        ...


class WeightSource(Protocol):
    """Where all weights of a model lie, so that each process can read its own rows; `place` is what a user calls it."""

    @property
    def place(self) -> str: ...

    def of(self, model: Any) -> Mapping[str, Rows]:
        """The model's weights by their names in it, and maybe others. Raises UserError where one cannot be had so."""
        ...


@dataclass(frozen=True)
class WeightFiles:
    """Safetensors files that together hold a model, as the hub has them."""

    files: Sequence[Path]
    place: str

    def of(self, model: Any) -> dict[str, Rows]:
        transforms = get_model_conversion_mapping(model)
        converters = [one for one in transforms if isinstance(one, WeightConverter)]
        renamings: list[Any] = [one for one in transforms if not isinstance(one, WeightConverter)]
        own = dict.fromkeys(model.state_dict())
        found: dict[str, Rows] = {}
        for file in self.files:
            with _opened(file) as content:
                for key in content.keys():  # noqa: SIM118 - no mapping
                    name, converted = rename_source_key(
                        key, renamings, converters, model.base_model_prefix, dict.fromkeys(own, True)
                    )
                    if converted is not None:
                        raise UserError(
                            f"the weight {key} of {self.place!r} stands for parts of several, of which a process "
                            "cannot read its rows: load it without trainer.strategy fsdp2 and export it"
                        )
                    found[name] = RowsInFile(file, key, content.get_slice(key).get_shape())
        return found


@dataclass(frozen=True)
class RowsInFile:
    """A weight in a safetensors file, which is open no longer than it is read: what was mapped of it is let go."""

    file: Path
    key: str
    shape: Sequence[int]

    def read(self, first: int = 0, last: int | None = None) -> Tensor:
        with _opened(self.file) as content:
            return content.get_slice(self.key)[first:last]


def load_rows(policy: Any, source: WeightSource, seed: int, device: torch.device) -> int:
    """Fills a policy that was built empty, whole or in parts, on `device`, and returns how many bytes were read for it.

    Each weight is read as far as this process keeps it and rounded to what it is kept in; adapters are drawn as `seed`
    and their names say. Nothing is sent between processes. Raises UserError when a weight is missing or of another
    shape.
    """
    _make_room(policy, device)
    base = policy.base
    for module in base.modules():
        if "RotaryEmbedding" in type(module).__name__:
            base._init_weights(module)
    found, wanted = source.of(base), _wanted(base)
    lacking = sorted(set(wanted) - set(found))
    if lacking:
        raise UserError(
            f"the checkpoint {source.place!r} must hold every weight of the model, but {len(lacking)} are missing or "
            f"of another shape, such as {lacking[:3]}: they would start from random values; get a whole copy"
        )
    read = sum(_copy(found[name], weight, name, source.place) for name, weight in wanted.items())
    if policy.config.lora is not None:
        _fill_adapters(policy.model, seed)
    log.info("This process has read %.1f GiB of the weights of %s: its own rows.", read / 2**30, source.place)
    return read


def _make_room(policy: nn.Module, device: torch.device) -> None:
    """Memory on `device` for all that lies on the meta device; what was one weight under two names stays one."""
    places = [(module, name, id(weight)) for module in policy.modules() for name, weight in module._parameters.items()]
    policy._apply(lambda x: torch.empty_like(x, device=device) if x.is_meta else x)
    made: dict[int, nn.Parameter | None] = {}
    for module, name, before in places:
        module._parameters[name] = made.setdefault(before, module._parameters[name])


def _wanted(base: nn.Module) -> dict[str, Tensor]:
    """The weights that come from the files, under the names of a model without adapters; a tied one once."""
    named = ((name, weight) for name, weight in base.named_parameters() if ".lora_" not in name)
    return {name.replace(".base_layer.", "."): weight for name, weight in named}


@torch.no_grad()
def _copy(source: Rows, weight: Tensor, name: str, place: str) -> int:
    """Copies this process's rows of one weight; returns the bytes that were read."""
    if list(source.shape) != list(weight.shape):
        raise UserError(
            f"the checkpoint {place!r} must hold weights of the model's shapes, but {name} is {list(source.shape)} "
            f"there and {list(weight.shape)} in the model: get a whole copy of the same model"
        )
    first, count = rows_kept(weight)
    if not count:
        return 0
    rows = source.read(first, first + count)
    own_rows(weight).copy_(rows)
    return rows.nbytes


@torch.no_grad()
def _fill_adapters(model: nn.Module, seed: int) -> None:
    """What adapters begin with: the first halves drawn, one whole one at a time, the second ones zeros."""
    for name, weight in model.named_parameters():
        if ".lora_B." in name:
            own_rows(weight).zero_()
    draw_adapters(model, seed)


def _opened(file: Path) -> Any:
    try:
        return safe_open(file, framework="pt")
    except (OSError, SafetensorError) as error:
        raise UserError(f"{file} must be a whole safetensors file, but it cannot be read: {error}") from error
