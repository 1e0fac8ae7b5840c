"""`python -m fgvr report RUN [RUN ...] --out DIR`: runs as one page of HTML that opens anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from fgvr.errors import UserError, refuse_below, shown
from fgvr.next_steps import after_report
from fgvr.report.page import report_page
from fgvr.report.ran import named_apart, read_run
from fgvr.report.sections import sections
from fgvr.report.subject import Subject, subjects_of
from fgvr.whole_files import refuse_no_folder, write_whole

FILE = "index.html"


def report(runs: list[Path], out: Path, rollouts: int = 2000, data: Path | list[Path] | None = None) -> str:
    """Write one page of HTML about runs: what was run, curves, rollouts with their photos, confusions, side by side.

    The page holds everything that it shows, asks nothing of a network, and runs on a phone as on paper. What a run has
    not kept is named with what would bring it. Runs are only read, also while they are going. Returns what to do next.

    Args:
        runs: folders of runs (run.dir); the first is compared with each of the others
        out: the folder that gets index.html
        rollouts: completions to show of all runs together, taken evenly over their training
        data: the shard set, or a list of several, where they no longer lie where the runs' configs say
    """
    refuse_below(1, "report", rollouts=rollouts)
    if not runs:
        raise UserError("a report needs a run: python -m fgvr report runs/NAME --out report")
    refuse_no_folder(out)
    console = Console()
    found = [read_run(folder) for folder in runs]
    named_apart(found)
    subjects = subjects_of(found, [data] if isinstance(data, Path) else data or [], rollouts)
    with console.status("drawing") as status:  # which only a terminal shows
        parts = sections(subjects, lambda what: status.update(f"drawing: {what}"))
    page = report_page(parts, [subject.photos.found for subject in subjects], _title(subjects), _said(subjects))
    out.mkdir(parents=True, exist_ok=True)
    write_whole(out / FILE, page)
    for sentence in _remarks(subjects):
        console.print(shown(sentence), markup=False, highlight=False, soft_wrap=True)
    absent = [part.title.lower() for part in parts if not part.is_there]
    if absent:
        text = f"Not in these runs, and at the page's end with what would bring it: {'; '.join(absent)}."
        console.print(text, markup=False, highlight=False, soft_wrap=True)
    return after_report(out / FILE, len(page), runs)


def _title(subjects: Sequence[Subject]) -> str:
    return " and ".join(subject.name for subject in subjects) if len(subjects) < 4 else f"{len(subjects)} runs"


def _said(subjects: Sequence[Subject]) -> str:
    told = [
        f"{subject.name}: {', '.join(filter(None, [subject.ran.method, f'{subject.ran.steps:,} optimiser steps']))}"
        for subject in subjects
    ]
    return "; ".join(told) if len(subjects) > 1 else told[0].partition(": ")[2]


def _remarks(subjects: Sequence[Subject]) -> list[str]:
    """What could not be shown as it should be: damaged files, sets that are not there, photos that were not found."""
    found: list[str] = []
    for subject in subjects:
        found += [f"{subject.name}: {one}" for one in (*subject.ran.remarks, *subject.remarks, *subject.photos.missing)]
        if subject.photos.unread:
            found.append(
                f"{subject.name}: {subject.photos.unread:,} photos could not be found or read, and are not shown."
            )
    return found
