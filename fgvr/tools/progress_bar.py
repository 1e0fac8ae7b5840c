"""How far a tool is, told to whoever waits for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


@contextmanager
def progress_bar(console: Console) -> Iterator[Callable[[str, int, int], None]]:
    """Takes what is done, how many are, and of how many: a bar on a terminal, a line for every tenth elsewhere."""
    if not console.is_terminal:
        told: dict[str, int] = {}

        def tell(what: str, done: int, planned: int) -> None:
            if planned and done * 10 // planned > told.get(what, 0):
                told[what] = done * 10 // planned
                console.print(f"{what}: {done:,} of {planned:,}", highlight=False)

        yield tell
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("", total=None)
        yield lambda what, done, planned: bar.update(task, description=what, completed=done, total=planned)
