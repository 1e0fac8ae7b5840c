"""Examples as prompts alone: for validation, and to be answered in reinforcement learning."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cached_property
from typing import Any

from lightning.pytorch.trainer.states import TrainerFn

from fgvr.data.closed_world import ClosedWorld
from fgvr.data.collate import PromptCollate, PromptEncode
from fgvr.data.control_tokens import refuse_control_tokens
from fgvr.data.tasks import Task
from fgvr.datamodules.base import ShardDataModule, ShardSource
from fgvr.datamodules.optioned import Optioned
from fgvr.datamodules.partners import TrainSet
from fgvr.datamodules.renewed import Renewed, order_over
from fgvr.datamodules.shard_source import held_out_classes
from fgvr.errors import refuse_below
from fgvr.shards.loading import Encode, StepLoader
from fgvr.shards.order import ShuffledOrder

log = logging.getLogger(__name__)


class AskingData(ShardDataModule):
    """A stream whose task learns the taxonomy of the sets, and which asks and does not tell in validation and test.

    `train_task` is what training asks where that differs from `task`, which validation, test and prediction go on
    asking: choices are practised, and judged is the name that is given freely. It shows no class that is held out of
    training. Raises UserError when the model's chat template and the task do not go together, or when the task's
    question or a name of the taxonomy spells one of the tokenizer's control tokens.
    """

    def __init__(
        self, train: list[ShardSource], task: Task | None = None, *, train_task: Task | None = None, **options: Any
    ) -> None:
        super().__init__(train, task, **options)
        self._train_task = train_task

    @property
    def train_task(self) -> Task:
        """What is asked in training."""
        return self.task if self._train_task is None else self._train_task

    def setup(self, stage: str) -> None:
        super().setup(stage)
        self.task = self._ready(self.task)
        if self._train_task is not None:
            self._train_task = self._ready(self._train_task)
        if stage == "fit" and isinstance(self.train_task, ClosedWorld) and self.train_task.held_out:
            log.info("%d classes are held out of training: no option is one of these.", len(self.train_task.held_out))
        if self.processor.opening:
            log.info("The chat template begins every reply with %r: it counts as part of it.", self.processor.opening)
        spelt_in = self.processor.control_tokens_in
        refuse_control_tokens("a rank of the taxonomy", self.taxonomy.ranks, spelt_in)
        refuse_control_tokens("a name of the taxonomy", self.taxonomy.lineage, spelt_in)

    def _ready(self, task: Task) -> Task:
        """The task, knowing the taxonomy and the chat template."""
        refuse_control_tokens("the task's question", [task.question], self.processor.control_tokens_in)
        bound = task.within(self.branch).bind(self.taxonomy).opened(self.processor.opening)
        return bound.holding_out(held_out_classes(self.train, self._all_folders()))

    def eval_encode(self) -> PromptEncode:
        return PromptEncode(self.processor, self.task)

    def eval_collate(self) -> PromptCollate:
        return PromptCollate(self.processor.padding_token, self.processor.image_token)


class PromptData(AskingData):
    """Prompts to be answered, with their examples; `batch_size` counts them per rollout batch over all ranks.

    `begins`, where it is set, is told each epoch as it begins, before a photo of it is read: whoever set it may `use`
    other options from then on. A prompt longer than `max_prompt_tokens` is quarantined, never cut. The other options
    are those of `AskingData` and `ShardDataModule`.
    Raises UserError unless `max_prompt_tokens` is positive.
    """

    def __init__(
        self,
        train: list[ShardSource],
        task: Task | None = None,
        *,
        batch_size: int = 16,
        max_prompt_tokens: int = 4096,
        **options: Any,
    ) -> None:
        super().__init__(train, task, batch_size=batch_size, **options)
        refuse_below(1, "data", max_prompt_tokens=max_prompt_tokens)
        self.max_prompt_tokens = max_prompt_tokens
        self.begins: Callable[[int], None] | None = None
        self.renewed: Renewed | None = None

    def train_encode(self) -> Encode[Any]:
        return PromptEncode(self.processor, self.train_task, self.max_prompt_tokens)

    def train_collate(self) -> PromptCollate:
        return self.eval_collate()

    def train_dataloader(self) -> StepLoader[Any]:
        stream = super().train_dataloader()
        stream.links.begins = self._begin
        return stream

    @cached_property
    def begun_with(self) -> tuple[list[TrainSet], ShuffledOrder]:
        """The sets with the options that the run was given, and their order."""
        return self.train_sets, self.order

    def in_use(self, number: int) -> Optioned | None:
        """The photos of a set that are trained on, each with its options; None for a set without options."""
        found = self.train_sets[number]
        return found if isinstance(found, Optioned) else None

    def use(self, renewed: Renewed) -> None:
        """Trains on these options from the epoch on that begins; they go into checkpoints.

        An epoch stays as long as it was.
        """
        first, order = self.begun_with
        self.renewed = renewed
        self.train_sets = renewed.sets(first)
        self.order = order_over(order, self.train_sets)
        if self.stream is not None:
            self.stream.renew(self.train_sets, self.order)

    def state_dict(self) -> dict[str, Any]:
        state = super().state_dict()
        return state if not state or self.renewed is None else {**state, "renewed": self.renewed.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        trains = self.trainer is None or self.trainer.state.fn == TrainerFn.FITTING
        if trains and "renewed" in state_dict:
            self.use(Renewed.from_state(state_dict["renewed"]))
        super().load_state_dict(state_dict)

    def _begin(self, epoch: int) -> None:
        if self.begins is not None:
            self.begins(epoch)
