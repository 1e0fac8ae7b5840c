"""Tables that a spreadsheet opens, of text that nobody has vouched for."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

# a spreadsheet takes a cell that begins so for a formula; the second four are full-width
FORMULA = tuple("=+-@＝＋－＠\t\r\n'")


def spreadsheet(rows: Iterable[Sequence[str]]) -> bytes:
    """The rows as CSV in UTF-8, every cell in quotation marks.

    A cell that a spreadsheet would run as a formula, or that begins with an apostrophe, gets an apostrophe before it: a
    first apostrophe is never part of the text.
    """
    stream = io.StringIO()
    table = csv.writer(stream, lineterminator="\n", quoting=csv.QUOTE_ALL)
    table.writerows([harmless(cell) for cell in row] for row in rows)
    # a lone surrogate cannot be written as UTF-8
    return stream.getvalue().encode("utf-8", "backslashreplace")


def harmless(cell: str) -> str:
    """The cell, with an apostrophe before what a spreadsheet would run."""
    return f"'{cell}" if cell.startswith(FORMULA) or cell.lstrip().startswith(FORMULA) else cell


def heads(first: Sequence[str], ranks: Iterable[str], last: Sequence[str]) -> list[str]:
    """Column names with the ranks between others; a rank that is called like one of these says that it is a rank."""
    return [*first, *(f"{rank} (rank)" if rank in (*first, *last) else rank for rank in ranks), *last]
