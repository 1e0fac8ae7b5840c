"""The figures at a glance, and two runs side by side."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from fgvr.metrics.ladder import mcnemar, wilson
from fgvr.pictures.tables import Cell, Table, shortened
from fgvr.report.decks import MOST, turned
from fgvr.report.evaluation_plots import cohorts_of, verdicts_plot
from fgvr.report.judged import changes
from fgvr.report.made_of import differences, took
from fgvr.report.parts import Gathered, Part, Tile, of_run
from fgvr.report.plots import Plot
from fgvr.report.subject import Subject
from fgvr.types import Verdict

Subjects = Sequence[Subject]
Figures = Mapping[str, float]
KINDS = {"start": "at the start", "final": "at the end", "validate": "validated", "test": "on test photos"}
SUMMARY = ("correctness", "specificity", "harmonic_mean", "validation_reward")
AFTER = ("hierarchical_precision", "hierarchical_recall", "hca", "contradicted", "several", "parse_failures",
         "unjudged", "unread", "n")  # fmt: skip
COUNTS = ("n", "unread")
MOST_TILES = 8


def cohorts_and_ranks(subjects: Subjects) -> tuple[list[str], list[str]]:
    """The cohorts that validations tell of, and the ranks of the taxonomies, from coarse to fine."""
    cohorts = cohorts_of(*(figures for subject in subjects for figures in subject.ran.figures.values()))
    drawn = [
        tag.partition("/")[0] for subject in subjects for tag in subject.ran.curves if re.fullmatch(r"[^/]+/exact", tag)
    ]
    trees = [subject.taxonomy for subject in subjects if subject.taxonomy is not None]
    ranks = [rank for tree in trees for rank in tree.ranks]
    return list(dict.fromkeys([*cohorts, *drawn])), list(dict.fromkeys(ranks))


def at_a_glance(subjects: Subjects) -> Part:
    found = Gathered()
    for subject in subjects:
        found.tiles += _tiles(subject, of_run(subject.name, subjects))
    columns = {
        f"{subject.name}, {KINDS[kind]}" if len(subjects) > 1 else KINDS[kind]: figures
        for subject in subjects
        for kind, figures in subject.ran.figures.items()
    }
    if plot := verdicts_plot(columns):
        found.plots.append(Plot(plot.title, plot.figure, plot.note, plot.tall, wide=True))
    cohorts, ranks = cohorts_and_ranks(subjects)
    found.tables += [table for cohort in cohorts if (table := figures_table(cohort, columns, ranks)).rows]
    return found.part(
        "glance", "At a glance",
        "There are no figures: a run with fgvr.callbacks.JudgeValidation has them in final_metrics.json when it ends.",
    )  # fmt: skip


def _tiles(subject: Subject, whose: str) -> list[Tile]:
    ran = subject.ran
    end = ran.figures.get("final") or ran.figures.get("validate") or ran.figures.get("test") or {}
    start = ran.figures.get("start", {})
    tiles = [
        _tile(f"{cohort}/exact", f"exact, {cohort}{whose}", end, start)
        for cohort in cohorts_of(end)
        if f"{cohort}/exact" in end
    ]
    if "reward" in ran.curves:
        values = ran.curves["reward"].values
        few = max(1, len(values) // 10)
        first, last = sum(values[:few]) / few, sum(values[-few:]) / few
        tiles.append(Tile(f"{last:.2f}", f"reward, last tenth{whose}", f"{last - first:+.2f}", _tone(last - first)))
    tiles.append(Tile(f"{ran.steps:,}", f"optimiser steps{whose}"))
    seconds = ran.facts.get("seconds")
    if isinstance(seconds, int | float) and not isinstance(seconds, bool):
        tiles.append(Tile(took(float(seconds)), f"of training{whose}"))
    return tiles[:MOST_TILES]


def _tile(key: str, name: str, end: Figures, start: Figures) -> Tile:
    if key not in start:
        return Tile(f"{end[key]:.1%}", name)
    moved = end[key] - start[key]
    return Tile(f"{end[key]:.1%}", name, f"{100 * moved:+.1f} points", _tone(moved))


def _tone(moved: float):
    return "good" if moved > 0 else "bad" if moved < 0 else ""


def figures_table(cohort: str, columns: Mapping[str, Figures], ranks: Sequence[str]) -> Table:
    """What each evaluation says of a cohort, accuracies with their 95 % intervals."""
    verdicts = [verdict.name.lower() for verdict in reversed(Verdict)]
    names = [*("exact", *ranks), *SUMMARY, *verdicts, *AFTER]  # what never happened is left out
    told = {name: figures for name, figures in columns.items() if f"{cohort}/n" in figures}
    rows: list[tuple[Cell, ...]] = []
    for name in dict.fromkeys(names):
        cells = [
            _cell(cohort, name, figures, interval=name in ("exact", *ranks, *SUMMARY)) for figures in told.values()
        ]
        happened = name in ("exact", *ranks, *SUMMARY) or any(of.get(f"{cohort}/{name}") for of in told.values())
        if any(cells) and happened:
            rows.append((name.replace("_", " "), *cells))
    return Table(("figure", *told), tuple(rows), f"Figures, {shortened(cohort)}")


def _cell(cohort: str, name: str, figures: Figures, interval: bool) -> str:
    value = figures.get(f"{cohort}/{name}")
    if value is None:
        return ""
    if name in COUNTS:
        return f"{value:,.0f}"
    low, high = (figures.get(f"{cohort}/{name}_{end}") for end in ("low", "high"))
    if interval and low is None and name not in SUMMARY and 0 <= value <= 1:
        n = round(figures.get(f"{cohort}/n", 0.0))
        low, high = wilson(round(value * n), n)
    return f"{value:.3f}" + (f" ({low:.2f}–{high:.2f})" if interval and low is not None and high is not None else "")


def side_by_side(subjects: Subjects) -> Part:
    """The first run against each of the others: settings, figures, and the photos that one of the two got right."""
    found, first = Gathered(), subjects[0]
    for number, other in enumerate(subjects[1:], start=1):
        found.tables.append(differences(first.ran, other.ran))
        found.tables.append(_moved(first, other))
        turns, both = changes(first.ran.answers, other.ran.answers)
        if not both:
            found.said.append(
                f"{first.name} and {other.name} were not asked about the same photos, so that no photos are shown that "
                "one of them got right."
            )
            continue
        helped = sum(turn.helped for turn in turns)
        p = mcnemar(helped, len(turns) - helped)
        found.said.append(
            f"Of {both:,} photos that both were asked about, {other.name} got {helped:,} right that {first.name} had "
            f"wrong, and {len(turns) - helped:,} wrong that {first.name} had right (McNemar's exact p {p:.3g})."
        )
        some = [
            *[turn for turn in turns if turn.helped][: MOST // 2],
            *[turn for turn in turns if not turn.helped][: MOST // 2],
        ]
        subject = other if other.photos.sets else first
        subject.photos.find([turn.uid for turn in some])
        place = number if subject is other else 0
        title = f"Photos that changed: {first.name} to {other.name}"
        deck = turned(some, place, title, (first.name, other.name))
        found.decks += [deck] if deck else []
    found.tables = [table for table in found.tables if table.rows]
    return found.part("side-by-side", "Side by side", "The runs do not differ in their settings, figures or answers.")


def _moved(first: Subject, other: Subject) -> Table:
    then, now = first.ran.figures.get("final", {}), other.ran.figures.get("final", {})
    rows: list[tuple[Cell, ...]] = []
    for cohort in cohorts_of(then, now):
        for name in ("exact", "correctness", "specificity", "harmonic_mean", "parse_failures"):
            key = f"{cohort}/{name}"
            if key in then and key in now:
                moved = round(now[key] - then[key], 4)
                rows.append((cohort, name.replace("_", " "), round(then[key], 4), round(now[key], 4), f"{moved:+.4g}"))
    heads = ("cohort", "figure", shortened(first.name), shortened(other.name), "difference")
    return Table(heads, tuple(rows), "Figures at the end")
