"""Small real shard sets, and a training run on them that can be killed: `python toy_stream.py DATA ROOT 1 0.01`."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import random
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from PIL import Image

from fgvr.callbacks.sample_log import SampleLog
from fgvr.data.tasks import OpenWorld
from fgvr.datamodules.base import ShardDataModule, ShardSource
from fgvr.shards.manifest import (
    Manifest,
    SampleEntry,
    ShardIndex,
    ShardInfo,
    canonical_json,
    dump_index,
    index_name,
    save_manifest,
)
from fgvr.shards.reading import open_shard_writer
from fgvr.taxonomy.tree import Taxonomy
from fgvr.types import Example, ReadRecord, TensorBatch

FAMILIES = {"finch": ("Azure Finch", "Amber Finch"), "owl": ("Jade Owl", "Grey Owl")}
LABELS = [species for group in FAMILIES.values() for species in group]
PATHS = {species: (family, species) for family, group in FAMILIES.items() for species in group}
TAXONOMY = Taxonomy(PATHS, ("family", "species"), "bird")


def picture(number: int) -> bytes:
    stream = io.BytesIO()
    Image.frombytes("RGB", (8, 8), random.Random(number).randbytes(192)).save(stream, "PNG")
    return stream.getvalue()


def write_set(folder: Path, sizes: dict[str, list[int]], prefix: str = "s", taxonomy: Taxonomy = TAXONOMY) -> Path:
    """A shard set; `sizes` gives samples per shard for each "split-cohort"."""
    shards: list[ShardInfo] = []
    number = 0
    for part, counts in sizes.items():
        split, cohort = part.split("-")
        for shard, count in enumerate(counts):
            file = folder / f"{part}-{shard:06d}.tar"
            samples = []
            with open_shard_writer(file) as writer:
                for _ in range(count):
                    label, key = LABELS[number % len(LABELS)], f"{prefix}{number:05d}"
                    text = {"uid": key, "label": label, "path": PATHS[label], "split": split, "cohort": cohort}
                    record = canonical_json({**text, "dataset": prefix, "number": number})
                    members = writer.write(key, {"png": picture(number), "json": record})
                    samples.append(SampleEntry(key, label, members))
                    number += 1
            data = file.read_bytes()
            index = dump_index(ShardIndex("", file.name, len(data), hashlib.sha256(data).hexdigest(), tuple(samples)))
            (folder / index_name(file.name)).write_bytes(index)
            hashes = hashlib.sha256(data).hexdigest(), hashlib.sha256(index).hexdigest()
            shards.append(ShardInfo(file.name, index_name(file.name), split, cohort, count, len(data), *hashes))
    cohorts = dict.fromkeys(LABELS, "seen")
    save_manifest(Manifest(1, prefix, {}, 0, {}, taxonomy.to_dict(), cohorts, {}, tuple(shards)), folder)
    return folder


@dataclass(frozen=True)
class Numbers(TensorBatch):
    """What a batch is here: one number per sample that depends on its bytes and on its rng."""

    values: torch.Tensor
    uids: list[str]
    record: ReadRecord


def encode(example: Example, rng: random.Random) -> tuple[str, float]:
    return example.uid, int(hashlib.sha256(example.images[0]).hexdigest()[:6], 16) / 2**24 + rng.random()


def collate(items: list[tuple[str, float]], record: ReadRecord) -> Numbers:
    return Numbers(torch.tensor([value for _, value in items]), [uid for uid, _ in items], record)


class ToyStream(ShardDataModule):
    def train_encode(self) -> Callable[..., Any]:
        return encode

    def train_collate(self) -> Callable[..., Any]:
        return collate

    def eval_encode(self) -> Callable[..., Any]:
        return encode

    def eval_collate(self) -> Callable[..., Any]:
        return collate


class ToyLearner(LightningModule):
    """A weight vector whose end value depends on every batch and on the order of them."""

    def __init__(self, pause: float = 0.0) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.weight = torch.nn.Parameter(torch.zeros(8))
        self.pause, self.evaluated = pause, []

    def training_step(self, batch: Numbers, batch_idx: int) -> None:
        optimizer = self.optimizers()
        values = batch.values.to(self.weight)
        inputs = torch.outer(values, torch.arange(1.0, 9.0)).sin()
        loss = ((inputs @ self.weight - values) ** 2).mean() if len(values) else 0 * self.weight.sum()
        optimizer.zero_grad()  # pyright: ignore
        self.manual_backward(loss)
        optimizer.step()  # pyright: ignore
        time.sleep(self.pause)

    def validation_step(self, batch: Numbers, batch_idx: int, dataloader_idx: int = 0) -> None:
        self.evaluated.append((dataloader_idx, batch.uids))

    test_step = validation_step

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), lr=0.05)


def toy_trainer(root: Path, *callbacks: Callback, **options: Any) -> Trainer:
    settings: dict[str, Any] = {
        "max_epochs": 3, "accelerator": "cpu", "logger": False, "enable_checkpointing": False,
        "enable_progress_bar": False, "enable_model_summary": False, "num_sanity_val_steps": 0, "devices": 1,
    }  # fmt: skip
    return Trainer(default_root_dir=root, callbacks=[SampleLog(), *callbacks], **{**settings, **options})


class SaveEverything(Callback):
    """A checkpoint after every step, put in place by a rename."""

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        root = Path(trainer.default_root_dir)
        trainer.save_checkpoint(root / "beside.ckpt")
        os.replace(root / "beside.ckpt", root / "last.ckpt")


def main(data: Path, root: Path, workers: int, pause: float) -> None:
    """Train on `data` to the end, from the last checkpoint in `root` where there is one; then write weights.json."""
    os.setsid()  # so that its workers can be killed with it
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    module = ToyLearner(pause)
    stream = ToyStream([ShardSource(data)], OpenWorld(), batch_size=4, workers=workers, seed=3)
    trainer = toy_trainer(root, SaveEverything(), val_check_interval=3)
    last = root / "last.ckpt"
    trainer.fit(module, datamodule=stream, ckpt_path=last if last.exists() else None)
    (root / "weights.json").write_text(json.dumps(module.weight.tolist()))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))
