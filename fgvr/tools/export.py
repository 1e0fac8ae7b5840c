"""`python -m fgvr export`: a checkpoint as a Hugging Face folder, reopened and compared before it is done."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
import yaml
from rich.console import Console
from torch import Tensor

from fgvr.data.images import open_image
from fgvr.data.manifest import load_manifest
from fgvr.data.shards import ShardSet
from fgvr.errors import UserError
from fgvr.models.saved import Agreement, compare, rebuild, write_hf_folder
from fgvr.strategies.checkpoint_io import newest_checkpoint, read_checkpoint, read_manifest
from fgvr.tools.model_card import Card, write_card

TOLERANCE = 1e-5  # nats of logit difference between the run's model and the reopened folder


def export(
    ckpt: Path,
    out: Path,
    adapter: Literal["merge", "keep"] = "merge",
    dtype: Literal["float32", "bfloat16"] = "float32",
    data: Path | None = None,
    samples: int = 8,
    overwrite: bool = False,
) -> None:
    """Write a trained model as a folder that plain transformers opens.

    Args:
        ckpt: a checkpoint, or a run's folder, whose newest whole checkpoint is taken.
        out: the folder to write. It must not exist yet.
        adapter: fold LoRA adapters into the weights, or keep them apart from their base.
        dtype: precision of the weights written.
        data: a shard set to take the comparison's photos from; by default the one the run was trained on.
        samples: on how many photos the reopened folder is compared with the run's model.
        overwrite: replace `out` if it exists.
    """
    console = Console()
    path = resolve(ckpt)
    if out.exists() and not overwrite:
        raise UserError(
            f"the folder to write must not exist yet, but {out} does: choose another, or pass --overwrite true"
        )
    if samples < 1:
        raise UserError(f"samples must be at least 1, got {samples}: the folder is never written without a comparison")
    console.print(f"Reading {path}")
    card, state = read_policy(path)
    run = path.parent.parent
    photos, question, dataset = comparison_photos(data, read_config(run), samples)

    building = out.with_name(f".{out.name}.building")
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    try:
        precision = torch.bfloat16 if dtype == "bfloat16" else torch.float32
        write_hf_folder(rebuild(card, state), building, adapter, precision)
        console.print(f"Reopening the folder and comparing it with the run's model on {len(photos)} photos")
        agreement = compare(rebuild(card, state), building, adapter, precision, photos, question)
        refuse_disagreement(agreement)
        step, figures = read_manifest(path).step, read_figures(run)
        write_card(
            building,
            Card(card["origin"], dataset, step, adapter, dtype, card["pixels"], card["lora"], figures, agreement),
        )
        if out.exists():
            shutil.rmtree(out)
        building.rename(out)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    console.print(
        f"Wrote {out}: the logits differ from the run's by at most {agreement.logits:.1e}, "
        f"{agreement.same_answers} of {agreement.samples} greedy answers are the same"
    )


def read_policy(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """A checkpoint's description of its policy, and the weights. Raises UserError for another kind of checkpoint."""
    checkpoint = read_checkpoint(path)
    if "fgvr_policy" not in checkpoint:
        raise UserError(f"the checkpoint must come from a fgvr run, but {path} does not describe a policy")
    weights = checkpoint["state_dict"].items()
    state = {name.removeprefix("policy."): value for name, value in weights if name.startswith("policy.")}
    return checkpoint["fgvr_policy"], state


def resolve(ckpt: Path) -> Path:
    """The checkpoint that is meant: itself, or the newest whole one of a run. Raises UserError when there is none."""
    if (ckpt / "manifest.json").is_file() or not ckpt.is_dir():
        return ckpt
    for folder in (ckpt / "checkpoints", ckpt):
        found = newest_checkpoint(folder) if folder.is_dir() else None
        if found is not None:
            return found
    raise UserError(f"--ckpt must be a checkpoint or a run's folder with one, got {ckpt}, which holds none")


def read_config(run: Path) -> dict[str, Any]:
    file = run / "config.yaml"
    loaded = yaml.safe_load(file.read_text(encoding="utf-8")) if file.is_file() else None
    return loaded if isinstance(loaded, dict) else {}


def read_figures(run: Path) -> dict[str, Any]:
    file = run / "final_metrics.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def comparison_photos(data: Path | None, config: Mapping[str, Any], samples: int) -> tuple[list[Any], str, str]:
    """Photos, the run's question and the data set's name. Raises UserError when no photos can be found."""
    settings = (config.get("data") or {}).get("init_args") or {}
    question = str(
        ((settings.get("task") or {}).get("init_args") or {}).get("question") or "What is shown in this photo?"
    )
    paths = [
        Path(entry["path"]) for entry in settings.get("train") or [] if isinstance(entry, dict) and "path" in entry
    ]
    folder = data or next((path for path in paths if (path / "manifest.json").is_file()), None)
    if folder is None:
        raise UserError("the comparison needs photos, but the run's shard set is not here: name one with --data FOLDER")
    manifest = load_manifest(folder)
    cohorts = tuple(sorted(set(manifest.cohorts.values())))
    photos: list[Any] = []
    for split in ("test", "val", "train"):
        if not manifest.select(split, cohorts):
            continue
        shards = ShardSet(folder, split, cohorts)
        for index in range(0, len(shards), max(1, len(shards) // samples)):
            example = shards.read(index)
            photos.append(open_image(example.images[0], example.uid))
            if len(photos) == samples:
                return photos, question, manifest.dataset
    if not photos:
        raise UserError(
            f"the comparison needs photos, but {folder} holds none: name another shard set with --data FOLDER"
        )
    return photos, question, manifest.dataset


def refuse_disagreement(agreement: Agreement) -> None:
    if agreement.logits > TOLERANCE or agreement.same_answers < agreement.samples:
        raise UserError(
            f"the reopened folder must answer as the run's model does, but its logits differ by {agreement.logits:.1e} "
            f"(at most {TOLERANCE:.0e} is allowed) and only {agreement.same_answers} of {agreement.samples} "
            f"answers are the same: "
            f"nothing was written; report this with your versions of torch and transformers"
        )
