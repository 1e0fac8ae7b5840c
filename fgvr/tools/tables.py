"""Tables in the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from fgvr.pictures.tables import Table

EDGES = 3  # letters that a column takes beside its own, and one more the whole table


def print_table(console: Console, table: Table) -> None:
    """The table as wide as the terminal allows, its title above and its note below; every mark stands as it is.

    Where a word would be cut it is printed in parts, each with the columns that tell its rows apart.
    """
    if table.title:
        console.print(Text(table.title, "bold"), soft_wrap=True)
    rows = table.texts()
    sizes = [_Size.of([head, *(row[place] for row in rows)]) for place, head in enumerate(table.columns)]
    for places in _parts(sizes, _keys(rows), console.width):
        grid = Grid()
        for place, size in zip(places, _widths([sizes[place] for place in places], console.width), strict=True):
            grid.add_column(Text(table.columns[place]), width=size, overflow="fold")
        for row in rows:
            grid.add_row(*(Text(row[place]) for place in places))
        console.print(grid)
    if table.note:
        console.print(Text(table.note), soft_wrap=True)
    console.print()


@dataclass(frozen=True)
class _Size:
    """How wide a column is by its longest word, below which that is cut, and by its longest text."""

    word: int
    text: int

    @classmethod
    def of(cls, texts: Sequence[str]) -> _Size:
        return cls(max(cell_len(word) for text in texts for word in [*text.split(), ""]), max(map(cell_len, texts)))


def _parts(sizes: Sequence[_Size], keys: int, width: int) -> Iterator[list[int]]:
    """The columns of each part by place: all of them together where every word has room."""
    if _room([size.word for size in sizes]) <= width:
        yield [*range(len(sizes))]
        return
    part: list[int] = []
    for place in range(keys, len(sizes)):
        if part and _room([sizes[one].text for one in (*range(keys), *part, place)]) > width:
            yield [*range(keys), *part]
            part = []
        part.append(place)
    yield [*range(keys), *part]


def _widths(sizes: Sequence[_Size], width: int) -> list[int | None]:
    """No column narrower than its longest word; what is left goes to the first ones. None where there is no room."""
    left = width - _room([size.word for size in sizes])
    if left < 0:
        return [None] * len(sizes)
    widths: list[int | None] = []
    for size in sizes:
        more = min(left, size.text - size.word)
        widths.append(size.word + more)
        left -= more
    return widths


def _room(widths: Sequence[int]) -> int:
    return sum(widths) + EDGES * len(widths) + 1


def _keys(rows: Sequence[Sequence[str]]) -> int:
    """How many of the first columns tell the rows apart; one where nothing does."""
    most = len(rows[0]) if rows else 1
    return next((n for n in range(1, most) if len({tuple(row[:n]) for row in rows}) == len(rows)), 1)
