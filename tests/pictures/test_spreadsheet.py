from __future__ import annotations

import csv
import io

from fgvr.pictures.spreadsheet import harmless, heads, spreadsheet


def test_cells_come_back_and_none_is_a_formula():
    rows = [["=1", "-x", "\u00a0=1"], ["a,b", 'say "hi"', "line\nbreak"], ["'tis", "\ud800", ""]]
    read = list(csv.reader(io.StringIO(spreadsheet(rows).decode(), newline="")))
    assert read[0] == ["'=1", "'-x", "'\u00a0=1"]
    assert read[1] == rows[1]
    assert read[2] == ["''tis", "\\ud800", ""]
    assert harmless("a=1") == "a=1"


def test_a_rank_may_be_called_like_a_column():
    assert heads(["file"], ["error", "genus"], ["error"]) == ["file", "error (rank)", "genus", "error"]
