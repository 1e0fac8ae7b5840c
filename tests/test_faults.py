"""docs/faults.md: each fault has tests, and they are there."""

from __future__ import annotations

from pathlib import Path

import pytest

TESTS = Path(__file__).parent
PAGE = (TESTS.parent / "docs/faults.md").read_text(encoding="utf-8")
ROWS = [line.strip("| ").split(" | ") for line in PAGE.splitlines() if line.startswith("| ")][1:]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0][:60])
def test_every_fault_is_shown_by_tests(row: list[str]):
    _, _, shown = row
    for place in shown.split("; "):
        file, test = place.split(": ")
        assert f"def {test}(" in (TESTS / file).read_text(encoding="utf-8")


def test_the_list_is_whole():
    assert len(ROWS) == 26
