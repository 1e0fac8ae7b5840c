"""Examples as prompt and answer for supervised fine-tuning, and as prompts alone for validation."""

from __future__ import annotations

from pathlib import Path

from fgvr.data.augment import Augment
from fgvr.data.collate import PromptCollate, PromptEncode, SFTCollate, SFTEncode
from fgvr.data.order import WINDOW
from fgvr.data.tasks import Task
from fgvr.datamodules.base import ShardDataModule, ShardSource


class SFTData(ShardDataModule):
    """Packs each global batch into micro-batches of at most `micro_batch_tokens`, in rows of about `row_tokens`.

    A sequence longer than `micro_batch_tokens` is quarantined, never cut. Short rows keep dense attention cheap;
    flash attention wants one row, `row_tokens` = `micro_batch_tokens`. Augmentation is off unless asked for. The
    other arguments are `ShardDataModule`'s.
    """

    def __init__(
        self,
        train: list[ShardSource],
        task: Task,
        val: list[Path] | None = None,
        batch_size: int = 32,
        micro_batch_tokens: int = 8192,
        row_tokens: int = 512,
        augment: Augment = Augment(),  # noqa: B008  (frozen)
        eval_batch_size: int = 32,
        eval_examples: int | None = None,
        workers: int = 1,
        seed: int = 0,
        epoch_length: int | None = None,
        max_bad_share: float = 0.001,
        window: int = WINDOW,
        predict: Path | None = None,
    ) -> None:
        super().__init__(
            train,
            task,
            val,
            batch_size,
            eval_batch_size,
            eval_examples,
            workers,
            seed,
            epoch_length,
            max_bad_share,
            window,
            predict,
        )
        self.micro_batch_tokens, self.row_tokens, self.augment = micro_batch_tokens, row_tokens, augment

    def setup(self, stage: str) -> None:
        super().setup(stage)
        self.task = self.task.bind(self.taxonomy)

    def train_encode(self) -> SFTEncode:
        return SFTEncode(self.processor, self.task, self.micro_batch_tokens, self.augment)

    def train_collate(self) -> SFTCollate:
        return SFTCollate(self.processor.padding_token, self.micro_batch_tokens, self.row_tokens)

    def eval_encode(self) -> PromptEncode:
        return PromptEncode(self.processor, self.task)

    def eval_collate(self) -> PromptCollate:
        return PromptCollate(self.processor.padding_token, self.processor.image_token)
