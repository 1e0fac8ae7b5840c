"""What the policy said of the photos it learns from and what that was worth: all in a file, some in pictures."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from fgvr.callbacks.sample_log import RowLog
from fgvr.callbacks.showing import drop_later_pictures, show, view_of
from fgvr.callbacks.steps import passes
from fgvr.data.collate import partners_of
from fgvr.data.images import View
from fgvr.errors import UserError
from fgvr.pictures.cards import group_card
from fgvr.pictures.tables import rollout_table
from fgvr.types import RolloutBatch, ScoredGroup, Verdict

KEYS = frozenset({"epoch", "step", "global_step", "place", "uid", "completion", "reward", "advantage"})


class SampleLogging(Callback):
    """Writes the rollouts that were learned from into the Trainer's root folder, and shows some as pictures.

    rollouts.jsonl (rollouts.rankN.jsonl where there are several ranks) gets one line per completion, as
    `completion_rows` gives them, for every `every_jsonl`-th batch of an epoch; a resumed run first drops the lines that
    its checkpoint does not know of. The first `groups` groups that are learned from are drawn under rollouts/0,
    rollouts/1 ... with their full text in a table, at the first step and whenever a multiple of `every` optimiser steps
    is passed; `show` says where they go. Raises UserError for counts below 1 and, as training starts, without a data
    module that streams shards.
    """

    def __init__(self, every: int = 50, groups: int = 2, every_jsonl: int = 1) -> None:
        if min(every, groups, every_jsonl) < 1:
            raise UserError(
                f"every, groups and every_jsonl must be 1 or more, got {every}, {groups} and {every_jsonl}: leave "
                "SampleLogging out where nothing is to be shown"
            )
        self.every, self.groups, self.every_jsonl = every, groups, every_jsonl
        self._log = RowLog("rollouts", KEYS)
        self._last_step = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._log.open(trainer)
        if trainer.is_global_zero:
            drop_later_pictures(trainer)
        self._last_step = trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        before, now = self._last_step, trainer.global_step
        self._last_step = now
        rollouts: RolloutBatch | None = getattr(pl_module, "last_rollouts", None)
        if rollouts is None:
            return
        if batch.record.step % self.every_jsonl == 0:
            place = {"epoch": batch.record.epoch, "step": batch.record.step, "global_step": now}
            place["learned"] = now > before
            self._log.write(place | row for group in rollouts.groups for row in completion_rows(group))
        if now == before:  # further batches refill this one before there is an update
            return
        if trainer.is_global_zero and (before == 0 or passes(self.every, before, now)):
            show_groups(trainer, rollouts.groups[: self.groups], view_of(pl_module))

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._log.close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._log.close()


def completion_rows(group: ScoredGroup) -> Iterator[dict[str, Any]]:
    """One row per completion, fit for JSON; a reward that could not be had, and the answer of none, are null.

    `place` is the example's position in the epoch's order, `length` in tokens. Where an example has partners, these are
    named by uid (`positive`, `negative`), and `photo` says whose photo the completion is about; `verdict` is that of a
    reward that judges, and `shown` are the options of a choice, in the order of the question. The callback adds the
    batch (`epoch`, `step`), the optimiser steps done after it, and whether it learned from the completion; where it did
    not, because others are to be sampled besides, what it kept is written once more with the batch that does.
    """
    rollout = group.rollout
    components = {name: values.tolist() for name, values in group.components.items()}
    partners = {role: partner.uid for role, partner in partners_of(rollout.example).items()}
    shown = {"shown": list(options)} if (options := rollout.example.extra.get("shown")) else {}
    scores = zip(group.rewards.tolist(), group.advantages.tolist(), strict=True)
    for n, (completion, answer, (reward, advantage)) in enumerate(
        zip(rollout.completions, group.answers, scores, strict=True)
    ):
        yield {
            "place": rollout.place,
            "uid": rollout.example.uid,
            "label": rollout.example.label,
            "completion": completion.text,
            "answer": answer.text if answer else None,
            "rewards": {name: _number(values[n]) for name, values in components.items()},
            "reward": _number(reward),
            "advantage": _number(advantage),
            "length": len(completion.ids),
            "truncated": completion.truncated,
            **({"photo": rollout.role_of(n), **partners} if partners else {}),
            **({"verdict": _verdict(group.verdicts[n])} if group.verdicts else {}),
            **shown,
        }


def show_groups(trainer: Trainer, groups: Sequence[ScoredGroup], view: View) -> None:
    """A picture and a table of each group; `view` is what the model was given of a photo."""
    named = {f"rollouts/{place}": group for place, group in enumerate(groups)}
    cards = {name: group_card(group, view) for name, group in named.items()}
    show(trainer, cards, {name: rollout_table(group) for name, group in named.items()})


def _verdict(verdict: Verdict | None) -> str | None:
    return None if verdict is None else str(verdict)


def _number(value: float) -> float | None:
    return round(value, 6) if math.isfinite(value) else None
