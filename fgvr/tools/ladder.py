"""`python -m fgvr ladder`: what two-step inference and its training add, rung by rung, from the rows of runs."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from fgvr.metrics.two_step_reading import by_cohort, read_rows, refuse_others
from fgvr.next_steps import after_ladder
from fgvr.pictures.ladder import ladder_tables
from fgvr.tools.tables import print_table
from fgvr.whole_files import write_whole


def ladder(untrained: Path, trained: Path | None = None, out: Path | None = None) -> str:
    """Print tables of greedy answers, the vote and the choice: intervals, paired tests, the split, gates, tokens.

    Returns what to do next.

    Args:
        untrained: the rows of the weights a run began with, such as runs/divek/two_step/step-00000000.jsonl
        trained: those of the trained weights about the same photos, such as runs/divek/two_step/step-00000160.jsonl
        out: a markdown file to write besides
    """
    before = read_rows(untrained)
    after = None if trained is None else read_rows(trained)
    if trained is not None and after is not None:
        refuse_others(untrained, before, trained, after)
    known = before.made if after is None or after.made is not None else None
    tables = ladder_tables(by_cohort(before.photos), None if after is None else by_cohort(after.photos), known)
    console = Console()
    for table in tables:
        print_table(console, table)
    if out is not None:
        text = "\n\n".join(table.markdown() for table in tables) + "\n"
        write_whole(out, text.encode("utf-8", "backslashreplace"))
    return after_ladder(untrained, trained)
