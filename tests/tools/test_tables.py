from __future__ import annotations

import io

from rich.console import Console

from fgvr.pictures.tables import Table
from fgvr.tools.tables import print_table


def test_marks_stand_as_they_are_and_numbers_to_four_places():
    console = Console(file=io.StringIO(), width=80)
    rows = (("[red]kite[/red]", 0.123456, None), ("a | b & c", 2.0, 3))
    print_table(console, Table(("name", "share", "[n]"), rows, "Kites, [b]all[/b]", "Of *all* photos."))
    said = console.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue]
    for text in ("Kites, [b]all[/b]", "[red]kite[/red]", "0.1235", "none", "a | b & c", "[n]", "Of *all* photos."):
        assert text in said
