"""What a start writes down before it trains: the config it goes by, and the software and hardware it runs on."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf

import fgvr
from fgvr.runs.folder import Start
from fgvr.whole_files import write_whole

CONFIG, ENVIRONMENTS = "config.yaml", "environment.json"
PACKAGES = (
    "torch", "lightning", "transformers", "tokenizers", "peft", "flash-attn", "torchmetrics", "webdataset",
    "jsonargparse", "omegaconf", "numpy", "pillow", "safetensors", "tensorboard", "aiohttp", "vllm",
)  # fmt: skip


def note_start(folder: Path, config: Mapping[str, Any], start: Start, processes: int) -> None:
    """Writes config.yaml, and into environment.json what this start of so many processes runs on, where that is news.

    A row stands for all starts from its step to that of the next row. A file that cannot be read is begun anew.
    """
    write_whole(folder / CONFIG, OmegaConf.to_yaml(dict(config)).encode())
    rows, now = noted_environments(folder), {**environment(), "processes": processes}
    step = start.manifest.step if start.manifest else 0
    if not rows or {**rows[-1], "step": 0} != {**now, "step": 0}:
        text = json.dumps([*rows, {"step": step, **now}], indent=1, sort_keys=True)
        write_whole(folder / ENVIRONMENTS, f"{text}\n".encode())


def noted_environments(folder: Path) -> list[dict[str, Any]]:
    """The rows of environment.json, oldest first; none where there is no such file, or nothing to be read in it."""
    try:
        rows = json.loads((folder / ENVIRONMENTS).read_bytes())
    except (OSError, ValueError, RecursionError):
        return []
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def environment() -> dict[str, Any]:
    """Versions and machine, as plain values; nothing that names a person, a host or a path."""
    packages = {name: found for name in PACKAGES if (found := version_of(name)) is not None}
    devices = [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())]
    return {
        "fgvr": fgvr.__version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "packages": packages,
        "cuda": torch.version.cuda,
        "gpus": devices,
        "threads": torch.get_num_threads(),
    }


def version_of(package: str) -> str | None:
    """None where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None
