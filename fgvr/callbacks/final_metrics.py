"""The figures a run ends with: taken from its last validation, written to a file, printed as a table."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from rich.console import Console
from rich.table import Table

import fgvr
from fgvr.data.manifest import write_whole

FIRST = ("exact", "order", "family", "genus", "species")


class LastFigures(Callback):
    """Remembers what the latest validation or test logged, and at which optimiser step; None before the first."""

    def __init__(self) -> None:
        self.figures: dict[str, float] = {}
        self.step: int | None = None
        self._before: dict[str, Any] = {}

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # in mid-training the trainer's figures include the training's own, which this validation leaves as they are
        self._before = dict(trainer.callback_metrics)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking:
            return
        now = trainer.callback_metrics
        self.figures = {name: float(value) for name, value in now.items() if self._before.get(name) is not value}
        self.step = trainer.global_step

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.on_validation_start(trainer, pl_module)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.on_validation_end(trainer, pl_module)


def write_figures(path: Path, figures: Mapping[str, float], **facts: float | int | None) -> None:
    """One flat JSON object, whole or not at all; what is not a finite number is written as null."""
    content: dict[str, Any] = {name: value if math.isfinite(value) else None for name, value in figures.items()}
    content |= {**facts, "fgvr": fgvr.__version__}
    write_whole(path, (json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n").encode())


def print_figures(figures: Mapping[str, float], title: str, console: Console | None = None) -> None:
    """A table with a row per figure and a column per cohort ("seen/exact" stands in column "seen").

    What matters most comes first; rows that say nothing and the facts about the data stay out.
    """
    rows: dict[str, dict[str, float]] = {}
    for name, value in figures.items():
        cohort, _, figure = name.rpartition("/")
        if not name.startswith("data/"):
            rows.setdefault(figure, {})[cohort] = value
    for figure in [*rows]:
        if figure not in FIRST and not any(value and not math.isnan(value) for value in rows[figure].values()):
            del rows[figure]
    order = [figure for figure in FIRST if figure in rows] + [figure for figure in rows if figure not in FIRST]
    cohorts = sorted({cohort for row in rows.values() for cohort in row})
    table = Table(title=title)
    table.add_column("figure")
    for cohort in cohorts:
        table.add_column(cohort or "value", justify="right")
    for figure in order:
        row = rows[figure]
        table.add_row(figure, *(_number(row[cohort]) if cohort in row else "" for cohort in cohorts))
    (console or Console()).print(table)


def _number(value: float) -> str:
    if not math.isfinite(value):
        return "none"
    return f"{value:,.0f}" if value == int(value) and abs(value) > 1 else f"{value:.4f}"
