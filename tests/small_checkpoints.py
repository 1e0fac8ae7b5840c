"""Small real checkpoints, told apart by their step."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch

from fgvr.checkpoints.format import write_checkpoint


def content(step: int) -> dict[str, Any]:
    return {"global_step": step, "epoch": 0, "state_dict": OrderedDict(w=torch.full((50,), float(step)))}


def save(folder: Path, step: int, name: str | None = None) -> Path:
    path = folder / f"{name or f'step-{step}'}.ckpt"
    write_checkpoint(content(step), path)
    return path
