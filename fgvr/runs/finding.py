"""What a user means by a run: one of its checkpoints, and the settings that it left."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import yaml

from fgvr.checkpoints.format import best_checkpoint, newest_checkpoint
from fgvr.checkpoints.kept import CHECKPOINTS
from fgvr.errors import UserError
from fgvr.runs.noted import CONFIG

OF_A_SHARD_SET = "_info.json"  # which has a manifest.json too


def resolve(ckpt: Path, setting: str = "--ckpt", which: Literal["last", "best"] = "last") -> Path:
    """The checkpoint that is meant: itself, or the newest whole one of a run, or the one that its best.json names.

    Raises UserError, which names the `setting`, when there is none, and for a shard set.
    """
    if (ckpt / OF_A_SHARD_SET).is_file():
        raise UserError(
            f"{setting} must be a checkpoint or a run's folder, got {ckpt}, a shard set: give a run's folder"
        )
    if not ckpt.exists():
        raise UserError(f"{setting} must be a checkpoint or a run's folder with one, but {ckpt} is not there: check it")
    if (ckpt / "manifest.json").is_file() or not ckpt.is_dir():
        return ckpt
    if which == "best":
        return best_checkpoint(ckpt / CHECKPOINTS, "take the last one instead")
    for folder in (ckpt / CHECKPOINTS, ckpt):
        found = newest_checkpoint(folder) if folder.is_dir() else None
        if found is not None:
            return found
    raise UserError(f"{setting} must be a checkpoint or a run's folder with one, got {ckpt}, which holds none")


def read_config(run: Path) -> dict[str, Any]:
    """A run's settings; empty where there are none. Raises UserError for a file that is not of them."""
    file = run / CONFIG
    try:
        loaded = yaml.safe_load(file.read_text(encoding="utf-8")) if file.exists() else {}
        if not isinstance(loaded, dict):
            raise ValueError(f"it holds {type(loaded).__name__}, not a mapping")
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(
            f"{file} must be the run's settings in yaml, but it cannot be read ({error}): the command that began the "
            "run writes it anew"
        ) from error
    return loaded
