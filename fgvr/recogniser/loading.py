"""From the folder of a run or of an export to a model that names photos."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import torch

from fgvr.checkpoints.format import read_manifest
from fgvr.checkpoints.kept import run_of
from fgvr.errors import UserError
from fgvr.models import Policy, PolicyConfig, Pretrained
from fgvr.models.attention_choice import AttentionSetting, Device, attention_at, place_of
from fgvr.models.saved import tokens_evaluated
from fgvr.models.trained import read_run, rebuild
from fgvr.recogniser.calibration import read_calibrations
from fgvr.recogniser.carried import of_data, of_run, read_carried, shard_sets
from fgvr.recogniser.recogniser import Recogniser
from fgvr.runs.finding import read_config, resolve
from fgvr.shards.manifest import load_manifest


def load(
    path: str | os.PathLike[str],
    checkpoint: Literal["last", "best"] = "last",
    data: str | os.PathLike[str] | None = None,
    device: Device = "auto",
) -> Recogniser:
    """A trained model, ready to name photos: `fgvr.load("runs/photos").predict("photo.jpg")`.

    `path` is a run's folder or one of its checkpoints, an exported folder, or a pretrained model (a folder or a hub
    id). Of a run `checkpoint` takes the newest whole one or the best. `data` is a shard set that gives the names where
    the model carries none: a pretrained one, an old export, a run whose shards are gone. On a GPU it computes in
    bfloat16, on a CPU in float32. Raises UserError for what is neither, is damaged, or lacks its names.
    """
    for name, value in (("path", path), ("data", data)):
        if not isinstance(value, str | os.PathLike) and (name, value) != ("data", None):
            raise UserError(f"{name} must be text or a Path, got {type(value).__name__}: give where the folder lies")
    folder, known = Path(path), None if data is None else Path(data)
    if known is not None:
        load_manifest(known)  # also where the model's own names are taken
    if path == "":
        raise UserError("path must be that of a run or an export, got an empty text: give it, or . for this folder")
    if device not in ("auto", "cpu", "cuda"):
        raise UserError(f"device must be auto, cpu or cuda, got {device!r}: which GPU is CUDA_VISIBLE_DEVICES' to say")
    if checkpoint not in ("last", "best"):
        raise UserError(f"checkpoint must be last or best, got {checkpoint!r}: give the path of another one as path")
    if (folder / "adapter_config.json").is_file():
        raise UserError(
            f"{folder} holds an adapter alone, which is loaded with its base: load the run, or export it with "
            "--adapter merge"
        )
    if (folder / "config.json").is_file():
        return _exported(folder, known, device)
    if folder.exists():
        return _trained(folder, checkpoint, known, device)
    if known is None:
        raise UserError(
            f"there must be a run or an export at {str(path)!r}, but there is none: give the folder of one; a "
            "pretrained model of the hub needs data= besides, a shard set with the names to tell apart"
        )
    backbone = Pretrained(str(path))
    return Recogniser(_pretrained(backbone, device), of_data(known, 1024))


def _exported(folder: Path, data: Path | None, device: Device) -> Recogniser:
    carried = read_carried(folder, data)
    policy = _pretrained(Pretrained(str(folder)), device)
    return Recogniser(policy, carried, read_calibrations(folder), folder)


def _trained(path: Path, which: Literal["last", "best"], data: Path | None, device: Device) -> Recogniser:
    found = resolve(path, "a model to load", which)
    place, attention = _where(device)
    card, state, settings = read_run(found)
    run = run_of(found)
    settings = settings or (read_config(run) if run is not None else {})
    manifest = read_manifest(found)
    carried = of_run(settings, tokens_evaluated(card), data, checkpoint=manifest.digest, step=manifest.step)
    policy = rebuild(card, state, attention).to(place)
    kept = read_calibrations(run) if run is not None else {}
    return Recogniser(policy, carried, kept, run, evaluated=shard_sets(settings, evaluated=True))


def _pretrained(backbone: Pretrained, device: Device) -> Policy:
    place, attention = _where(device)
    config = PolicyConfig(backbone, attention=attention)
    return Policy(config, backbone.processor(None)).to(place)


def _where(device: Device) -> tuple[torch.device, AttentionSetting]:
    place = place_of(device)
    return place, attention_at(place)
