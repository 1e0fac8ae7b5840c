"""Five prompts for a module that learns from scripted rollouts, and a short fit on them."""

from __future__ import annotations

from typing import Any

import torch
from conftest import example, prompt, tiny_backbone
from leaving import leave_group_at_exit
from lightning.pytorch import LightningDataModule, Trainer
from scripted import LOOSE, RIGHT, TASK, TAXONOMY, WRONG, Scripted
from torch.utils.data import DataLoader, Dataset

from fgvr.callbacks import RolloutGeneration
from fgvr.data.collate import PromptCollate
from fgvr.models import PixelBudget
from fgvr.modules import GRPO
from fgvr.types import PromptBatch, ReadRecord

REPLIES = {
    "u0": [RIGHT, WRONG, LOOSE, WRONG + " or what"],
    "u1": [WRONG] * 4,
    "u2": [LOOSE, RIGHT, RIGHT, "…"],
    "u3": [WRONG, RIGHT, "an owl…", "<answer>Amber Finch</answer>"],
    "u4": [RIGHT, "<answer>Amber Finch</answer>", LOOSE, LOOSE],
}


class Batches(Dataset):
    """`steps` batches of the same five prompts; each rank gets every `world`-th."""

    def __init__(self, rank: int, world: int, steps: int) -> None:
        backbone = tiny_backbone()
        policy: Any = type("Prompted", (), {"processor": backbone.processor(PixelBudget(28 * 28, 84 * 84))})
        collate = PromptCollate(policy.processor.padding_token, policy.processor.image_token)
        self.batches: list[PromptBatch] = []
        for step in range(steps):
            mine = tuple(range(rank, 5, world))
            items = [(example(f"u{i}"), prompt(policy, 1 + i % 2, seed=i, width=84 + 28 * (i % 2))) for i in mine]
            self.batches.append(collate(items, ReadRecord(0, step, mine, tuple(f"u{i}" for i in mine))))

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> PromptBatch:
        return self.batches[index]


class Prompts(LightningDataModule):
    task, taxonomy, batch_size, steps = TASK, TAXONOMY, 5, 3

    def train_dataloader(self):
        assert self.trainer is not None
        return DataLoader(Batches(self.trainer.global_rank, self.trainer.world_size, self.steps), batch_size=None)


class Measured(GRPO):
    """Puts the gradient of its only update where the weights were, so that it comes back from another process too."""

    def take_step(self) -> None:
        gradients = [(p, p.grad.clone()) for _, p in self.trained_policy.trainable() if p.grad is not None]
        super().take_step()
        with torch.no_grad():
            for parameter, gradient in gradients:
                parameter.copy_(gradient)


class Watched(GRPO):
    """Keeps what is logged; poisons a gradient where asked to."""

    poison = False

    def on_fit_start(self) -> None:
        super().on_fit_start()
        leave_group_at_exit()
        self.logged: list[dict[str, float]] = []

    def take_step(self) -> None:
        if self.poison:
            next(p.grad for _, p in self.trained_policy.trainable() if p.grad is not None).fill_(torch.nan)
        super().take_step()

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        metrics = self.trainer.callback_metrics
        self.logged.append({name: float(value) for name, value in metrics.items()})


def fit(grpo: GRPO, callbacks: Any = None, max_steps: int = 3, **options: Any) -> dict[str, torch.Tensor]:
    trainer = Trainer(
        accelerator="cpu",
        max_steps=max_steps,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        callbacks=[RolloutGeneration(Scripted(REPLIES))] if callbacks is None else callbacks,
        **{"devices": 1, "logger": False, **options},
    )
    trainer.fit(grpo, datamodule=Prompts())
    return {name: value.clone() for name, value in grpo.state_dict().items()}
