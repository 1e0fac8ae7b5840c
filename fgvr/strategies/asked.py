"""What a trainer's settings ask for: how many processes, on which devices, and how they share a model."""

from __future__ import annotations

import pydoc
from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch.strategies import StrategyRegistry

from fgvr.strategies.fsdp import NAME, FSDP2Strategy
from fgvr.strategies.mesh import shards_of


def on_gpu(trainer: Mapping[str, Any]) -> bool:
    """Whether a run would be on GPUs; `auto` takes those that this machine has."""
    accelerator = str(trainer.get("accelerator") or "auto")
    return accelerator in ("gpu", "cuda") or (accelerator == "auto" and torch.cuda.is_available())


def ranks_of(trainer: Mapping[str, Any]) -> int:
    """How many processes are asked for on all nodes; `auto` are the GPUs of this machine, and of a CPU one."""
    devices, nodes = trainer.get("devices"), int(trainer.get("num_nodes") or 1)
    if isinstance(devices, list):
        return len(devices) * nodes
    text = str(devices)
    if "," in text:
        return len([one for one in text.split(",") if one.strip()]) * nodes
    if text.isdigit():
        return int(text) * nodes
    return (max(1, torch.cuda.device_count()) if on_gpu(trainer) else 1) * nodes


def parts_asked(trainer: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The arguments of the strategy that spreads a model in parts; None where each process is to hold a whole one."""
    strategy = trainer.get("strategy")
    if not isinstance(strategy, Mapping):
        return {} if strategy == NAME else None
    kind = pydoc.locate(str(strategy.get("class_path")))
    sharded = isinstance(kind, type) and issubclass(kind, FSDP2Strategy)
    return (strategy.get("init_args") or {}) if sharded else None


def shards_asked(trainer: Mapping[str, Any], world: int) -> int:
    """How many of `world` processes are to share a copy of the model. Raises UserError as `shards_of` does."""
    options = parts_asked(trainer)
    if options is None:
        return 1
    shard = options.get("shard")
    return shards_of(world, int(options.get("replicate", 1)), None if shard is None else int(shard))


def is_name(name: str) -> bool:
    """Whether Lightning knows a strategy, ours or another, by this short name."""
    return name in StrategyRegistry.available_strategies()
