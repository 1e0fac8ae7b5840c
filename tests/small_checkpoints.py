"""Small real checkpoints, told apart by their step."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fgvr.checkpoints.format import Saving, hidden_name, write_checkpoint
from fgvr.checkpoints.plain_data import plain, with_each
from fgvr.checkpoints.sharded import Part, Rows


def content(step: int) -> dict[str, Any]:
    return {"global_step": step, "epoch": 0, "state_dict": OrderedDict(w=torch.full((50,), float(step)))}


def save(folder: Path, step: int, name: str | None = None) -> Path:
    path = folder / f"{name or f'step-{step}'}.ckpt"
    write_checkpoint(content(step), path)
    return path


def save_sharded(checkpoint: dict[str, Any], path: Path, processes: int = 2) -> Path:
    """The checkpoint as so many processes write it that hold the rows of every tensor between them."""
    rows: list[Rows] = [{} for _ in range(processes)]

    def taken_out(tensor: Tensor, place: str) -> Tensor:
        if tensor.dim() == 0:
            return tensor
        first = 0
        for own, part in zip(rows, tensor.chunk(processes), strict=False):
            own[place] = first, part
            first += len(part)
        return torch.empty_like(tensor, device="meta")

    state = with_each(Tensor, plain(checkpoint), taken_out)
    parts = [Part(None if n else state, own, f"shard-{n:05d}.safetensors") for n, own in enumerate(rows)]
    saving = Saving(path, hidden_name(path, "new"), parts[0])
    saving.begin()
    files = [Saving(path, saving.building, part).write() for part in parts]
    saving.complete({name: record for written in files for name, record in written.items()})
    return path
