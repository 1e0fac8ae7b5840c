"""A training as plots: rewards, entropy, KL, clipping, lengths, and where the seconds of a step went."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from fgvr.metrics.drawn_together import TRAINING, Wanted
from fgvr.report.curves import Curve, Curves, curve_of
from fgvr.report.plots import DASHES, LINES, Plot, drawn, line, rounded, running, word

BARS = 40  # stretches of a training whose steps are drawn as one bar
REST = "everything else"


def training_plots(runs: Mapping[str, Curves]) -> list[Plot]:
    """A plot for each thing of TRAINING that some run has drawn; several runs differ by their dashes."""
    plots = (_plot(wanted, runs) for wanted in TRAINING)
    return [plot for plot in plots if plot is not None]


def validation_plots(runs: Mapping[str, Curves], cohorts: Sequence[str], ranks: Sequence[str]) -> list[Plot]:
    """The main figures of validations over the steps: the exact match of each cohort, then each cohort by itself."""
    wanted = [Wanted("Exact", tuple(rf"({re.escape(cohort)})/exact" for cohort in cohorts), percent=True)]
    for cohort in cohorts:
        own = re.escape(cohort)
        by_rank = tuple(rf"{own}/({re.escape(rank)})" for rank in dict.fromkeys([*ranks, "exact"]))
        wanted.append(Wanted(f"Right at each rank, {cohort}", by_rank, percent=True))
        verdicts = rf"{own}/(correctness|specificity|harmonic_mean|parse_failures)"
        wanted.append(Wanted(f"Correct and specific, {cohort}", (verdicts,), percent=True))
    plots = (_plot(one, runs) for one in wanted)
    return [plot for plot in plots if plot is not None]


def _plot(wanted: Wanted, runs: Mapping[str, Curves]) -> Plot | None:
    found = {run: _matching(wanted.tags, curves) for run, curves in runs.items()}
    names = list(dict.fromkeys(name for of in found.values() for name in of))
    if not names:
        return None
    traces: list[Mapping[str, Any]] = []
    for number, (run, curves) in enumerate(found.items()):
        for name, curve in curves.items():
            told = f"{name}, {run}" if len(runs) > 1 else name
            colour = LINES[names.index(name) % len(LINES)]
            traces += line(curve, told, colour, DASHES[number % len(DASHES)], faint=len(runs) == 1)
    means = {running(curve) for of in found.values() for curve in of.values()} - {1}
    note = f"Bold: the running mean over {max(means)} points." if means else ""
    axis = {"range": [-0.02, 1.02], "tickformat": ".0%"} if wanted.percent else {"rangemode": "tozero"}
    axis |= {"type": "log", "rangemode": "normal"} if wanted.log else {}
    figure = drawn(
        traces, xaxis={"title": {"text": "optimiser steps"}}, yaxis=axis, showlegend=len(names) * len(runs) > 1
    )
    return Plot(wanted.title, figure, " ".join(filter(None, [wanted.note, note])))


def _matching(tags: Sequence[str], curves: Curves) -> Curves:
    found: Curves = {}
    for pattern in tags:
        for tag in curves:
            if matched := re.fullmatch(pattern, tag):
                found.setdefault(matched[1] if matched.groups() else tag, curves[tag])
    if len(found) == 2 and "reward" in found and len({tuple(curve.values) for curve in found.values()}) == 1:
        return {"reward": found["reward"]}  # which has that one component alone
    return found


def phases_plot(name: str, curves: Curves) -> Plot | None:
    """Seconds of a step by phase, stacked; what the phases do not account for is `REST`. None without phases."""
    phases = {tag.removeprefix("time/"): curve for tag, curve in curves.items() if tag.startswith("time/")}
    phases.pop("score_hidden", None)  # passes while others are sampled
    whole = curves.get("step_time")
    seldom = {phase: curve for phase, curve in phases.items() if whole and len(curve.steps) < len(whole.steps) / 2}
    phases = {phase: curve for phase, curve in phases.items() if phase not in seldom}
    if not phases:
        return None
    if whole is not None:
        phases[REST] = _rest(whole, list(phases.values()))
    traces = []
    order = sorted(phases, key=lambda phase: (phase == REST, -sum(phases[phase].values)))
    for number, phase in enumerate(order):
        bars = phases[phase].thinned(BARS)
        colour = "#8a8f99" if phase == REST else LINES[number % len(LINES)]
        traces.append({
            "type": "bar", "x": bars.steps, "y": [rounded(value) for value in bars.values], "name": word(phase),
            "marker": {"color": colour},
        })  # fmt: skip
    total = sum(sum(curve.values) / max(1, len(curve.values)) for curve in phases.values())
    shares = ", ".join(
        f"{phase} {sum(curve.values) / max(1, len(curve.values)) / total:.0%}"
        for phase, curve in ((phase, phases[phase]) for phase in order)
    )
    per = -(-len(next(iter(phases.values())).steps) // BARS)
    note = f"{shares}." + (f" Each bar is the mean of {per} steps." if per > 1 else "")
    if seldom:
        note += f" Not in it, as it comes seldom: {', '.join(sorted(seldom))}."
    figure = drawn(
        traces, barmode="stack", bargap=0.08, xaxis={"title": {"text": "optimiser steps"}},
        yaxis={"title": {"text": "seconds a step"}, "rangemode": "tozero"},
    )  # fmt: skip
    return Plot(f"Phases of a step{f', {name}' if name else ''}", figure, note, wide=True)


def _rest(whole: Curve, phases: Sequence[Curve]) -> Curve:
    known = [dict(zip(curve.steps, curve.values, strict=True)) for curve in phases]
    return curve_of([
        (step, max(0.0, value - sum(of.get(step, 0.0) for of in known)))
        for step, value in zip(whole.steps, whole.values, strict=True)
    ])  # fmt: skip
