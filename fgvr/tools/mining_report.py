"""What mining found, for people and for programs: tables in the terminal, and the files beside the options."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path

from rich.console import Console
from rich.table import Table

from fgvr.errors import shown
from fgvr.options.deriving import Derived, Rules
from fgvr.options.report import by_cohort, cohort_figures
from fgvr.options.store import Made, Sampled
from fgvr.options.sweep import Cell, sweep
from fgvr.pictures.recall import recall_curves
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
    _print(console, figures, cells)
    for sentence in derived.sentences():
        console.print(shown(sentence), markup=False, highlight=False, soft_wrap=True)
    console.print(f"{out} holds replies and options, figures in {REPORT} and {SWEEP}, a plot in {PLOT}", soft_wrap=True)


def _csv(cells: Mapping[str, Sequence[Cell]]) -> str:
    names = [field.name for field in fields(Cell)]
    lines = [",".join(["cohort", *names])]
    lines += [",".join([cohort, *map(str, asdict(cell).values())]) for cohort, own in cells.items() for cell in own]
    return "\n".join(lines) + "\n"


def _print(console: Console, figures: Mapping[str, Mapping[str, float]], cells: Mapping[str, Sequence[Cell]]) -> None:
    table = Table("cohort", "photos", "unparsed", "different", "entropy", "unanimous", "of them right", "recall@1")
    for cohort, own in figures.items():
        shares = (own["unparsed"], own["different"], own["entropy"], own["unanimous"], own["unanimous_right"])
        table.add_row(cohort, f"{own['photos']:,.0f}", *(f"{one:.3f}" for one in (*shares, own["recall@1"])))
    console.print(table)
    for cohort, own in cells.items():
        ks = sorted({cell.k for cell in own})
        ms = sorted({cell.m for cell in own})
        table = Table(f"{cohort}: K", *(f"recall@{m}" for m in ms), "guessed", "tokens")
        for k in sorted({ks[0], ks[len(ks) // 2], ks[-1]}):
            line = [cell for cell in own if cell.k == k]
            recalls = (f"{cell.recall:.3f} [{cell.low:.3f}, {cell.high:.3f}]" for cell in line)
            table.add_row(str(k), *recalls, f"{line[-1].guessed:.3f}", f"{line[-1].tokens:,.0f}")
        console.print(table)
