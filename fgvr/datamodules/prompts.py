"""Examples as prompts alone: for validation, and to be answered in reinforcement learning."""

from __future__ import annotations

import logging
from typing import Any

from fgvr.data.collate import PromptCollate, PromptEncode
from fgvr.data.control_tokens import refuse_control_tokens
from fgvr.data.tasks import Task
from fgvr.datamodules.base import ShardDataModule, ShardSource
from fgvr.errors import refuse_below
from fgvr.shards.loading import Encode

log = logging.getLogger(__name__)


class AskingData(ShardDataModule):
    """A stream whose task learns the taxonomy of the sets, and which asks and does not tell in validation and test.

    Raises UserError when the model's chat template and the task do not go together, or when the task's question or a
    name of the taxonomy spells one of the tokenizer's control tokens.
    """

    def setup(self, stage: str) -> None:
        super().setup(stage)
        self.task = self._ready(self.task)
        if self.processor.opening:
            log.info("The chat template begins every reply with %r: it counts as part of it.", self.processor.opening)
        spelt_in = self.processor.control_tokens_in
        refuse_control_tokens("a rank of the taxonomy", self.taxonomy.ranks, spelt_in)
        refuse_control_tokens("a name of the taxonomy", self.taxonomy.lineage, spelt_in)

    def _ready(self, task: Task) -> Task:
        """The task, knowing the taxonomy and the chat template."""
        refuse_control_tokens("the task's question", [task.question], self.processor.control_tokens_in)
        return task.bind(self.taxonomy).opened(self.processor.opening)

    def eval_encode(self) -> PromptEncode:
        return PromptEncode(self.processor, self.task)

    def eval_collate(self) -> PromptCollate:
        return PromptCollate(self.processor.padding_token, self.processor.image_token)


class PromptData(AskingData):
    """Prompts to be answered, with their examples; `batch_size` counts them per rollout batch over all ranks.

    `train_task` is what is asked in training where that differs from `task`, which validation, test and prediction go
    on asking: DiVE-k practises choices and is judged by the names it gives.
    A prompt longer than `max_prompt_tokens` is quarantined, never cut. The other options are `ShardDataModule`'s.
    Raises UserError unless `max_prompt_tokens` is positive.
    """

    def __init__(
        self,
        train: list[ShardSource],
        task: Task | None = None,
        *,
        train_task: Task | None = None,
        batch_size: int = 16,
        max_prompt_tokens: int = 4096,
        **options: Any,
    ) -> None:
        super().__init__(train, task, batch_size=batch_size, **options)
        refuse_below(1, "data", max_prompt_tokens=max_prompt_tokens)
        self.max_prompt_tokens = max_prompt_tokens
        self._train_task = train_task

    def setup(self, stage: str) -> None:
        super().setup(stage)
        if self._train_task is not None:
            self._train_task = self._ready(self._train_task)

    @property
    def train_task(self) -> Task:
        """What is asked in training."""
        return self.task if self._train_task is None else self._train_task

    def train_encode(self) -> Encode[Any]:
        return PromptEncode(self.processor, self.train_task, self.max_prompt_tokens)

    def train_collate(self) -> PromptCollate:
        return self.eval_collate()
