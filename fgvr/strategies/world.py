"""How many processes a run has by its settings, and how they share copies of its model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from fgvr.errors import UserError


def ranks_of(trainer: Mapping[str, Any]) -> int:
    """How many ranks the trainer's settings ask for; `auto` are the devices of this machine."""
    devices, nodes = trainer.get("devices"), int(trainer.get("num_nodes") or 1)
    if isinstance(devices, list):
        return len(devices) * nodes
    text = str(devices)
    if "," in text:
        return len([one for one in text.split(",") if one.strip()]) * nodes
    here = 1 if trainer.get("accelerator") == "cpu" else max(1, torch.cuda.device_count())
    return (int(text) if text.isdigit() else here) * nodes


def shared_by(replicate: int, shard: int | None, world: int) -> int:
    """How many of `world` processes share each of `replicate` copies: `shard`, or as many as there are for each.

    Raises UserError for numbers that do not make up the processes there are.
    """
    match = "set trainer.devices and trainer.num_nodes to match"
    if shard is None and world % replicate:
        raise UserError(
            f"strategy.replicate must divide the {world} processes of the run, got {replicate}: choose another, or "
            f"{match}"
        )
    if shard is not None and replicate * shard != world:
        raise UserError(
            f"strategy.replicate x strategy.shard must be the {world} processes of the run, got {replicate} x {shard}: "
            f"leave shard out, or {match}"
        )
    return shard or world // replicate
