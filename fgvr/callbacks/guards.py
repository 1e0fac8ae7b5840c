"""Callbacks that stand before all others in every run: so that it ends, with a sentence, whatever befalls it."""

from __future__ import annotations

from collections.abc import Sequence

from lightning.pytorch import Callback, LightningModule

from fgvr.callbacks.beats import Beats
from fgvr.callbacks.drift_watch import DriftWatch
from fgvr.callbacks.failures import EndTogether
from fgvr.callbacks.same_weights import SameWeights
from fgvr.modules import GRPO
from fgvr.runs.folder import RunFolder


def guards(run: RunFolder, model: LightningModule, listed: Sequence[Callback], trains: bool) -> list[Callback]:
    """Those of this run, without what the config has `listed` itself."""
    first: list[Callback] = [EndTogether(), Beats()]
    if trains and run.compare_every is not None:
        first.append(SameWeights(run.compare_every))
    if trains and isinstance(model, GRPO) and not any(isinstance(one, DriftWatch) for one in listed):
        first.append(DriftWatch())
    return first
