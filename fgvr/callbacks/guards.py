"""Callbacks that stand before all others in every run: so that it ends, with a sentence, whatever befalls it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lightning.pytorch import Callback, LightningModule

from fgvr.callbacks.beats import Beats
from fgvr.callbacks.checkpoints import RunCheckpoints
from fgvr.callbacks.drift_watch import DriftWatch
from fgvr.callbacks.early_stops import EarlyStopsGoOn
from fgvr.callbacks.failures import EndTogether
from fgvr.callbacks.job_time import JobTime
from fgvr.callbacks.preemption import Preemption
from fgvr.callbacks.same_weights import SameWeights
from fgvr.modules import GRPO
from fgvr.runs.folder import RunFolder


def guards(
    run: RunFolder, model: LightningModule, others: Sequence[Callback], trains: bool, max_time: Any
) -> list[Callback]:
    """Those of this run, without what is among its `others` already. `max_time` is the limit of a job's time."""
    first: list[Callback] = [EndTogether(), Beats()]
    if trains and run.compare_every is not None:
        first.append(SameWeights(run.compare_every))
    if trains and isinstance(model, GRPO) and not any(isinstance(one, DriftWatch) for one in others):
        first.append(DriftWatch())
    saver = next((one for one in others if isinstance(one, RunCheckpoints)), None)
    if saver is not None:
        first += [Preemption(), EarlyStopsGoOn()]
    if trains and max_time is not None:
        first.append(JobTime(max_time, saver))
    return first
