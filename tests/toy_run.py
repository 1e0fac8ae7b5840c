"""A small regression with its data, real enough to be trained, killed and resumed in seconds."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule, LightningModule

from fgvr.errors import UserError


class ToyLoader:
    """Batches as a function of (epoch, index); goes on in mid-epoch from its state."""

    def __init__(self, batches: int, workers: int = 0) -> None:
        self.batches = batches
        self.epoch = 0
        self.next = 0

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[torch.Tensor]:
        # lightning never asks for more than the length, so the end of an epoch is only seen when the next one begins
        if self.next >= self.batches:
            self.next, self.epoch = 0, self.epoch + 1
        while self.next < self.batches:
            self.next += 1
            yield torch.tensor([self.epoch, self.next - 1])

    def state_dict(self) -> dict[str, int]:
        return {"epoch": self.epoch, "next": self.next}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.epoch, self.next = state["epoch"], state["next"]


class ToyCohort:
    """Two batches, always the same."""

    def __init__(self, cohort: int) -> None:
        self.cohort = cohort

    def __len__(self) -> int:
        return 2

    def __iter__(self) -> Iterator[torch.Tensor]:
        return iter([torch.tensor([self.cohort, 1]), torch.tensor([self.cohort, 2])])


@dataclass(frozen=True)
class ToyShape:
    """Layer sizes."""

    width: int = 6
    dropout: float = 0.3

    def __post_init__(self) -> None:
        if self.width < 1:
            raise UserError(f"width must be at least 1, got {self.width}: choose a larger one.")


class ToyData(LightningDataModule):
    def __init__(self, batches: int = 7, workers: int = 0, content: str = "a") -> None:
        super().__init__()
        self.batches = batches
        self.content = content

    def fingerprint(self) -> str:
        return f"toy-{self.content}"

    def train_dataloader(self) -> ToyLoader:
        self.loader = ToyLoader(self.batches)
        return self.loader

    def val_dataloader(self) -> list[ToyCohort]:
        return [ToyCohort(0), ToyCohort(1)]

    def test_dataloader(self) -> list[ToyCohort]:
        return self.val_dataloader()


class ToyModel(LightningModule):
    """`journal` gets one line per step, validation and epoch; `pause` (seconds) makes a step last."""

    def __init__(
        self,
        lr: float = 1e-2,
        shape: ToyShape = ToyShape(),
        journal: Path | None = None,
        manual: bool = False,
        pause: float = 0.0,
    ) -> None:
        super().__init__()
        self.save_hyperparameters("lr", "manual")
        self.lr = lr
        self.journal = journal
        self.pause = pause
        self.lines: list[str] = []
        self.automatic_optimization = not manual
        self.net = torch.nn.Sequential(
            torch.nn.Linear(2, shape.width), torch.nn.Dropout(shape.dropout), torch.nn.Linear(shape.width, 1)
        )

    def note(self, line: str) -> None:
        self.lines.append(line)
        if self.journal is not None:
            with self.journal.open("a") as file:
                file.write(line + "\n")

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        if self.pause:
            time.sleep(self.pause)
        self.note(f"train {batch[0]}.{batch[1]} at {self.global_step}")
        loss = (self.net(batch.float()) - batch.sum()).square().mean()
        self.log_dict({"loss": loss, "tokens/s": 5300.0, "images/s": 31.0}, prog_bar=True)
        if not self.automatic_optimization:
            optimizer, schedule = self.optimizers(), self.lr_schedulers()
            optimizer.zero_grad()  # pyright: ignore
            self.manual_backward(loss)
            optimizer.step()  # pyright: ignore
            schedule.step()  # pyright: ignore
        return loss

    def validation_step(self, batch: torch.Tensor, batch_idx: int, dataloader_idx: int = 0) -> None:
        cohort = ("seen", "unseen")[dataloader_idx]
        torch.rand(1)  # a validation may draw random numbers; training must not notice
        self.log(f"{cohort}/exact", self.net(batch.float()).mean(), add_dataloader_idx=False, batch_size=1)

    test_step = validation_step

    def on_validation_epoch_end(self) -> None:
        if not self.trainer.sanity_checking:
            self.note(f"validation at {self.global_step}")

    def on_train_epoch_end(self) -> None:
        self.note(f"epoch {self.current_epoch} ends at {self.global_step}")

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.lr)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class ScoredToy(ToyModel):
    """Asks to be scored before it is trained."""

    scores_start = True


class UnevenToy(ToyModel):
    """Makes 0, 1 and 3 optimiser steps in turn, as batches of rollouts may."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, manual=True)

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        self.note(f"train {batch[0]}.{batch[1]} at {self.global_step}")
        for _ in range((0, 1, 3)[batch_idx % 3]):
            super().training_step(batch, batch_idx)
            self.log("done", float(self.global_step))
        return None


def same_weights(left: dict[str, Any], right: dict[str, Any]) -> bool:
    """Bit for bit, the optimiser's state included."""

    def tensors(value: Any) -> list[torch.Tensor]:
        if isinstance(value, torch.Tensor):
            return [value]
        if isinstance(value, dict):
            return [tensor for key in sorted(value, key=str) for tensor in tensors(value[key])]
        return [tensor for entry in value for tensor in tensors(entry)] if isinstance(value, list) else []

    pairs = [tensors([one["state_dict"], one["optimizer_states"]]) for one in (left, right)]
    return len(pairs[0]) == len(pairs[1]) and all(torch.equal(a, b) for a, b in zip(*pairs, strict=True))
