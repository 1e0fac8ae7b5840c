"""Examples as prompt and answer for supervised fine-tuning, and as prompts alone for validation."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from fgvr.data.augment import Augment
from fgvr.data.collate import SFTCollate, SFTEncode
from fgvr.data.tasks import Task
from fgvr.datamodules.base import ShardSource
from fgvr.datamodules.prompts import AskingData
from fgvr.errors import refuse_below
from fgvr.models.attention_choice import VARLEN
from fgvr.shards.manifest import load_manifest
from fgvr.shards.texts import RESPONSES

log = logging.getLogger(__name__)


class SFTData(AskingData):
    """Packs each global batch into micro-batches of at most `micro_batch_tokens`, in rows of about `row_tokens`.

    The tokens of a micro-batch are those computed, padding included. A sequence longer than `micro_batch_tokens` is
    quarantined, never cut. Short rows keep dense attention cheap; with varlen and flash attention a micro-batch is one
    row without padding, whatever `row_tokens` is. `augment` is off unless asked for. The other options are those of
    `AskingData` and `ShardDataModule`. A warning tells of stored responses that the task does not teach. Raises
    UserError for a number of tokens below 1.
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
        refuse_below(1, "data", micro_batch_tokens=micro_batch_tokens, row_tokens=row_tokens)
        self.micro_batch_tokens, self.row_tokens, self.augment = micro_batch_tokens, row_tokens, augment

    def setup(self, stage: str) -> None:
        super().setup(stage)
        if stage == "fit" and not self.train_task.think:
            self._say_unused_responses()

    def _say_unused_responses(self) -> None:
        for folder in dict.fromkeys(Path(entry.path) for entry in self.train):
            if responses := load_manifest(folder).notes.get(RESPONSES, 0):
                log.warning(
                    "%s pictures to train on in %s have a response, which is not taught: set "
                    "data.init_args.task.init_args.think true to teach it",
                    f"{responses:,}",
                    folder,
                )

    def train_encode(self) -> SFTEncode:
        return SFTEncode(self.processor, self.train_task, self.micro_batch_tokens, self.augment)

    def train_collate(self) -> SFTCollate:
        module: Any = None if self.trainer is None else self.trainer.lightning_module
        padded = module is None or module.policy_config.attention not in VARLEN
        return SFTCollate(self.processor.padding_token, self.micro_batch_tokens, self.row_tokens, padded)
