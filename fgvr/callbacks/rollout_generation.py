"""When rollouts are made: before every training step, from the batch of prompts it is given."""

from __future__ import annotations

import logging
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from fgvr.callbacks.checkpoints import RunCheckpoints
from fgvr.callbacks.step_seeds import seed_of_run
from fgvr.datamodules import PromptData, ShardDataModule
from fgvr.errors import UserError, refuse_no_share
from fgvr.modules import GRPO
from fgvr.ranks import Ranks, of_all_ranks
from fgvr.rollouts import Collector, InProcess, RolloutEngine
from fgvr.rollouts.collector import BrokenOff
from fgvr.rollouts.updates import UpdatePlan
from fgvr.signals import asked
from fgvr.types import PromptBatch

log = logging.getLogger(__name__)


class RolloutGeneration(Callback):
    """Samples, scores and filters groups, and gives them to the module that learns from them.

    `engine` does the sampling; `seed` decides what is sampled; None takes the run's. `max_unscorable` is the share of
    groups without any reward past which training stops. Raises UserError for a module that does not learn from
    rollouts, and for a datamodule without a task, a taxonomy and a batch size.
    """

    def __init__(
        self,
        engine: RolloutEngine = InProcess(),  # noqa: B008 - keeps nothing from one run to the next
        seed: int | None = None,
        max_unscorable: float = 0.1,
    ) -> None:
        refuse_no_share("rollouts", max_unscorable=max_unscorable)
        self.engine, self.seed, self.max_unscorable = engine, seed, max_unscorable
        self._collector: Collector | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        data: Any = getattr(trainer, "datamodule", None)
        if isinstance(data, ShardDataModule) and not isinstance(data, PromptData):
            raise UserError(
                f"rollouts answer prompts, and {type(data).__name__} gives something else: use "
                "fgvr.datamodules.PromptData"
            )

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        data: Any = getattr(trainer, "datamodule", None)
        if not isinstance(pl_module, GRPO):
            raise UserError(f"rollouts are for GRPO and what is built on it, got {type(pl_module).__name__}")
        if not all(hasattr(data, name) for name in ("task", "taxonomy", "batch_size")):
            raise UserError(
                "rollouts need a datamodule with a task, a taxonomy and a batch size: use fgvr.datamodules.PromptData"
            )
        reward = pl_module.reward.bind(data.taxonomy)
        ranks = Ranks(trainer.world_size, of_all_ranks)
        ranks.agree(reward.check)
        self._collector = Collector(
            self.engine,
            getattr(data, "train_task", data.task),
            reward,
            pl_module.sampling,
            pl_module.advantage,
            UpdatePlan(
                pl_module.reduction,
                pl_module.sampling.max_new_tokens,
                pl_module.updates,
                pl_module.mask_truncated,
                every_group=pl_module.every_group,
                micro_batch_tokens=pl_module.micro_batch_tokens,
                conditioning=pl_module.conditioning,
                negatives=pl_module.negatives,
                compare=pl_module.compare,
            ),
            data.batch_size,
            pl_module.group_filter,
            self.seed if self.seed is not None else seed_of_run(trainer),
            self.max_unscorable,
            ranks,
            lambda: _breaks_off(trainer),
        )

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: PromptBatch, batch_idx: int
    ) -> None:
        assert self._collector is not None
        assert isinstance(pl_module, GRPO)
        pl_module.last_rollouts = None  # its features need not lie in memory beside the next ones
        with trainer.precision_plugin.forward_context():
            try:
                pl_module.rollouts = self._collector.add(pl_module.trained_policy, batch)
            except BrokenOff:
                saver = _saver_of(trainer)
                assert saver is not None
                saver.leave_before_batch(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._collector is not None and self._collector.waiting:
            log.warning(
                "%d informative groups were sampled and not learned from: the run ended within a refill",
                self._collector.waiting,
            )

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if self._collector is not None:
            self._collector.close()
            self._collector = None

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self.teardown(trainer, pl_module, "fit")


def _breaks_off(trainer: Trainer) -> bool:
    """Whether this process is asked to end, and nothing is lost that could be saved later, or there is no time for it.

    A stream whose loader gives a batch that was begun once more, when it is resumed, is what ends so.
    """
    stop, saver = asked(), _saver_of(trainer)
    if not stop or saver is None or not isinstance(trainer.datamodule, ShardDataModule):  # pyright: ignore[reportAttributeAccessIssue]
        return False
    return not stop.waits or saver.can_leave_before_batch(trainer)


def _saver_of(trainer: Trainer) -> RunCheckpoints | None:
    callbacks: list[Callback] = trainer.callbacks  # pyright: ignore[reportAttributeAccessIssue]
    return next((one for one in callbacks if isinstance(one, RunCheckpoints)), None)
