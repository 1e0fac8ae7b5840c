"""The figures a run begins and ends with: taken from a validation, written to a file, printed as a table."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

import fgvr
from fgvr.checkpoints.format import read_object
from fgvr.errors import shown
from fgvr.runs.folder import RunFolder, Start
from fgvr.sources.base import COHORTS
from fgvr.types import Verdict
from fgvr.whole_files import sealed, write_whole

FIRST = ("exact", "order", "family", "genus", "species")
SUMMARY = (
    *("correctness", "specificity", "harmonic_mean", "validation_reward"),
    *("hierarchical_precision", "hierarchical_recall", "hca", "contradicted"),
    *("length", "length_exact", "length_others"),
    *("macro_correctness", "macro_specificity", "macro_harmonic_mean"),
    "n",
    *(verdict.name.lower() for verdict in reversed(Verdict)),
    *("several", "parse_failures", "unjudged", "unread", "agreement", "kappa", "agreement_n"),
)
START_FILE = "start_metrics.json"
START = "start/"
PIPED = 120  # columns of a table that goes to a file
Column = tuple[str, bool]  # a cohort, and whether it is the end of the run that it tells of

log = logging.getLogger(__name__)


class LastFigures(Callback):
    """Remembers what the latest validation or test logged, and at which optimiser step; None before the first.

    `facts` say within which branch of the taxonomy it was, where it was not the whole.
    """

    def __init__(self) -> None:
        self.figures: dict[str, float] = {}
        self.step: int | None = None
        self.facts: dict[str, str] = {}
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
        branch = getattr(getattr(trainer, "datamodule", None), "branch", None)
        self.facts = {} if branch is None else {"within": branch.node}

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.on_validation_start(trainer, pl_module)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.on_validation_end(trainer, pl_module)


def score_start(
    run: RunFolder, start: Start, writes: bool, evaluate: Callable[[], Mapping[str, float]]
) -> dict[str, float | None]:
    """What the weights scored before the run trained them, as `start/KEY`, for the figures at its end.

    `evaluate` gives it and it is kept in start_metrics.json, where a run that goes on from a checkpoint of its own
    finds it; without one the weights are those of the start, and are scored again. `writes` is true in the one process
    that may write. Raises UserError for a damaged file.
    """
    file = run.dir / START_FILE
    goes_on = start.checkpoint is not None and start.checkpoint.resolve().parent == run.checkpoints.resolve()
    if not goes_on:
        log.info("The start is scored: %s.", start.checkpoint or "the model as the config builds it")
        figures = evaluate()
        if writes and figures:
            write_figures(file, figures)
        elif writes:
            file.unlink(missing_ok=True)
    elif writes and not file.exists():
        log.warning(
            "%s has checkpoints but no %s: what it scored before it trained is not known, and its final figures will "
            "stand without.",
            run.dir,
            START_FILE,
        )
    if not file.exists():
        return {}
    remedy = "remove it, and the run ends without the figures of its start"
    content = read_object(file, "fgvr", str, remedy)
    return {f"{START}{name}": value for name, value in content.items() if name != "fgvr"}


def write_figures(path: Path, figures: Mapping[str, float], **facts: float | int | str | None) -> None:
    """One flat JSON object with its digest, whole or not at all; what is not a finite number is written as null."""
    content: dict[str, Any] = {name: value if math.isfinite(value) else None for name, value in figures.items()}
    content |= {**facts, "fgvr": fgvr.__version__}
    write_whole(path, sealed(content, indent=1))


def print_figures(figures: Mapping[str, float | None], title: str, console: Console | None = None) -> None:
    """A table with a row per figure and a column per cohort ("seen/exact" stands in column "seen").

    What matters most comes first; rows that say nothing and the facts about the data stay out. `start/KEY` stands left
    of KEY, in a column of its own. An interval (NAME_low, NAME_high) stands in the cell of its figure, where there is
    room for all of them. What belongs to no cohort has the last rows.
    """
    rows: dict[str, dict[Column, float]] = {}
    for name, value in figures.items():
        after, figure = not name.startswith(START), name.removeprefix(START)
        cohort, _, rest = figure.partition("/")
        column, row = (cohort, rest) if cohort in COHORTS else ("", figure)
        if cohort != "data" and (column or after):
            rows.setdefault(row, {})[column, after] = math.nan if value is None else value
    console = console or Console()
    if not console.is_terminal:
        console.width = max(console.width, PIPED)
    table = _table(rows, title, intervals=True)
    if console.measure(table, options=console.options.update(width=10_000)).maximum > console.width:
        table = _table(rows, title, intervals=False)
    console.print(table)


def _table(rows: Mapping[str, Mapping[Column, float]], title: str, intervals: bool) -> Table:
    folded = {end for row in rows for end in _ends(row) if end in rows}
    said = {row for row, cells in rows.items() if any(value and not math.isnan(value) for value in cells.values())}
    listed = [row for row in rows if row not in folded and (row in FIRST or row in said)]
    listed.sort(key=lambda row: _rank(row, any(column for column, _ in rows[row])))
    columns = sorted({column for row in listed for column in rows[row]})
    table = Table(title=title)
    table.add_column("figure", no_wrap=True)
    for cohort, after in columns:
        table.add_column(cohort or "value" if after else f"{cohort} start", justify="right")
    for row in listed:
        table.add_row(escape(shown(row)), *(_cell(rows, row, column, intervals) for column in columns))
    return table


def _ends(figure: str) -> tuple[str, str]:
    """The names of the ends of a figure's interval."""
    return f"{figure}_low", f"{figure}_high"


def _rank(row: str, of_cohorts: bool) -> tuple[int, int]:
    """Where a row stands; equals stay as they came. What has no slash and is not known here is a taxonomy's rank."""
    if not of_cohorts:
        return 6, 0
    for place, names in ((0, FIRST), (2, SUMMARY)):
        if row in names:
            return place, names.index(row)
    kind, *rest = row.split("/")
    if kind == "best_of" and rest and rest[0].isdecimal():
        return 4, int(rest[0])
    return (5 if kind == "sampled" else 3, 0) if rest else (1, 0)


def _cell(rows: Mapping[str, Mapping[Column, float]], row: str, column: Column, intervals: bool) -> str:
    if column not in rows[row]:
        return ""
    low, high = (rows.get(end, {}).get(column, math.nan) for end in _ends(row))
    return _number(rows[row][column]) + (f" ({low:.2f}-{high:.2f})" if intervals and column[1] and low <= high else "")


def _number(value: float) -> str:
    if not math.isfinite(value):
        return "none"
    return f"{value:,.0f}" if value == int(value) and abs(value) > 1 else f"{value:.4f}"
