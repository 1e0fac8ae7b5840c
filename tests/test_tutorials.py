"""Every tutorial runs as it is typed, and prints what its page shows."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
from tutorial_pages import PAGES, ROOT, blocks, commands, missing, prepared, run

from fgvr.__main__ import RUNS, TOOLS

TEXTS = {page: page.read_text(encoding="utf-8") for page in PAGES}
INDEX = (ROOT / "docs/tutorials/README.md").read_text(encoding="utf-8")
LONG = [pytest.mark.slow, pytest.mark.timeout(1200)]


def test_there_are_ten_and_the_index_has_them_in_order():
    assert [page.name[:2] for page in PAGES] == [f"{number:02}" for number in range(1, 11)]
    assert re.findall(r"\]\((\d\d_\w+\.md)\)", INDEX) == [page.name for page in PAGES]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_says_what_it_needs_and_what_to_read_next(page: Path):
    text = TEXTS[page]
    assert re.match(rf"# {int(page.name[:2])}\. .+\n\n\*You need\*: ", text)
    assert re.findall(r"^## (.+)$", text, re.MULTILINE)[-1] == "What to read next"
    for link, anchor in re.findall(r"\]\((?!https?:)([^)#]+)(?:#([\w-]+))?\)", text):
        assert (page.parent / link).is_file(), link
        if anchor:
            titles = re.findall(r"^#+ (.+)$", (page.parent / link).read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w\- ]", "", title).lower().replace(" ", "-") for title in titles}, anchor
    for block in blocks(text):
        if block.kind == "python":
            compile(block.typed, page.name, "exec")
        else:
            for words in commands(block.typed):
                assert words[:3] == ["python", "-m", "fgvr"]
                assert words[3] in {*RUNS, *TOOLS}
    assert "@\n```" not in text


def test_what_is_printed_is_held_against_what_is_shown():
    printed = "a first line\n  loss   0.41 at 1,020\nseen/exact 0.70\n0:00:12 passed\n"
    assert missing("a first line\nseen/exact 0.75\n", printed) is None
    assert missing("loss 0.5 at 1,000\n0:00:55 passed", printed) is None
    assert missing("a ... line\n...\nseen/exact ...", printed) is None
    assert missing("seen/exact 0.20", printed) == "seen/exact 0.20"
    assert missing("loss 0.41 at 1,900", printed) == "loss 0.41 at 1,900"
    assert missing("seen/exact 0.70\na first line", printed) == "a first line"  # out of order


def follow(page: Path) -> None:
    names: dict[str, Any] = {}
    for block in blocks(TEXTS[page]):
        printed = run(block, names, seconds=600)
        line = missing(block.shown, printed)
        assert line is None, f"{page.name} shows {line!r}, which was not printed:\n{block.typed}\n{printed}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the first tutorial has been typed, with which the others begin."""
    folder, before = prepared(tmp_path_factory.mktemp("typed")), Path.cwd()
    os.chdir(folder)
    try:
        follow(PAGES[0])
    finally:
        os.chdir(before)
    return folder


class TestTyped:
    pytestmark = LONG

    @pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
    def test_a_tutorial(self, page: Path, folder: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.chdir(folder)
        if page != PAGES[0]:
            follow(page)
        assert (folder / "runs/birds/final_metrics.json").is_file()
