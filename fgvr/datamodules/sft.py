"""Examples as prompt and answer for supervised fine-tuning, and as prompts alone for validation."""

from __future__ import annotations

from typing import Any

from fgvr.data.augment import Augment
from fgvr.data.collate import SFTCollate, SFTEncode
from fgvr.data.tasks import Task
from fgvr.datamodules.base import ShardSource
from fgvr.datamodules.prompts import AskingData


class SFTData(AskingData):
    """Packs each global batch into micro-batches of at most `micro_batch_tokens`, in rows of about `row_tokens`.

    The tokens of a micro-batch are those computed, padding included. A sequence longer than `micro_batch_tokens` is
    quarantined, never cut. Short rows keep dense attention cheap; varlen and flash attention compute a micro-batch as
    one row without padding, whatever its rows are. `augment` is off unless asked for. The other options are
    `ShardDataModule`'s.
    """

    def __init__(
        self,
        train: list[ShardSource],
        task: Task | None = None,
        *,
        micro_batch_tokens: int = 8192,
        row_tokens: int = 512,
        augment: Augment = Augment(),  # noqa: B008  (frozen)
        **options: Any,
    ) -> None:
        super().__init__(train, task, **options)
        self.micro_batch_tokens, self.row_tokens, self.augment = micro_batch_tokens, row_tokens, augment

    def train_encode(self) -> SFTEncode:
        return SFTEncode(self.processor, self.task, self.micro_batch_tokens, self.augment)

    def train_collate(self) -> SFTCollate:
        return SFTCollate(self.processor.padding_token, self.micro_batch_tokens, self.row_tokens)
