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


def printed(table: Table, width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    print_table(console, table)
    return console.file.getvalue().splitlines()  # pyright: ignore[reportAttributeAccessIssue]


def test_a_wide_table_is_printed_in_parts_and_no_word_is_cut():
    heads = ("K", *(f"recall@{m}" for m in range(1, 27)), "guessed", "tokens")
    rows = tuple((k, *(f"0.{k:02}{m:02} [0.1, 0.9]" for m in range(1, 27)), 0.5, 440) for k in (1, 20))
    lines = printed(Table(heads, rows, "Recall"), 80)
    assert max(map(len, lines)) <= 80
    said = "\n".join(lines)
    assert "…" not in said
    for text in (*heads[1:], *(str(cell) for row in rows for cell in row[1:])):
        assert said.count(text) >= 1, text
    tops = [line for line in lines if "recall@" in line or "guessed" in line]
    assert len(tops) > 5
    assert all(line.startswith("┃ K ") for line in tops), "each part says which row is whose"


def test_a_table_whose_words_have_room_stays_one():
    words = "a completion of many words " * 9
    lines = printed(Table(("photo", "completion", "recall@1"), (("a" * 30, words, 0.5),)), 80)
    assert sum("┃" in line for line in lines) == 1
    assert any("a" * 30 in line for line in lines)
    assert printed(Table(("a", "b"), ()), 80)


def test_a_word_that_is_wider_than_the_terminal_goes_on_in_the_next_line():
    lines = printed(Table(("name", "n"), (("ab" * 50, 3),)), 40)
    assert "".join(lines).count("ab") >= 45
