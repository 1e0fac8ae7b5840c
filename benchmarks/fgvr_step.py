"""fgvr's side of grpo_step.py: GRPO in Lightning's Trainer, as `fgvr fit` runs it."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Sequence
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from grpo_turns import CLIP, LABEL, LEARNING_RATE, MAX_GRAD_NORM, TASK, Endless, Setting, Turn, example, quiet, worth
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from torch.utils.data import DataLoader, Dataset

from fgvr.callbacks.rollout_generation import RolloutGeneration
from fgvr.data.collate import PromptCollate, PromptEncode, TripletEncode
from fgvr.models import PolicyConfig, Processor, policy
from fgvr.models.decoder import Decoder
from fgvr.models.sampling import Sampling
from fgvr.modules import GRPO, TAPO, Optimizer
from fgvr.rewards import AnsweredGroup, Reward, Term, WeightedSum
from fgvr.taxonomy.tree import Taxonomy
from fgvr.types import Example, Partner, PromptBatch, ReadRecord


class Pages(Dataset[PromptBatch]):
    """Batches of prompts as a run's loader makes them, or of triplets; `seconds` is what the last one took."""

    def __init__(self, setting: Setting, processor: Processor, steps: int, triplets: bool) -> None:
        self.setting, self.steps, self.seconds, self.triplets = setting, steps, 0.0, triplets
        self.encode = TripletEncode(processor, TASK) if triplets else PromptEncode(processor, TASK)
        self.collate = PromptCollate(processor.padding_token, processor.image_token)
        self.examples = [example(number, setting.px) for number in range(steps * setting.B)]

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> PromptBatch:
        began = time.perf_counter()
        places = range(step * self.setting.B, (step + 1) * self.setting.B)
        record = ReadRecord(0, step, tuple(places), tuple(map(str, places)))
        batch = self.collate([self.encode(self._example(at), random.Random(at)) for at in places], record)
        self.seconds = time.perf_counter() - began
        return batch

    def _example(self, at: int) -> Example:
        """With the next two as its partners, where triplets are asked for."""
        one, positive, negative = (self.examples[(at + beside) % len(self.examples)] for beside in range(3))
        partners = [Partner(other.images, f"{other.uid} beside", LABEL) for other in (positive, negative)]
        return replace(one, positive=partners[0], negative=partners[1]) if self.triplets else one


class Prompts(LightningDataModule):
    """What RolloutGeneration asks of a datamodule."""

    task, taxonomy = TASK, Taxonomy({LABEL: (LABEL,)})

    def __init__(self, pages: Pages) -> None:
        super().__init__()
        self.pages, self.batch_size = pages, pages.setting.B

    def train_dataloader(self) -> DataLoader[PromptBatch]:
        return DataLoader(self.pages, batch_size=None)


class Alternating(Reward):
    def score(self, groups: Sequence[AnsweredGroup]) -> list[list[float | None]]:
        return [[worth(number) for number in range(len(group))] for group in groups]


class TimedGeneration(RolloutGeneration):
    """RolloutGeneration between the marks of a turn. Encoding, which in a run loader workers do, counts as well."""

    def __init__(self, turn: Turn, pages: Pages) -> None:
        super().__init__(seed=0)
        self.turn, self.pages = turn, pages

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: PromptBatch, batch_idx: int
    ) -> None:
        self.turn.begin()
        super().on_train_batch_start(trainer, pl_module, batch, batch_idx)
        self.turn.generation = time.perf_counter() - self.turn.began

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: PromptBatch, batch_idx: int
    ) -> None:
        self.turn.end(self.pages.seconds)
        assert isinstance(pl_module, GRPO)
        assert pl_module.last_rollouts is not None
        groups = pl_module.last_rollouts.groups
        self.turn.saw(
            batch.input_ids,
            pl_module.processor.pixel_values(batch.images),
            torch.cat([group.advantages for group in groups]),
            sum(len(completion.ids) for group in groups for completion in group.rollout.completions),
        )


def fgvr_side(pipe: Connection, setting: Setting, folder: Path, steps: int, triplets: bool = False) -> None:
    """GRPO in Lightning's Trainer with RolloutGeneration, as `fgvr fit` runs it, without logger and checkpoints.

    With `triplets` it is TAPO, with half of the completions about the positive.
    """
    quiet(setting)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    turn = Turn(pipe)
    module = (TAPO if triplets else GRPO)(
        PolicyConfig(Endless(str(folder)), setting.pixels),
        WeightedSum({"alternating": Term(Alternating())}),
        optimizer=Optimizer(lr=LEARNING_RATE, schedule="constant", max_grad_norm=MAX_GRAD_NORM),
        sampling=Sampling(setting.G, 1.0, setting.C, setting.G // 2 if triplets else 0),
        clip=CLIP,
        reduction="token",
    )
    module.configure_model()
    turn.follow(module.trained_policy.base)
    policy.token_logprobs_and_entropy = turn.counting(policy.token_logprobs_and_entropy)
    Decoder.scores = turn.counting(Decoder.scores, at=1)
    Decoder.read = turn.counting(Decoder.read, at=1, name="decoder_tokens")
    pages = Pages(setting, module.processor, steps, triplets)
    trainer = Trainer(
        accelerator="cpu",
        max_steps=steps,
        logger=False,
        callbacks=[TimedGeneration(turn, pages)],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, datamodule=Prompts(pages))
