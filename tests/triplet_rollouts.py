"""Triplets for a module that learns from rollouts: three photos of different sizes each, and replies written down."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from conftest import NAMES, example, prompt, tiny_backbone
from leaving import leave_group_at_exit
from lightning.pytorch import Trainer
from prompted import Prompts
from scripted import Scripted
from torch.utils.data import DataLoader, Dataset

from fgvr.callbacks import RolloutGeneration
from fgvr.data.collate import PromptCollate
from fgvr.models import PixelBudget
from fgvr.modules import TAPO
from fgvr.types import EncodedPrompt, Example, Partner, PromptBatch, ReadRecord, Role

WIDTHS = {"anchor": 56, "positive": 84, "negative": 28}  # in pixels: three grids


def triplet(policy: Any, number: int, lacking: Sequence[Role] = ()) -> tuple[Example, dict[Role, EncodedPrompt]]:
    """Example uN with its partners' prompts, less those that are `lacking`."""
    roles: tuple[Role, ...] = ("anchor", "positive", "negative")
    prompts: dict[Role, EncodedPrompt] = {
        role: prompt(policy, seed=10 * number + place, width=WIDTHS[role] + 28 * (number % 2))
        for place, role in enumerate(roles)
        if role not in lacking
    }
    anchor = example(f"u{number}")
    positive = Partner(anchor.images, f"p{number}", NAMES[0]) if "positive" in prompts else None
    negative = Partner(anchor.images, f"n{number}", NAMES[1]) if "negative" in prompts else None
    return replace(anchor, positive=positive, negative=negative), prompts


def triplet_batch(
    policy: Any, numbers: Sequence[int] = (0, 1, 2), lacking: dict[int, Sequence[Role]] | None = None, step: int = 0
) -> PromptBatch:
    items = [triplet(policy, number, (lacking or {}).get(number, ())) for number in numbers]
    record = ReadRecord(0, step, tuple(numbers), tuple(item.uid for item, _ in items))
    return PromptCollate(policy.processor.padding_token, policy.processor.image_token)(items, record)


class TripletBatches(Dataset):
    """`steps` batches of the same five triplets; each rank gets every `world`-th."""

    def __init__(
        self, rank: int, world: int, steps: int, lacking: dict[int, Sequence[Role]], family: str = "qwen2_5_vl"
    ) -> None:
        policy: Any = type("", (), {"processor": tiny_backbone(family).processor(PixelBudget(28 * 28, 84 * 84))})
        self.batches = [triplet_batch(policy, range(rank, 5, world), lacking, step) for step in range(steps)]

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> PromptBatch:
        return self.batches[index]


class Triplets(Prompts):
    def __init__(self, lacking: dict[int, Sequence[Role]] | None = None, family: str = "qwen2_5_vl") -> None:
        super().__init__()
        self.lacking, self.family = lacking or {}, family

    def train_dataloader(self):
        assert self.trainer is not None
        rank, world = self.trainer.global_rank, self.trainer.world_size
        return DataLoader(TripletBatches(rank, world, self.steps, self.lacking, self.family), batch_size=None)


class WatchedTAPO(TAPO):
    """Keeps what is logged."""

    def on_fit_start(self) -> None:
        super().on_fit_start()
        leave_group_at_exit()
        self.logged: list[dict[str, float]] = []

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        metrics = self.trainer.callback_metrics
        self.logged.append({name: float(value) for name, value in metrics.items()})


def fit_triplets(
    module: Any, replies: dict[str, list[str]], callbacks: Sequence[Any] = (), data: Any = None, **options: Any
) -> dict[str, torch.Tensor]:
    """Trains on the same five triplets in each step; returns the weights."""
    settings: dict[str, Any] = {"devices": 1, "max_steps": 2} | options
    trainer = Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        callbacks=[RolloutGeneration(Scripted(replies)), *callbacks],
        **settings,
    )
    trainer.fit(module, datamodule=Triplets() if data is None else data)
    return {name: value.clone() for name, value in module.state_dict().items()}
