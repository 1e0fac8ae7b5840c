"""A run's figures as the Hub reads them: `.eval_results/*.yaml`, and the model-index at the head of a model's card.

The Hub shows `.eval_results` of data sets that are registered with it as benchmarks, and the model-index of any.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

import fgvr
from fgvr.errors import UserError
from fgvr.metrics.ladder import wilson
from fgvr.sources.base import COHORTS
from fgvr.whole_files import write_whole

SHARES = ("exact", "hca")  # of n photos: their interval follows from n
MEASURES = (
    "exact", "correctness", "specificity", "harmonic_mean", "hca", "hierarchical_precision", "hierarchical_recall",
)  # fmt: skip
FOLDER = ".eval_results"


@dataclass(frozen=True)
class Result:
    """One figure of a run: a value in [0, 1] over `n` photos of a cohort and split, with its 95 % interval if known."""

    dataset: str
    split: str
    cohort: str
    measure: str
    value: float
    n: int | None = None
    interval: tuple[float, float] | None = None

    def told(self) -> str:
        """What the figure is of, and how sure it is."""
        of = f"{self.measure}, " + ("" if self.n is None else f"{self.n} photos of ") + f"split {self.split}"
        sure = "" if self.interval is None else "; 95 % interval {:.4f} to {:.4f}".format(*self.interval)
        return f"{of}, {self.cohort} classes{sure}"


def refuse_unpublishable(benchmark: str | None, source: str | None) -> None:
    """Raises UserError for what the Hub takes for no data set and no address."""
    if benchmark is not None and not re.fullmatch(r"[\w.-]+/[\w.-]+", benchmark):
        raise UserError(f"benchmark must be a data set's id on the Hub, ORG/NAME, got {benchmark!r}: give it so")
    if source is not None and not re.fullmatch(r"https?://\S+", source):
        raise UserError(f"source must be the address of a page, https://..., got {source!r}: give it so")


def results_of(figures: Mapping[str, Any], dataset: str, split: str) -> list[Result]:
    """The measures among a run's figures: of each data set where there are several, else of `dataset`."""
    found, mixed = list[Result](), list[Result]()
    for name, value in sorted(figures.items()):
        owner, _, measure = name.rpartition("/")
        cohort, _, of = owner.partition("/")
        if cohort in COHORTS and measure in MEASURES and isinstance(value, int | float):
            (found if of else mixed).append(
                _result(figures, owner, of or dataset, split, cohort, measure, float(value))
            )
    return found or mixed


def _result(
    figures: Mapping[str, Any], owner: str, dataset: str, split: str, cohort: str, measure: str, value: float
) -> Result:
    n, low, high = (figures.get(f"{owner}/{name}") for name in ("n", f"{measure}_low", f"{measure}_high"))
    count = int(n) if isinstance(n, int | float) else None
    interval = None if low is None or high is None else (float(low), float(high))
    if interval is None and count and measure in SHARES:
        interval = wilson(round(value * count), count)
    return Result(dataset, split, cohort, measure, value, count, interval)


def write_results(
    folder: Path, results: Sequence[Result], date: datetime, benchmark: str | None = None, source: str | None = None
) -> None:
    """Writes `.eval_results/DATASET_SPLIT.yaml` for each data set and split; nothing where there are no results.

    `benchmark` is the data set's id on the Hub; without one its own name stands there. `source` is the page that the
    figures are attributed to.
    """
    for dataset, split in sorted({(one.dataset, one.split) for one in results}):
        entries = [
            EvalResultEntry(
                dataset_id=benchmark or dataset,
                task_id=f"{one.cohort}_{one.measure}",
                value=round(one.value, 4),
                date=date.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
                source_url=source,
                notes=f"{one.told()}; fgvr {fgvr.__version__}",
            )
            for one in results
            if (one.dataset, one.split) == (dataset, split)
        ]
        place = folder / FOLDER
        place.mkdir(exist_ok=True)
        text = yaml.safe_dump(eval_result_entries_to_yaml(entries), sort_keys=False, allow_unicode=True, width=120)
        write_whole(place / f"{_plain(dataset)}_{split}.yaml", text.encode())


def model_index(name: str, results: Sequence[Result], benchmark: str | None = None) -> list[dict[str, Any]]:
    """The results in the older form, at the head of README.md; empty without any."""
    groups = dict[tuple[str, str, str], list[Result]]()
    for one in results:
        groups.setdefault((one.dataset, one.split, one.cohort), []).append(one)
    entries = [
        {
            "task": {"type": "image-text-to-text", "name": "Fine-grained recognition"},
            "dataset": {"name": dataset, "type": benchmark or dataset, "config": cohort, "split": split},
            "metrics": [{"type": one.measure, "value": round(one.value, 4), "name": one.told()} for one in group],
        }
        for (dataset, split, cohort), group in groups.items()
    ]
    return [{"name": name, "results": entries}] if entries else []


def _plain(dataset: str) -> str:
    return re.sub(r"[^\w-]+", "_", dataset).strip("_").lower()
