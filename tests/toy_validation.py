"""A validation without a model: what it says of each photo is written down beforehand."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import torch
from leaving import leave_group_at_exit
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from PIL import Image
from torch.utils.data import DataLoader
from toy_answers import BIRDS

from fgvr.data.tasks import OpenWorld
from fgvr.types import Example, ImageInputs, PromptBatch, ReadRecord

# label, completion: what the toy model says of the photo whose uid is the place in the list
SEEN = [
    ("Ruby", "<answer>Ruby</answer>"),
    ("Ruby", "<answer>Ash</answer>"),
    ("Ash", "<answer>finches</answer>"),
    ("Ash", "<script>alert(1)</script> | hello"),
]
UNSEEN = [("Barred", "<answer>wrens</answer>"), ("Barred", "<answer>unknown</answer>")]
FIGURES = {
    # n 4; exact 1; family: Ruby, Ash, finches of 4; correct: S and S-: 2 of 4; specificity (1 + 2/3) / 2
    "seen": {
        "n": 4,
        "exact": 0.25,
        "family": 0.75,
        "correctness": 0.5,
        "specificity": 5 / 6,
        "validation_reward": 5 / 12,
        "parse_failures": 0.25,
        "unjudged": 0,
        "length": 6 / 4,  # words: one each, but three of the reply that is no answer
        "length_exact": 1,
        "length_others": 5 / 3,
    },
    # one of two is correct, with 2/3
    "unseen": {
        "n": 2,
        "exact": 0,
        "family": 0.5,
        "correctness": 0.5,
        "specificity": 2 / 3,
        "abstain": 0.5,
        "unread": 1,
    },
}


def photo() -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (32, 24), "teal").save(data, "PNG")
    return data.getvalue()


def batch_of(cohort: str, rows: list[tuple[str, str]], quarantined: int = 0) -> PromptBatch:
    examples = [
        Example(f"{cohort}-{place}", (photo(),), label, BIRDS.paths[label], "val", cohort, "birds", {"say": text})
        for place, (label, text) in enumerate(rows)
    ]
    ids = torch.zeros(len(rows), 1, dtype=torch.long)
    images = ImageInputs(torch.zeros(1, 1, dtype=torch.uint8), torch.ones(1, 3, dtype=torch.long))
    lost = tuple((f"lost-{place}", "cut short") for place in range(quarantined))
    positions, places = torch.zeros(3, len(rows), 1, dtype=torch.long), tuple(range(len(rows)))
    record = ReadRecord(0, 0, places, tuple(example.uid for example in examples), lost)
    return PromptBatch(examples, ids, ids, ids, positions, images, (1,) * len(rows), places, record)


class Toy(LightningModule):
    def setup(self, stage: str) -> None:
        leave_group_at_exit()

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.validated = 0

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return self.layer(torch.ones(1, 1)).sum()

    def validation_step(self, batch: PromptBatch, batch_idx: int, dataloader_idx: int = 0) -> Any:
        self.validated += 1
        return [example.extra["say"] for example in batch.examples]

    test_step = validation_step

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class ToyData(LightningDataModule):
    def __init__(self) -> None:
        super().__init__()
        self.task, self.taxonomy, self.cohorts = OpenWorld().bind(BIRDS), BIRDS, ["seen", "unseen"]

    def train_dataloader(self) -> Any:
        return DataLoader([0, 1], batch_size=None)  # pyright: ignore[reportArgumentType]

    def val_dataloader(self) -> Any:
        seen = [batch_of("seen", SEEN[:3]), batch_of("seen", []), batch_of("seen", SEEN[3:])]
        for place, batch in enumerate(seen):
            batch.examples[:] = [Example(**{**vars(e), "uid": f"{e.uid}-{place}"}) for e in batch.examples]
        rank, world = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        unseen = [batch_of("unseen", UNSEEN, quarantined=1), batch_of("unseen", [])]
        parts = [batches[rank::world] for batches in (seen, unseen)]
        return [DataLoader(part, batch_size=None) for part in parts]  # pyright: ignore[reportArgumentType]

    test_dataloader = val_dataloader


def trainer(folder: Path, *callbacks: Callback, logger: Any = False, **options: Any) -> Trainer:
    settings: dict[str, Any] = {
        "accelerator": "cpu",
        "max_epochs": 1,
        "log_every_n_steps": 1,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
    }
    return Trainer(callbacks=[*callbacks], logger=logger, default_root_dir=folder, **(settings | options))


class Silent(Toy):
    def validation_step(self, batch: PromptBatch, batch_idx: int, dataloader_idx: int = 0) -> Any:
        return None


class Short(Toy):
    def validation_step(self, batch: PromptBatch, batch_idx: int, dataloader_idx: int = 0) -> Any:
        return ["<answer>Ruby</answer>"]


def check_figures(metrics: dict[str, Any]) -> None:
    for cohort, figures in FIGURES.items():
        for name, value in figures.items():
            assert float(metrics[f"{cohort}/{name}"]) == pytest.approx(value, abs=1e-6), (cohort, name)


class TwoSets(ToyData):
    """The second batch of the seen cohort is of another dataset; with two processes only one of them has it."""

    def val_dataloader(self) -> Any:
        loaders = super().val_dataloader()
        for batch in loaders[0].dataset:
            batch.examples[:] = [
                Example(**{**vars(e), "dataset": "cars" if e.uid.endswith("-2") else "birds"}) for e in batch.examples
            ]
        return loaders


def check_datasets(metrics: dict[str, Any]) -> None:
    # birds: specific, wrong, less specific: c = 2/3, s = 5/6, hm = 20/27. cars: one reply that did not parse.
    expected = {"birds/n": 3, "cars/n": 1, "birds/harmonic_mean": 20 / 27, "macro_harmonic_mean": 10 / 27}
    for name, value in expected.items():
        assert float(metrics[f"seen/{name}"]) == pytest.approx(value, abs=1e-6), name
    assert not [name for name in metrics if name.startswith("unseen/") and "macro" in name]
