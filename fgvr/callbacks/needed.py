"""Callbacks that a config must name, since a run without them would end with nothing to show, or must not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from lightning.pytorch import Callback, LightningDataModule, LightningModule
from lightning.pytorch.callbacks import Timer

from fgvr.callbacks.collapse_watch import CollapseWatch, refuse_other_module
from fgvr.callbacks.judge_validation import JudgeValidation
from fgvr.callbacks.option_refresh import OptionRefresh, refuse_without_options
from fgvr.callbacks.rollout_generation import RolloutGeneration
from fgvr.callbacks.triplets import TripletLogging, refuse_other_data
from fgvr.data.closed_world import ClosedWorld
from fgvr.datamodules import ShardDataModule, TripletData
from fgvr.datamodules.optioned import check_options
from fgvr.errors import UserError
from fgvr.modules import GRPO, DiVEk, PolicyModule


def refuse_timer(class_paths: Iterable[str]) -> None:
    """Raises UserError for Lightning's Timer, which counts the time of all jobs of a run together."""
    if any(path.rpartition(".")[2] == Timer.__name__ for path in class_paths):
        raise UserError(
            "trainer.callbacks must hold no Timer, whose time goes on from one job to the next until nothing is "
            "trained any more: give trainer.max_time, the time of one job."
        )


def refuse_without(
    callbacks: Sequence[Callback], model: LightningModule, data: LightningDataModule, trains: bool, validates: bool
) -> None:
    """Raises UserError when a callback that this run cannot do without is missing, or one has nothing to look at."""
    if not isinstance(model, PolicyModule) or not isinstance(data, ShardDataModule):
        return
    if trains and isinstance(model, GRPO) and not any(isinstance(one, RolloutGeneration) for one in callbacks):
        raise UserError(_missing("RolloutGeneration", f"{type(model).__name__} learns from rollouts"))
    for one in callbacks if trains else ():  # before the start is scored, which takes minutes
        if isinstance(one, CollapseWatch):
            refuse_other_module(model)
        if isinstance(one, TripletLogging):
            refuse_other_data(data)
        if isinstance(one, OptionRefresh):
            refuse_without_options(data, model)
    if trains:
        _refuse_options(model, data)
    counted = isinstance(data, TripletData) and data.similarity is not None and data.similarity.decay is not None
    if trains and counted and not any(isinstance(one, TripletLogging) for one in callbacks):
        raise UserError(_missing("TripletLogging", "it tells the data what the policy confuses"))
    if validates and not any(isinstance(one, JudgeValidation) for one in callbacks):
        need = _missing("JudgeValidation", "the answers of a validation or test are judged")
        raise UserError(f"{need}, or switch validation off with --trainer.limit_val_batches 0." if trains else need)


def _refuse_options(model: PolicyModule, data: ShardDataModule) -> None:
    """Raises UserError for options that cannot be trained on, and where a choice among them is not what is asked."""
    asked = getattr(data, "train_task", data.task)
    if isinstance(model, DiVEk) and not isinstance(asked, ClosedWorld):
        raise UserError(
            f"DiVEk practises choices, but training asks {type(asked).__name__}: let data.init_args.train_task be "
            "fgvr.data.ClosedWorld"
        )
    check_options(data.train, data.train_part, needed=isinstance(model, DiVEk))


def _missing(name: str, need: str) -> str:
    return f"trainer.callbacks must hold a {name}, since {need}, and this config has none: add fgvr.callbacks.{name}"
