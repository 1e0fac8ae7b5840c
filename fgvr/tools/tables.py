"""Tables in the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from fgvr.pictures.tables import Table


def print_table(console: Console, table: Table) -> None:
    """The table as wide as the terminal allows, its title above and its note below; every mark stands as it is."""
    grid = Grid()
    for name in table.columns:
        grid.add_column(Text(name))
    for row in table.texts():
        grid.add_row(*map(Text, row))
    if table.title:
        console.print(Text(table.title, "bold"), soft_wrap=True)
    console.print(grid)
    if table.note:
        console.print(Text(table.note), soft_wrap=True)
    console.print()
