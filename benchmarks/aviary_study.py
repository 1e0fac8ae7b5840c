"""Runs of several configurations over several seeds, side by side, and what they ended with: one table of intervals.

Every run is a real `fgvr fit` in a folder of its own, OUT/ARM/SEED; ended ones are kept, interrupted ones go on, so the
same line finishes a study that was cut off. Each arm is one yaml and those laid over it. The first arm is what the
others are compared with, seed by seed. Run: python benchmarks/aviary_study.py --config benchmarks/studies/tapo.yaml
"""

from __future__ import annotations

import json
import math
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jsonargparse import auto_cli
from rich.console import Console
from rich.progress import Progress
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fgvr.metrics.lengths import Stretch
from fgvr.pictures.charts import length_curves

# the 97.5 % quantile of Student's t with so many degrees of freedom: a two-sided interval of 95 %
QUANTILES = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}
STRETCH = 10  # points of a curve, at its beginning and at its end, of which the mean is shown


@dataclass(frozen=True)
class Run:
    """One configuration with one seed."""

    arm: str
    seed: int
    configs: tuple[Path, ...]
    folder: Path
    start: Path | None = None  # the run that it goes on from, when that is one of the study's own
    reorder: bool = False

    def finish(self) -> None:
        """Starts it, or lets it go on, until it has ended. Raises SystemExit with its log's place when it fails."""
        if (self.folder / "final_metrics.json").exists():
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        line = [
            sys.executable,
            "-m",
            "fgvr",
            "fit",
            *(part for file in self.configs for part in ("--config", str(file))),
        ]
        line += ["--seed_everything", str(self.seed), "--run.dir", str(self.folder)]
        if self.reorder:
            line += ["--data.seed", str(self.seed)]
        if self.start is not None:
            line += ["--model.policy.backbone.run", str(self.start)]
        said = self.folder.with_suffix(".log")
        with said.open("ab") as log:
            ended = subprocess.run(line, stdout=log, stderr=log, env=os.environ | {"OMP_NUM_THREADS": "1"})
        if ended.returncode:
            raise SystemExit(f"{self.arm} with seed {self.seed} ended with {ended.returncode}: see {said}")

    def figures(self) -> dict[str, float]:
        return json.loads((self.folder / "final_metrics.json").read_text())

    def curve(self, name: str) -> tuple[float, float]:
        """The mean of a logged figure over its first and over its last points; NaN where it was never logged."""
        if not (self.folder / "tensorboard").is_dir():
            return math.nan, math.nan
        events = EventAccumulator(str(self.folder / "tensorboard"), size_guidance={"scalars": 0}).Reload()
        if name not in events.Tags()["scalars"]:
            return math.nan, math.nan
        points = [point.value for point in sorted(events.Scalars(name), key=lambda point: point.step)]
        return statistics.fmean(points[:STRETCH]), statistics.fmean(points[-STRETCH:])


def study(
    arms: dict[str, list[Path]],
    out: Path,
    seeds: int = 5,
    figures: Sequence[str] = ("seen/exact", "novel/exact", "unseen/exact", "unseen/family"),
    curves: Sequence[str] = (),
    together: int = 2,
    name: str = "table",
    after: dict[str, str] | None = None,
    reorder: bool = False,
) -> None:
    """Finishes every run and prints the table, which is kept as OUT/NAME.md beside all figures in OUT/NAME.json.

    OUT/NAME.png has each arm's accuracy against the length of its replies. Studies with the same `out` share the runs
    of arms of the same name.

    Args:
        arms: the yaml files of each arm, the first one complete, the others laid over it
        out: the folder of the runs
        seeds: runs of each arm, with the seeds 0, 1, 2 …
        figures: what is shown of final_metrics.json
        curves: what is shown of the training curves, at their beginning and at their end
        together: runs side by side, each with one thread
        name: what the table is called
        after: arms that start from another one's run with the same seed, which goes first
        reorder: a seed decides the order of photos too: of supervised runs from one checkpoint it decides nothing else
    """
    if not 2 <= seeds <= len(QUANTILES) + 1:
        raise SystemExit(f"an interval needs 2 to {len(QUANTILES) + 1} seeds, got {seeds}")
    after = after or {}
    if unknown := sorted({*after, *after.values()} - set(arms)):
        raise SystemExit(f"after must name arms of the study, {', '.join(arms)}, got {', '.join(unknown)}")
    runs = {
        arm: [_run(arm, seed, files, out, after.get(arm), reorder) for seed in range(seeds)]
        for arm, files in arms.items()
    }
    order = in_order(list(arms), after)
    waiting = [runs[arm][seed] for seed in range(seeds) for arm in order]  # whole seeds first, should it be cut off
    with Progress(console=Console(stderr=True)) as bar, ThreadPoolExecutor(together) as pool:
        task = bar.add_task("runs", total=len(waiting))
        begun: dict[Path, Future[None]] = {}
        for run in waiting:
            begun[run.folder] = pool.submit(_finish, run, begun.get(run.start) if run.start is not None else None)
        for one in begun.values():
            one.result()
            bar.advance(task)
    text = table(runs, figures, curves)
    (out / f"{name}.md").write_text(text)
    kept = {arm: [run.figures() for run in arm_runs] for arm, arm_runs in runs.items()}
    (out / f"{name}.json").write_text(json.dumps(kept, indent=1))
    length_curves({arm: _places(arm_runs) for arm, arm_runs in runs.items()}, "seen/exact, by length").save(
        out / f"{name}.png"
    )
    print(text)


