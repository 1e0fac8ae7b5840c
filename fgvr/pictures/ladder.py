"""The ladder of two-step inference as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from fgvr.metrics.ladder import (
    RUNGS,
    Asked,
    Paired,
    best_margin,
    gates,
    harmonic,
    paired,
    risk_coverage,
    rungs,
    split_of,
)
from fgvr.pictures.tables import Cell, Table, shortened

Cohorts = Mapping[str, Sequence[Asked]]
SIDES = (("base", "novel"), ("seen", "novel"), ("seen", "unseen"))  # whose harmonic mean is told, where both are there


def ladder_tables(before: Cohorts, after: Cohorts | None = None, made: Mapping[str, Any] | None = None) -> list[Table]:
    """Everything that is told of two-step inference, of weights before and, where given, after training.

    The two must have been asked about the same photos, in the same order, with what `made` says; None is not known.
    Raises ValueError for other photos.
    """
    scope = None if made is None else str(made["scope"])
    tables = [_rungs(before, after, made), _pairs(before, after), _splits(before, after)]
    runs = {"untrained": before} | ({} if after is None else {"trained": after})
    for name, cohorts in runs.items():
        tables += [_gates(cohorts, name), _coverage(cohorts, name), *_harmonics(cohorts, name, scope)]
    return tables


def _rungs(before: Cohorts, after: Cohorts | None, made: Mapping[str, Any] | None) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for cohort, asked in before.items():
        found = rungs(asked, " untrained") + ([] if after is None else rungs(after[cohort], " trained"))
        rows += [
            (shortened(cohort), rung.name, rung.n, rung.accuracy, rung.low, rung.high, round(rung.tokens, 1))
            for rung in found
        ]
    note = f"Of all photos. options: the label is among them, so that no choice can do better. {_said(made)}"
    heads = ("cohort", "rung", "n", "accuracy", "low", "high", "tokens a photo")
    return Table(heads, tuple(rows), f"Ladder, {_scope(None if made is None else str(made['scope']))}", note)


def _scope(scope: str | None) -> str:
    return "scope not known" if scope is None else f"scope {shortened(scope)}"


def _said(made: Mapping[str, Any] | None) -> str:
    if made is None:
        return "The rows do not say what they were made with."
    return f"Made with {', '.join(f'{name} {shortened(str(value))}' for name, value in made.items())}."


def _pairs(before: Cohorts, after: Cohorts | None) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for cohort, asked in before.items():
        pairs = _steps(asked, "untrained")
        if after is not None:
            pairs += _steps(after[cohort], "trained")
            pairs += [
                paired(f"{name} untrained", "two steps trained", [is_right(one) for one in asked],
                       [one.choice for one in after[cohort]])
                for name, is_right in RUNGS.items()
            ]  # fmt: skip
        rows += [(shortened(cohort), pair.first, pair.second, pair.helped, pair.hurt, pair.p) for pair in pairs]
    note = "p is McNemar's, exact: the chance of so uneven a split if neither way were better."
    return Table(("cohort", "from", "to", "helped", "hurt", "p"), tuple(rows), "The same photos, rung by rung", note)


def _steps(asked: Sequence[Asked], suffix: str) -> list[Paired]:
    names = list(RUNGS)
    return [
        paired(
            f"{first} {suffix}",
            f"{second} {suffix}",
            *([RUNGS[name](one) for one in asked] for name in (first, second)),
        )
        for first, second in combinations(names, 2)
    ]


def _splits(before: Cohorts, after: Cohorts | None) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for cohort, asked in before.items():
        for name, own in (("untrained", asked), *([] if after is None else [("trained", after[cohort])])):
            split = split_of(own)
            by = [sum(one.by == source for one in own) for source in ("choice", "vote", "abstain")]
            rows.append((shortened(cohort), name, split.recall, split.right_of_reached, split.accuracy, *by))
    heads = ("cohort", "weights", "recall", "right of these", "accuracy", "by choice", "by vote", "abstained")
    return Table(heads, tuple(rows), "Why", "accuracy = recall of the options x what is right of these, exactly.")


def _gates(cohorts: Cohorts, name: str) -> Table:
    ungated = {cohort: own for cohort, own in cohorts.items() if not any(one.gate == "margin" for one in own)}
    rows: list[tuple[Cell, ...]] = [
        (shortened(cohort), gate.margin, gate.accuracy, gate.low, gate.high, gate.saved)
        for cohort, own in ungated.items()
        for gate in gates(own)
    ]
    notes = [
        f"{shortened(cohort)} was asked behind a gate: what it cost is not known."
        for cohort in cohorts
        if cohort not in ungated
    ]
    if ungated and min(map(len, ungated.values())) < 2:
        notes.append("A margin is chosen on every second photo and told on the others: that takes two of each cohort.")
    elif ungated:
        margin = best_margin([own[::2] for own in ungated.values()])
        told = "; ".join(_told(cohort, own[1::2], margin) for cohort, own in ungated.items())
        notes.append(f"Margin {margin:g} saves most at no loss for every second photo, and for the others: {told}.")
    heads = ("cohort", "margin", "accuracy", "low", "high", "choosing tokens saved")
    return Table(heads, tuple(rows), f"Gates, {name}", " ".join(notes))


def _told(cohort: str, asked: Sequence[Asked], margin: float) -> str:
    """What a margin that was chosen on other photos comes to."""
    (gate,) = gates(asked, [margin])
    cost = gate.accuracy - split_of(asked).accuracy
    return f"{shortened(cohort)} saves {gate.saved:.0%}, accuracy {cost:+.3f}"


def _coverage(cohorts: Cohorts, name: str) -> Table:
    found = {cohort: risk_coverage(asked) for cohort, asked in cohorts.items()}
    shares = next(iter(found.values()), {})
    rows = tuple((shortened(cohort), *of.values()) for cohort, of in found.items())
    heads = ("cohort", *(f"most confident {share:.0%}" for share in shares))
    return Table(heads, rows, f"Accuracy by confidence, {name}")


def _harmonics(cohorts: Cohorts, name: str, scope: str | None) -> list[Table]:
    together = "all photos, each among its cohort's names" if scope == "cohort" else "all photos together"
    tables: list[Table] = []
    for base, novel in SIDES:
        if base not in cohorts or novel not in cohorts:
            continue
        rows: list[tuple[Cell, ...]] = []
        for rung, is_right in RUNGS.items():
            found = harmonic(cohorts[base], cohorts[novel], is_right)
            rows.append((rung, found.of_means, found.low, found.high, found.mean_of, found.joint))
        heads = ("rung", "of the means", "low", "high", "mean of each set's", together)
        title = f"Harmonic mean of {base} and {novel}, {name}, {_scope(scope)}"
        tables.append(Table(heads, tuple(rows), title))
    return tables
