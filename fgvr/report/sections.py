"""The parts of a report in their order, each made of what the runs have."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from fgvr.metrics.two_step_reading import by_cohort
from fgvr.options.sweep import Cell
from fgvr.pictures.ladder import ladder_tables
from fgvr.pictures.tables import Table, class_table, shortened
from fgvr.report.curves import Curves
from fgvr.report.decks import MOST, gallery, mistakes, options, triplets
from fgvr.report.evaluation_plots import (
    Weights,
    best_of_plot,
    calibration_plot,
    risk_plot,
    rungs_plot,
    sweep_plot,
    tree_plot,
)
from fgvr.report.glance import at_a_glance, cohorts_and_ranks, side_by_side
from fgvr.report.judged import accuracies, commonest_mistakes
from fgvr.report.made_of import made_of
from fgvr.report.parts import Gathered, Part, of_run
from fgvr.report.photos import places_of
from fgvr.report.subject import Subject
from fgvr.report.training_plots import phases_plot, training_plots, validation_plots
from fgvr.whole_files import unsealed

Subjects = Sequence[Subject]
NO_KL = "No KL to where the policy began is drawn, as no run has a KL term: model.init_args.kl brings one."


def sections(subjects: Subjects, tell: Callable[[str], None] = lambda _: None) -> list[Part]:
    """All parts; `tell` is told of each before it is made."""
    makers = (at_a_glance, side_by_side, sampled, training, phases, validation, confusions, tree, two_steps, ladder,
              choices, beside, made_of)  # fmt: skip
    parts: list[Part] = []
    for maker in makers:
        if maker is side_by_side and len(subjects) < 2:
            continue
        tell(maker.__name__.replace("_", " "))
        parts.append(maker(subjects))
    return parts


def _curves(subjects: Subjects) -> dict[str, Curves]:
    return {subject.name: subject.ran.curves for subject in subjects}


def sampled(subjects: Subjects) -> Part:
    found, said = Gathered(), dict[str, list[str]]()
    for number, subject in enumerate(subjects):
        subject.photos.find([uid for group in subject.kept.shown for uid in (group.uid, *group.partners.values())])
        if deck := gallery(subject, number):
            found.decks.append(deck)
            if asked := subject.asked():
                said.setdefault(asked, []).append(subject.name)
    for asked, names in said.items():
        whose = "" if len(said) == 1 else f", {' and '.join(names)}"
        found.said.append(f"Asked of each photo{whose}: {asked}")
    return found.part(
        "rollouts", "What was sampled and learned from",
        "There are no rollouts: runs of reinforcement learning with fgvr.callbacks.SampleLogging in trainer.callbacks "
        "keep them in rollouts.jsonl.",
    )  # fmt: skip


def training(subjects: Subjects) -> Part:
    curves = _curves(subjects)
    plots = training_plots(curves)
    told = [NO_KL] if plots and not any("kl" in own for own in curves.values()) else []
    return Gathered(told, [*plots]).part(
        "training", "Training",
        "There are no curves: a run with TensorBoard's logger, which is the default, draws them into tensorboard/.",
    )  # fmt: skip


def phases(subjects: Subjects) -> Part:
    plots = [phases_plot(name if len(subjects) > 1 else "", own) for name, own in _curves(subjects).items()]
    return Gathered(plots=[plot for plot in plots if plot is not None]).part(
        "phases", "Where the time goes",
        "The phases of a step are not known: fgvr.callbacks.Throughput in the trainer.callbacks of a run of "
        "reinforcement learning times them.",
    )  # fmt: skip


def validation(subjects: Subjects) -> Part:
    last = {subject.name: figures for subject in subjects if (figures := subject.ran.figures.get("final"))}
    plots = [*validation_plots(_curves(subjects), *cohorts_and_ranks(subjects)), best_of_plot(last)]
    return Gathered(plots=[plot for plot in plots if plot is not None]).part(
        "validation", "Validation over the training",
        "No validation was drawn: fgvr.callbacks.JudgeValidation judges one every trainer.val_check_interval batches.",
    )  # fmt: skip


def confusions(subjects: Subjects) -> Part:
    found = Gathered()
    for number, subject in enumerate(subjects):
        pairs, count = commonest_mistakes(subject.ran.answers, MOST)
        subject.photos.find([pair.uid for pair in pairs])
        like = subject.photos.one_of_each({pair.taken_for for pair in pairs})
        some = f"{len(pairs)} of {count:,} pairs" if count > len(pairs) else f"all {count} pairs"
        deck = mistakes(pairs, like, number, f"{some}, the commonest first{of_run(subject.name, subjects)}")
        found.decks += [deck] if deck else []
    return found.part(
        "confusions", "What is taken for what",
        "No confusions are known: a validation with fgvr.callbacks.JudgeValidation leaves answers.jsonl, and wrong "
        "answers in it that name another class of the taxonomy are shown here.",
    )  # fmt: skip


def tree(subjects: Subjects) -> Part:
    found = Gathered()
    for subject in subjects:
        whose = of_run(subject.name, subjects)
        nodes = accuracies(subject.ran.answers, subject.taxonomy) if subject.taxonomy else []
        if not nodes:
            continue
        found.plots.append(tree_plot(nodes, f"Accuracy over the taxonomy{whose}"))
        inner = [node for node in nodes if node.rank and node.rank != nodes[-1].rank]
        worst = sorted(inner, key=lambda node: (node.exact / node.n, node.name))[:200]
        rows = tuple(
            (shortened(node.name), node.rank, node.n, round(node.accuracy, 4), round(node.exact / node.n, 4))
            for node in worst
        )
        heads = ("name", "rank", "photos", "right at its rank", "exact below it")
        if rows:
            found.tables.append(Table(heads, rows, f"Branches, the hardest first{whose}"))
        classes = class_table(_classes(subject.ran.answers))
        found.tables.append(Table(classes.columns, classes.rows, f"Classes, the hardest first{whose}", classes.note))
    return found.part(
        "taxonomy", "Accuracy over the taxonomy",
        "The tree needs answers.jsonl, which a validation with fgvr.callbacks.JudgeValidation leaves, and the "
        "shard sets of the run, which know the taxonomy: where these were moved, give --data FOLDER.",
    )  # fmt: skip


def _classes(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, int]]:
    """The counts of a class, as per_class.csv has them, over all cohorts."""
    found: dict[str, dict[str, int]] = {}
    for row in rows:
        own = found.setdefault(str(row["label"]), dict.fromkeys(("n", "exact", "correct", "parse_failures"), 0))
        own["n"] += 1
        own["exact"] += row["verdict"] in ("specific", "more specific")
        own["correct"] += row["verdict"] in ("generic", "less specific", "specific", "more specific")
        own["parse_failures"] += row["answer"] is None
    return found


def two_steps(subjects: Subjects) -> Part:
    found = Gathered()
    for subject in subjects:
        for name, rows in subject.two_steps.items():
            if name != next(iter(subject.two_steps)) or len(subject.two_steps) == 1:
                plot = risk_plot(by_cohort(rows.photos))
                found.plots.append(replace(plot, title=f"{plot.title}, {name}{of_run(subject.name, subjects)}"))
        if curves := read_calibration(subject.ran.folder / "calibration.json", subject.remarks):
            title = f"Risk over coverage, by calibrated threshold{of_run(subject.name, subjects)}"
            found.plots.append(calibration_plot(title, curves))
    return found.part(
        "risk", "Risk and coverage",
        "Answers have no confidence: fgvr.callbacks.TwoStepInference, in a validation or test, asks for several and "
        "has one for each photo.",
    )  # fmt: skip


def read_calibration(file: Path, remarks: list[str]) -> dict[str, list[tuple[float, float, float]]]:
    """Coverage, risk and threshold wherever something was answered, by the way of answering; none without the file."""
    if not file.is_file():
        return {}
    found: dict[str, list[tuple[float, float, float]]] = {}
    try:
        for mode, own in unsealed(file.read_bytes())[0]["modes"].items():
            answered = [
                (t, wrong, sum(depths[1:]), sum(depths)) for t, wrong, depths in own["points"] if any(depths[1:])
            ]
            points = [(some / n, wrong / some, float(threshold)) for threshold, wrong, some, n in answered]
            found[f"{str(mode).replace('_', ' ')}, {own['split']} photos"] = points
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        remarks.append(f"{file.name} cannot be read ({type(error).__name__}).")
        return {}
    return {name: points for name, points in found.items() if points}


def ladder(subjects: Subjects) -> Part:
    found = Gathered()
    for subject in subjects:
        both, whose = subject.before_and_after(), of_run(subject.name, subjects)
        if both is None:
            continue
        first, last = both
        before, after = by_cohort(first.photos), None if last is None else by_cohort(last.photos)
        weights = [Weights("untrained", before), *([] if after is None else [Weights("trained", after)])]
        plot = rungs_plot(weights)
        found.plots.append(replace(plot, title=f"{plot.title}{whose}", wide=True))
        made = first.made if last is None or last.made is not None else None
        tables = ladder_tables(before, after, made)
        found.tables += [Table(one.columns, one.rows, f"{one.title}{whose}", one.note) for one in tables if one.rows]
    return found.part(
        "ladder", "The ladder of two-step inference",
        "There are no rows of two-step inference: fgvr.callbacks.TwoStepInference in trainer.callbacks writes them at "
        "each validation, so that a run with scored weights at its start can be compared rung by rung.",
    )  # fmt: skip


def choices(subjects: Subjects) -> Part:
    found = Gathered()
    for number, subject in enumerate(subjects):
        whose = of_run(subject.name, subjects)
        if deck := options(subject, number):
            found.decks.append(deck)
        for file in _sweeps(subject):
            for cohort, cells in read_sweep(file, subject.remarks).items():
                found.plots.append(sweep_plot(f"Recall of mined options, {shortened(cohort)}{whose}", cells))
    return found.part(
        "options", "Options, and how many replies they take",
        "The run has not practised choices: data.init_args.train_task ClosedWorld with options that "
        "`python -m fgvr mine` has made (docs/options.md) does, and its sweep over K and m is shown here.",
    )  # fmt: skip


def _sweeps(subject: Subject) -> list[Path]:
    """The sweeps that mining has left beside the options of the training sets."""
    train = subject.ran.data.get("train")
    named = [one.get("options") for one in train if isinstance(one, Mapping)] if isinstance(train, list) else []
    files: list[Path] = []
    for path in filter(None, named):
        there = (place.parent / "sweep.csv" for place in places_of(Path(str(path)), subject.ran))
        files += [file for file in there if file.is_file()][:1]
    return list(dict.fromkeys(files))


def read_sweep(file: Path, remarks: list[str]) -> dict[str, list[Cell]]:
    """The cells of sweep.csv by cohort; none, and a remark, where it is not as `python -m fgvr mine` writes it."""
    found: dict[str, list[Cell]] = {}
    try:
        with file.open(newline="", encoding="utf-8") as lines:
            for row in csv.DictReader(lines):
                numbers = {one.name: float(row[one.name]) for one in fields(Cell)}
                cell = Cell(int(numbers.pop("k")), int(numbers.pop("m")), **numbers)
                found.setdefault(row["cohort"], []).append(cell)
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        remarks.append(f"{file.name} beside the options cannot be read ({type(error).__name__}).")
        return {}
    return found


def beside(subjects: Subjects) -> Part:
    found = Gathered()
    for number, subject in enumerate(subjects):
        if deck := triplets(subject, number):
            found.decks.append(deck)
        files = sorted((subject.ran.folder / "triplets").glob("epoch-*.csv"))
        if files:
            found.tables.append(_rivals(files[-1], of_run(subject.name, subjects)))
    return found.part(
        "triplets", "Triplets",
        "The run has not learned from triplets: fgvr.datamodules.TripletData gives them (docs/triplets.md), "
        "fgvr.callbacks.SampleLogging keeps which photo stood beside which.",
    )  # fmt: skip


def _rivals(file: Path, whose: str, most: int = 200) -> Table:
    with file.open(newline="", encoding="utf-8", errors="replace") as lines:
        rows = [[shortened(cell) for cell in row] for row in csv.reader(lines)]
    heads, body = (rows[0], rows[1:]) if rows else ([], [])
    body = [row for row in body if len(row) == len(heads)]
    left_out = len(body) - most
    note = f"{left_out:,} more pairs are in triplets/{file.name}." if left_out > 0 else ""
    title = f"Whose photos the negatives are{whose}, {file.stem.replace('-', ' ')}"
    return Table(tuple(heads), tuple(tuple(row) for row in body[:most]), title, note)
