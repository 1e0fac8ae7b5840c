"""When options are mined anew by the policy as it is: as an epoch of training begins."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from fgvr.callbacks.step_seeds import seed_of_run
from fgvr.data.closed_world import ClosedWorld
from fgvr.datamodules import PromptData, TripletData
from fgvr.datamodules.optioned import Optioned
from fgvr.datamodules.renewed import Renewed
from fgvr.errors import UserError, refuse_below
from fgvr.models.sampling import Sampling
from fgvr.modules import PolicyModule
from fgvr.options.deriving import Rules, derive, read_options, write_options
from fgvr.options.refreshed import Refreshed, figures_of, sentence_of
from fgvr.options.store import Made, Sampled, remove_if_of_others
from fgvr.ranks import Ranks, of_all_ranks
from fgvr.rollouts import InProcess, RolloutEngine
from fgvr.rollouts.mining import Miner, digest_of, made_of, refuse_positives, weights_digest
from fgvr.shards.order import key_of, permutation
from fgvr.signals import Stop, holding_at_most
from fgvr.similarity import Classes
from fgvr.taxonomy.tree import Taxonomy

FOLDER = "options"
log = logging.getLogger(__name__)


class OptionRefresh(Callback):
    """Mines the options that are trained on anew, by the policy as it is, as every `every`-th epoch begins.

    Asked are the photos that had options when the run began, or `photos` of each set by turns. They are asked the
    data's task, with `sampling` by the `engine`, `rows` replies at a time; options are made by the `rules`, without any
    by those of the file that they take the place of. A photo that has become easy is left out until it is asked again;
    one that has no options now for another reason of `mine` keeps those that it has. `seed` decides what is sampled;
    None takes the run's.

    Keeps replies and options in options/step-00000100-epoch-0001/ of the Trainer's root folder. Logs, as
    `options/{figure}`, staleness (how far the options in use had aged: Jaccard distance, from 0 to 1), rank_overlap and
    first_changed with it, recall of the new options and recall_before of the old ones over the same photos; how many
    photos are asked, easy, not_renewed, and in use (photos); and tokens. Raises UserError without a `PromptData` whose
    sets have options, for a task that is not open, and for numbers below 1.
    """

    def __init__(
        self,
        every: int = 1,
        photos: int | None = None,
        sampling: Sampling = Sampling(20, 1.0, 1024),  # noqa: B008 - settings only
        rules: Rules | None = None,
        engine: RolloutEngine = InProcess(),  # noqa: B008 - keeps nothing from one refresh to the next
        rows: int = 320,
        seed: int | None = None,
    ) -> None:
        refuse_below(1, "refreshed options", every=every, photos=photos, rows=rows)
        refuse_positives(sampling)
        self.every, self.photos, self.rows = every, photos, rows
        self.sampling, self.rules, self.engine, self.seed = sampling, rules, engine, seed

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage == "fit":
            refuse_without_options(getattr(trainer, "datamodule", None), pl_module)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        data_of(trainer).begins = partial(self._begin, trainer, pl_module)

    def _begin(self, trainer: Trainer, module: LightningModule, epoch: int) -> None:
        data = data_of(trainer)
        if epoch == 0 or epoch % self.every or (data.renewed is not None and data.renewed.epoch == epoch):
            return
        assert isinstance(module, PolicyModule)
        began = time.perf_counter()
        refresh = _Refresh(self, trainer, data, module, epoch)
        with holding_at_most(Stop.CTRL_C), trainer.precision_plugin.forward_context():
            found = [refresh.mined(number) for number in range(len(data.train))]
        asked = [one for one in found if one is not None]
        data.use(Renewed(epoch, tuple(None if one is None else one.now for one in found)))
        figures = {f"options/{name}": value for name, value in figures_of(asked).items()}
        figures["time/option_refresh"] = time.perf_counter() - began
        log.info(sentence_of(asked, trainer.global_step))
        for logger in trainer.loggers:
            logger.log_metrics(figures, step=trainer.global_step)


@dataclass(frozen=True)
class _Refresh:
    """One refresh of a run's options, set by set."""

    by: OptionRefresh
    trainer: Trainer
    data: PromptData
    module: PolicyModule
    epoch: int

    def mined(self, number: int) -> Refreshed | None:
        """The options of one set of data.train; None where it has none. A collective call."""
        first, used, file = self.data.begun_with[0][number], self.data.in_use(number), self.data.train[number].options
        if not isinstance(first, Optioned) or used is None or file is None:
            return None
        numbers, folder = self._asked(first, number), self._folder(number)
        made, sampled = self._sampled(first, number, numbers, folder / "replies.jsonl")
        rules = self.by.rules or Rules(**read_options(Path(file))[0]["rules"])
        rules = rules if self.data.within is None else replace(rules, within=self.data.within)
        derived = derive(made, sampled, rules, classes_of(made))
        if self.trainer.is_global_zero:
            write_options(folder / "options.jsonl", made, rules, derived)
        return Refreshed.of(used.choices, sampled, derived)

    def _sampled(self, first: Optioned, number: int, numbers: Sequence[int], file: Path) -> tuple[Made, list[Sampled]]:
        """Goes on with what the same weights were asked before the run was killed; all else is asked anew."""
        by, policy, task = self.by, self.module.trained_policy, self.data.task
        ranks, rank = Ranks(self.trainer.world_size, of_all_ranks), self.trainer.global_rank
        seed = key_of(by.seed if by.seed is not None else seed_of_run(self.trainer), "refresh", self.epoch, number)
        weights = digest_of(sorted({*ranks.gather([weights_digest(policy)])}))
        at_once = max(1, by.rows // by.sampling.group_size)
        made = made_of(weights, task, policy.config.pixels, by.sampling, seed, first.whole, numbers, at_once)
        if rank == 0:
            remove_if_of_others(file, made)
        miner = Miner(policy, by.engine, task, by.sampling, seed, self.data.max_prompt_tokens)
        return made, miner.mine_together(first.whole, numbers, file, made, ranks, rank)

    def _folder(self, number: int) -> Path:
        at = f"step-{self.trainer.global_step:08}-epoch-{self.epoch:04}"
        folder = Path(self.trainer.default_root_dir) / FOLDER / at
        return folder / f"set-{number}" if len(self.data.train) > 1 else folder

    def _asked(self, first: Optioned, number: int) -> list[int]:
        """The photos that are asked now: all, or the next ones of a round through them, in the order of the set."""
        count, most = len(first), self.by.photos
        if most is None or most >= count:
            return list(first.numbers)
        turn = self.epoch // self.by.every - 1
        order = permutation(key_of(self.data.seed, "refreshed", number), count).tolist()
        return sorted(first.numbers[order[(turn * most + place) % count]] for place in range(most))


def refuse_without_options(data: Any, module: LightningModule) -> None:
    """Raises UserError where no options can be mined anew: for other data or modules, another task, without any now."""
    if not isinstance(data, PromptData) or isinstance(data, TripletData) or not isinstance(module, PolicyModule):
        raise UserError(
            f"options are mined anew for fgvr.datamodules.PromptData, by a module of fgvr.modules, got "
            f"{type(data).__name__} and {type(module).__name__}"
        )
    if isinstance(data.task, ClosedWorld):
        raise UserError(
            "options are mined by asking for names, but data.init_args.task is ClosedWorld: put what training asks "
            "into data.init_args.train_task, and fgvr.data.OpenWorld into task"
        )
    if not any(entry.options for entry in data.train):
        raise UserError(
            "options that are mined anew take the place of others, but no set of data.train has any: mine the first "
            "with `python -m fgvr mine` and name the file in options"
        )


def classes_of(made: Made) -> Classes:
    """Those that replies may name, without photos: mined names need none."""
    return Classes(tuple(sorted(made.classes)), Taxonomy.from_dict(made.taxonomy), lambda name, count: ())


def data_of(trainer: Trainer) -> PromptData:
    data: Any = trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
    assert isinstance(data, PromptData)
    return data
