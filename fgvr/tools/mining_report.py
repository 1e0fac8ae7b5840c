"""What mining found, for people and for programs: tables in the terminal, and the files beside the options."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path

from rich.console import Console

from fgvr.errors import shown
from fgvr.options.deriving import Derived, Rules
from fgvr.options.report import by_cohort, cohort_figures
from fgvr.options.store import Made, Sampled
from fgvr.options.sweep import Cell, sweep
from fgvr.pictures.recall import recall_curves
from fgvr.pictures.tables import Table, shortened
from fgvr.tools.tables import print_table
from fgvr.whole_files import sealed, write_whole

REPORT, SWEEP, PLOT = "report.json", "sweep.csv", "sweep.png"


def report(console: Console, out: Path, made: Made, sampled: Sequence[Sampled], rules: Rules, derived: Derived) -> None:
    """Writes report.json, sweep.csv and sweep.png into `out`, and says the main figures."""
    names = rules.names(made)
    figures = cohort_figures(made, sampled, names)
    cells = {
        cohort: sweep(made, own, range(1, rules.m + 1), names, made.seed) for cohort, own in by_cohort(sampled).items()
    }
    content = {
        "made": {name: getattr(made, name) for name in ("model", "prompt", "sampling", "seed", "data", "split")},
        "rules": asdict(rules),
        "figures": figures,
        "kept": len(derived.choices),
        "dropped": dict(derived.dropped),
        "refused": {photo.uid: photo.refused for photo in sampled if photo.refused},
    }
    write_whole(out / REPORT, sealed(content, indent=1))
    write_whole(out / SWEEP, _csv(cells).encode())
    plot = io.BytesIO()
    recall_curves(cells).save(plot, "PNG")
    write_whole(out / PLOT, plot.getvalue())
    for table in _tables(figures, cells):
        print_table(console, table)
    for sentence in derived.sentences():
        console.print(shown(sentence), markup=False, highlight=False, soft_wrap=True)
    console.print(f"{out} holds replies and options, figures in {REPORT} and {SWEEP}, a plot in {PLOT}", soft_wrap=True)


def _csv(cells: Mapping[str, Sequence[Cell]]) -> str:
    names = [field.name for field in fields(Cell)]
    lines = [",".join(["cohort", *names])]
    lines += [",".join([cohort, *map(str, asdict(cell).values())]) for cohort, own in cells.items() for cell in own]
    return "\n".join(lines) + "\n"


def _tables(figures: Mapping[str, Mapping[str, float]], cells: Mapping[str, Sequence[Cell]]) -> list[Table]:
    heads = ("cohort", "photos", "no answer", "names", "entropy", "unanimous", "and right", "recall@1")
    told = ("unparsed", "different", "entropy", "unanimous", "unanimous_right", "recall@1")
    rows = [
        (shortened(cohort), int(own["photos"]), *(round(own[name], 3) for name in told))
        for cohort, own in figures.items()
    ]
    return [Table(heads, tuple(rows), "Replies"), *(_swept(cohort, own) for cohort, own in cells.items())]


def _swept(cohort: str, cells: Sequence[Cell]) -> Table:
    ks, ms = (sorted({getattr(cell, name) for cell in cells}) for name in ("k", "m"))
    rows: list[tuple[str | int | float, ...]] = []
    for k in sorted({ks[0], ks[len(ks) // 2], ks[-1]}):
        line = [cell for cell in cells if cell.k == k]
        recalls = (f"{cell.recall:.3f} [{cell.low:.3f}, {cell.high:.3f}]" for cell in line)
        rows.append((k, *recalls, round(line[-1].guessed, 3), round(line[-1].tokens)))
    heads = ("K", *(f"recall@{m}" for m in ms), "guessed", "tokens")
    return Table(heads, tuple(rows), f"Recall, {shortened(cohort)}")
