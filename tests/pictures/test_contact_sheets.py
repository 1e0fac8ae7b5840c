"""Pages of small photos: whole HTML, whatever the classes are called, that asks for nothing and leads nowhere else."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from browser import opened
from hostile import photo

from fgvr.pictures.contact_sheets import Section, Small, page_name, small, write_index, write_sheet

HOSTILE = (
    '"><img src=x onerror=alert(1)>', "</title></style></html><script>alert(1)</script>", "javascript:alert(1)//.html",
    "https://example.com/a.html", "{{ 7 * 7 }}{% include 'style.css' %}", "&amp;&#60;", "' onmouseover='alert(1)",
    "-->", "\u202etxt.exe", "a" * 200, "../../etc/passwd.html", "Crème brûlée",
)  # fmt: skip
ALONE = ("meta", "img", "br", "!doctype")  # tags that are never closed
ALLOWED = {"html", "head", "meta", "title", "style", "body", "p", "a", "h1", "h2", "div", "figure", "figcaption", "img"}
ALLOWED |= {"table", "thead", "tbody", "tr", "th", "td"}


class Strict(HTMLParser):
    """Raises AssertionError for a tag that is not closed in its turn, and for anything that could act or ask."""

    def __init__(self) -> None:
        super().__init__()
        self.within: list[str] = []
        self.links: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in ALLOWED, tag
        assert not [name for name, _ in attrs if name.startswith("on")]
        for name, value in attrs:
            if name == "href":
                self.links.append(value or "")
            if name == "src":
                assert (value or "").startswith("data:image/jpeg;base64,")
        if tag not in ALONE:
            self.within.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.within.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def read(page: str) -> Strict:
    strict = Strict()
    strict.feed(page)
    strict.close()
    assert strict.within == []
    return strict


@pytest.fixture
def pages(tmp_path: Path) -> Path:
    """An index and a sheet for each hostile name."""
    rows = [["class", "train", "photos"]]
    (tmp_path / "classes").mkdir()
    for number, name in enumerate(HOSTILE):
        file = f"classes/{page_name(number, name)}"
        photos = [small(photo(number), name), Small("", name)]
        write_sheet(tmp_path / file, name, [Section(name, name, photos)], "../index.html")
        rows.append([name, "1", file])
    write_index(tmp_path / "index.html", HOSTILE[0], HOSTILE, {"Classes": rows})
    return tmp_path


def test_pages_are_whole_and_names_are_text(pages: Path):
    index = read((pages / "index.html").read_text())
    assert all(index.text.count(name) >= 2 for name in HOSTILE)  # as a sentence and as a class
    files = sorted(file.relative_to(pages).as_posix() for file in (pages / "classes").iterdir())
    assert sorted(index.links) == files  # no name of a class is a link
    assert len(files) == len(HOSTILE)
    for file in files:
        assert re.fullmatch(r"classes/[0-9]{5}[a-z0-9-]*\.html", file)
        sheet = read((pages / file).read_text())
        assert sheet.links == ["../index.html"]
        assert "cannot be read" in sheet.text


@pytest.mark.slow
def test_a_browser_asks_for_nothing_and_has_nothing_to_complain_of(pages: Path):
    for page, dark in ((pages / "index.html", False), (pages / "classes" / page_name(0, HOSTILE[0]), True)):
        seen = opened(page.read_text(), width=380, height=800, dark=dark)
        assert seen.asked == []
        assert seen.complaints == []
        assert "<script" not in seen.dom
        assert len(seen.picture.getcolors(1 << 20) or []) > 20
