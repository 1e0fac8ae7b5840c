"""An evaluation as plots: verdicts, the tree of accuracies, risk over coverage, the sweep of options, the ladder."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fgvr.metrics import VERDICT_FIGURES
from fgvr.metrics.ladder import Asked, risk_coverage, rungs
from fgvr.options.sweep import Cell
from fgvr.report.judged import Node
from fgvr.report.plots import DASHES, LINES, Plot, drawn, rounded, verdict_colour, word

HEAT = ((0.0, "#c23b30"), (0.5, "#d9a62e"), (1.0, "#2c8a4b"))  # wrong, half, right
LARGEST = 1500  # names of a tree that is drawn
POINTS = 50  # of a curve of risk
Figures = Mapping[str, float]


def verdicts_plot(shown: Mapping[str, Figures]) -> Plot | None:
    """A stacked bar of verdicts, worst on the left, for each cohort of each evaluation; None without any."""
    bars = [
        (f"{cohort}, {name}" if len(shown) > 1 else cohort, figures, cohort)
        for cohort in cohorts_of(*shown.values())
        for name, figures in shown.items()
        if f"{cohort}/n" in figures
    ]
    if not bars:
        return None
    traces = [
        {
            "type": "bar", "orientation": "h", "name": word(verdict.replace("_", " ")),
            "y": [word(told) for told, _, _ in bars],
            "x": [rounded(figures.get(f"{cohort}/{verdict}", 0.0)) for _, figures, cohort in bars],
            "marker": {"color": verdict_colour(verdict)},
            "hovertemplate": "%{x:.1%}",
        }
        for verdict in VERDICT_FIGURES
        if any(figures.get(f"{cohort}/{verdict}") for _, figures, cohort in bars)
    ]  # fmt: skip
    figure = drawn(
        traces, barmode="stack", bargap=0.3, xaxis={"tickformat": ".0%", "range": [0, 1]},
        yaxis={"autorange": "reversed"}, legend={"traceorder": "normal"},
    )  # fmt: skip
    return Plot("Verdicts", figure, "Of all photos, those without a readable answer included.", 130 + 34 * len(bars))


def cohorts_of(*figures: Figures) -> list[str]:
    """The cohorts that figures are told of, in their order."""
    found = [key.partition("/")[0] for of in figures for key in of if re.fullmatch(r"[^/]+/n", key)]
    return list(dict.fromkeys(found))


def best_of_plot(shown: Mapping[str, Figures]) -> Plot | None:
    """What the best of k sampled answers comes to, where several were drawn."""
    traces: list[Mapping[str, Any]] = []
    for number, (name, figures) in enumerate(shown.items()):
        for place, cohort in enumerate(cohorts_of(figures)):
            pattern = re.compile(rf"{re.escape(cohort)}/best_of/(\d+)/correctness")
            ks = sorted((int(found[1]), value) for key, value in figures.items() if (found := pattern.fullmatch(key)))
            if ks:
                traces.append({
                    "type": "scatter", "mode": "lines+markers", "x": [k for k, _ in ks],
                    "y": [rounded(value) for _, value in ks],
                    "name": word(f"{cohort}, {name}" if len(shown) > 1 else cohort),
                    "line": {"color": LINES[place % len(LINES)], "dash": DASHES[number % len(DASHES)]},
                })  # fmt: skip
    if not traces:
        return None
    axes = {"xaxis": {"title": {"text": "sampled answers"}}, "yaxis": {"tickformat": ".0%", "rangemode": "tozero"}}
    return Plot("Correct, by the best of so many", drawn(traces, **axes, showlegend=True))


def tree_plot(nodes: Sequence[Node], title: str) -> Plot:
    """The taxonomy from its root to the right, each name as high as it has photos, coloured by its accuracy.

    Past LARGEST names the finest ranks are left out, and the note says how many. Raises ValueError without names.
    """
    if not nodes:
        raise ValueError("a tree needs names, got none")
    levels = _levels(nodes)
    depth = max(levels.values())
    kept = list(nodes)
    while len(kept) > LARGEST and depth > 1:
        depth -= 1
        kept = [node for node in nodes if levels[node.name] <= depth]
    leaves = {node.name for node in kept} - {node.parent for node in kept}
    told = [
        f"{node.right} of {node.n} photos right{' at its ' + word(node.rank) if node.rank else ''}" for node in kept
    ]
    figure = drawn([
        {
            "type": "icicle", "branchvalues": "total", "tiling": {"orientation": "h"}, "sort": False,
            "ids": [word(node.name, 500) for node in kept],
            "labels": [word(node.name) for node in kept],
            "parents": [word(node.parent, 500) for node in kept],
            "values": [node.n for node in kept],
            "text": [f"{node.accuracy:.0%}" for node in kept],
            "customdata": told,
            "hovertemplate": "<b>%{label}</b><br>%{text}: %{customdata}<extra></extra>",
            "texttemplate": "%{label}  %{text}", "textfont": {"size": 11},
            "marker": {
                "colors": [rounded(node.accuracy) for node in kept], "cmin": 0, "cmax": 1,
                "colorscale": [list(stop) for stop in HEAT], "showscale": True,
                "colorbar": {"title": {"text": ""}, "tickformat": ".0%", "thickness": 10, "len": 0.5},
            },
            "pathbar": {"visible": True},
        }
    ])  # fmt: skip
    hidden = len(nodes) - len(kept)
    note = "Right at a name: answered by it or by a name below it. Choose a name to go in, its bar on top to go back."
    if hidden:
        note += f" {hidden:,} names of the finest ranks are left out here; the table has the worst of them."
    return Plot(title, figure, note, min(1600, max(360, 18 * len(leaves))), wide=True)


def _levels(nodes: Sequence[Node]) -> dict[str, int]:
    """How many names stand above each, itself included."""
    levels: dict[str, int] = {"": 0}
    for node in nodes:  # parents come first
        levels[node.name] = levels[node.parent] + 1
    return levels


def risk_plot(asked: Mapping[str, Sequence[Asked]]) -> Plot:
    """The share of wrong answers among the most confident share of the photos, a line for each name."""
    traces, areas = [], []
    for number, (name, photos) in enumerate(asked.items()):
        shares = [place / POINTS for place in range(1, POINTS + 1)]
        risks = [1 - right for right in risk_coverage(photos, shares).values()]
        areas.append(f"{name} {sum(risks) / len(risks):.3f}")
        traces.append({
            "type": "scatter", "mode": "lines", "name": word(name), "x": shares, "y": [rounded(risk) for risk in risks],
            "line": {"color": LINES[number % len(LINES)], "width": 2.2},
            "hovertemplate": "%{x:.0%} answered: %{y:.1%} of them wrong",
        })  # fmt: skip
    axes = {
        "xaxis": {"title": {"text": "coverage: the most confident share of the photos"}, "tickformat": ".0%"},
        "yaxis": {"title": {"text": "risk: wrong among these"}, "tickformat": ".0%", "rangemode": "tozero"},
    }
    note = f"By the confidence of two-step inference. The area below, lower is better: {', '.join(areas)}."
    return Plot("Risk over coverage", drawn(traces, **axes, showlegend=len(traces) > 1), note, 340)


def calibration_plot(title: str, curves: Mapping[str, Sequence[tuple[float, float, float]]]) -> Plot:
    """Coverage, risk and threshold of each point of `python -m fgvr calibrate`, a line for each name."""
    traces = [
        {
            "type": "scatter", "mode": "lines+markers", "name": word(name), "customdata": [one[2] for one in points],
            "x": [rounded(one[0]) for one in points], "y": [rounded(one[1]) for one in points],
            "line": {"color": LINES[number % len(LINES)], "width": 2.2},
            "hovertemplate": "from a confidence of %{customdata}: %{x:.1%} answered, %{y:.1%} of them wrong",
        }
        for number, (name, points) in enumerate(curves.items())
    ]  # fmt: skip
    axes = {
        "xaxis": {"title": {"text": "coverage: the share of photos answered"}, "tickformat": ".0%"},
        "yaxis": {"title": {"text": "risk: wrong among the answers"}, "tickformat": ".0%", "rangemode": "tozero"},
    }
    note = "Answers are as fine as their confidence allows: a point for each threshold that was calibrated."
    return Plot(title, drawn(traces, **axes, showlegend=len(traces) > 1), note, 340)


def sweep_plot(title: str, cells: Sequence[Cell]) -> Plot:
    """Recall for each number of replies K and of options m, in its colour and as a number."""
    ms, ks = sorted({cell.m for cell in cells}), sorted({cell.k for cell in cells})
    at = {(cell.k, cell.m): cell for cell in cells}
    rows = [[at.get((k, m)) for m in ms] for k in ks]
    figure = drawn(
        [
            {
                "type": "heatmap", "x": [str(m) for m in ms], "y": [str(k) for k in ks], "zmin": 0, "zmax": 1,
                "z": [[None if cell is None else rounded(cell.recall) for cell in row] for row in rows],
                "text": [["" if cell is None else f"{cell.recall:.2f}" for cell in row] for row in rows],
                "customdata": [["" if cell is None else _told(cell) for cell in row] for row in rows],
                "texttemplate": "%{text}", "colorscale": "Cividis", "xgap": 2, "ygap": 2,
                "hovertemplate": "K=%{y}, m=%{x}: %{customdata}<extra></extra>",
                "colorbar": {"tickformat": ".0%", "thickness": 10},
            }
        ],
        xaxis={"title": {"text": "m: options, the most named first"}, "type": "category"},
        yaxis={"title": {"text": "K: replies to a photo"}, "type": "category"},
    )  # fmt: skip
    note = "The share of photos whose right name is among the first m names of K replies."
    return Plot(title, figure, note, 120 + 44 * len(ks))


def _told(cell: Cell) -> str:
    return (
        f"recall {cell.recall:.3f} ({cell.low:.3f} to {cell.high:.3f}), {cell.guessed:.3f} by guessing among "
        f"{cell.options:.1f} options, {cell.tokens:.0f} tokens a photo"
    )


@dataclass(frozen=True)
class Weights:
    """The photos that certain weights were asked about, by cohort, and what these weights are called."""

    name: str
    cohorts: Mapping[str, Sequence[Asked]]


def rungs_plot(weights: Sequence[Weights]) -> Plot:
    """Greedy answer, vote, two steps, and what choosing could reach at best, with 95 % intervals."""
    traces = []
    for number, one in enumerate(weights):
        for place, (cohort, asked) in enumerate(one.cohorts.items()):
            found = rungs(asked)
            traces.append({
                "type": "bar", "name": word(f"{cohort}, {one.name}" if len(weights) > 1 else cohort),
                "x": [rung.name for rung in found], "y": [rounded(rung.accuracy) for rung in found],
                "error_y": {
                    "type": "data", "symmetric": False, "thickness": 1, "width": 3,
                    "array": [rounded(rung.high - rung.accuracy) for rung in found],
                    "arrayminus": [rounded(rung.accuracy - rung.low) for rung in found],
                },
                "marker": {"color": LINES[place % len(LINES)], "opacity": 1.0 if number == len(weights) - 1 else 0.5},
                "hovertemplate": "%{x}: %{y:.1%}",
            })  # fmt: skip
    figure = drawn(traces, barmode="group", yaxis={"tickformat": ".0%", "range": [0, 1]}, showlegend=True)
    note = (
        "options: the label is among them, so that no choice can do better. Pale: the weights that the run began with."
    )
    return Plot("From a greedy answer to the choice", figure, note if len(weights) > 1 else note.split(" Pale")[0], 320)