def in_order(arms: list[str], after: dict[str, str]) -> list[str]:
    """The arms, each behind the one that it starts from."""
    order = list[str]()
    while left := [arm for arm in arms if arm not in order]:
        ready = [arm for arm in left if after.get(arm) not in left]
        if not ready:
            raise SystemExit(f"arms must not start from one another in a circle, as {', '.join(left)} do: mend after")
        order += ready
    return order


def _run(arm: str, seed: int, files: list[Path], out: Path, after: str | None, reorder: bool) -> Run:
    start = None if after is None else out / after / str(seed)
    return Run(arm, seed, tuple(files), out / arm / str(seed), start, reorder)


def _finish(run: Run, start: Future[None] | None) -> None:
    if start is not None:
        start.result()  # begun before this one was, so that nobody waits for what waits for a place
    run.finish()


def _places(runs: list[Run]) -> list[Stretch]:
    """One point: the means over the seeds, with the interval of the accuracy."""
    ended = [run.figures() for run in runs]
    exact, half = mean_and_half([entry["seen/exact"] for entry in ended])
    tokens = statistics.fmean(entry.get("seen/length", 0.0) for entry in ended)
    n = round(sum(entry["seen/n"] for entry in ended))
    return [Stretch(n, tokens, exact, max(0.0, exact - half), min(1.0, exact + half))]


def table(runs: dict[str, list[Run]], figures: Sequence[str], curves: Sequence[str]) -> str:
    """Means with 95 % intervals over the seeds; behind them each arm's difference from the first, seed by seed."""
    first, *_ = runs
    heads = ["arm", *figures, *(f"{name}, begin to end" for name in curves), "s"]
    rows = [heads, ["---"] * len(heads)]
    if all(f"start/{name}" in run.figures() for run in runs[first] for name in figures):  # SFT scores none
        begun = [statistics.fmean(run.figures()[f"start/{name}"] for run in runs[first]) for name in figures]
        rows.append(["start", *(f"{value:.3f}" for value in begun), *("" for _ in curves), ""])
    for name, arm in runs.items():
        ended = [run.figures() for run in arm]
        cells: list[str] = []
        for figure in figures:
            values = [entry[figure] for entry in ended]
            cell = interval(values)
            if name != first:
                base = [run.figures()[figure] for run in runs[first]]
                cell += f" ({interval([a - b for a, b in zip(values, base, strict=True)], sign='+')})"
            cells.append(cell)
        for curve in curves:
            begin, end = zip(*(run.curve(curve) for run in arm), strict=True)
            cells.append(
                "-" if math.isnan(begin[0]) else f"{statistics.fmean(begin):.4f} to {statistics.fmean(end):.4f}"
            )
        seconds = statistics.fmean(entry["seconds"] for entry in ended)
        rows.append([name, *cells, f"{seconds:.0f}"])
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def interval(values: Sequence[float], sign: Any = "") -> str:
    mean, half = mean_and_half(values)
    return f"{mean:{sign}.3f} ± {half:.3f}"


def mean_and_half(values: Sequence[float]) -> tuple[float, float]:
    """The mean, and half of its 95 % interval."""
    half = QUANTILES[len(values) - 1] * statistics.stdev(values) / math.sqrt(len(values))
    return statistics.fmean(values), half


if __name__ == "__main__":
    auto_cli(study)
