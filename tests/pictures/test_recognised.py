from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

from PIL import Image

from fgvr.pictures.contact_sheets import small
from fgvr.pictures.recognised import ROWS, PagesOfRows, Share, Shown, plain

HOSTILE = "</script><img src=x onerror=alert(1)> \u202egnp.exe \x1b[2J"


def row(number: int = 0, **changes: object) -> Shown:
    values: dict[str, object] = {
        "photo": f"{number}.jpg", "image": "", "answer": "Azure Finch", "told": "species, 0.60",
        "path": [Share("family", "Finches", 0.9), Share("species", "Azure Finch", 0.6)],
        "candidates": [Share("6 of 10", "Azure Finch", 0.6)], "reasoning": "", "error": "",
    }  # fmt: skip
    return Shown(**{**values, **changes})  # pyright: ignore[reportArgumentType]


def written(folder: Path, *rows: Shown) -> list[str]:
    pages = PagesOfRows(folder, "predictions", "Photos", lambda: [f"{len(rows)} photos."])
    for one in rows:
        pages.add(one)
    pages.close()
    files = sorted(folder.glob("*.html"), key=lambda file: (len(file.name), file.name))
    return [file.read_text(encoding="utf-8") for file in files]


def test_a_row_has_its_picture_answer_path_and_candidates(tmp_path: Path):
    image = small(Image.new("RGB", (300, 200), "red"), "").image
    (page,) = written(tmp_path, row(image=image, reasoning="A red bib."), row(1, answer="", error="is broken"))
    assert page.count('<div class="row">') == 2
    assert 'src="data:image/jpeg;base64,' in page
    assert "<h2>Azure Finch</h2>" in page
    assert 'style="width:90.0%"' in page
    assert "A red bib." in page
    assert '<h2 class="error">Not used</h2>' in page
    assert "2 photos." in page
    assert "<nav>" not in page


def test_what_is_said_is_text_and_no_request_leaves_the_page(tmp_path: Path):
    share = [Share(HOSTILE, HOSTILE, 0.5)]
    hostile = row(photo=HOSTILE, answer=HOSTILE, told=HOSTILE, path=share, candidates=share, reasoning=HOSTILE)
    (page,) = written(tmp_path, hostile, row(error=HOSTILE))
    assert "<script" not in page
    assert "<img src=x" not in page
    assert "\u202e" not in page
    assert "\x1b" not in page
    assert "default-src 'none'" in page
    assert not re.findall(r"(?:src|href)=\"(?!data:|predictions)", page)
    body = page[page.index("<body>") : page.index("</html>")].replace(' loading="lazy"', "")
    ElementTree.fromstring(re.sub(r"<(img[^>]*)>", r"<\1/>", body))  # every tag is closed


def test_long_tables_are_paged_and_lead_to_each_other(tmp_path: Path):
    (tmp_path / "predictions-3.html").write_text("of an earlier, longer table")
    first, second = written(tmp_path, *(row(number) for number in range(ROWS + 1)))
    assert first.count('<div class="row">') == ROWS
    assert 'href="predictions-2.html"' in first
    assert 'href="predictions.html"' in second
    assert "201 photos." in second
    assert second.count('<div class="row">') == 1
    (tmp_path / "full").mkdir()
    assert len(written(tmp_path / "full", *(row(number) for number in range(ROWS)))) == 1


def test_text_is_cut_and_what_is_obeyed_and_not_seen_is_replaced():
    assert plain("a\u202eb\x00c\nd") == "a�b�c\nd"
    assert plain("x" * 20, 10) == "x" * 10 + "…"
