from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from browser import opened
from PIL import Image

from fgvr.pictures.drawing import PHOTO
from fgvr.pictures.trace import LONGEST, trace_page

EVIL = '<script>alert(1)</script>\u202e&"'
IMAGE = "\"'><img src=http://127.0.0.1:9/evil.png onerror=alert(1)>"
TEAL = (0, 128, 128)


def row(**changes: Any) -> dict[str, Any]:
    question = {
        "shown": ["Ruby", EVIL],
        "reply": f"<think>{EVIL}</think><answer>A</answer>",
        "chosen": "Ruby",
        "chances": [0.75, 0.25],
    }
    own: dict[str, Any] = {
        "uid": EVIL, "dataset": "birds", "cohort": "seen", "label": EVIL, "greedy": EVIL, "vote": EVIL,
        "answer": "Ruby", "by": "choice", "gate": "asked", "lead": 0.1, "confidence": 0.3, "replies": 8,
        "votes": [{"name": EVIL, "votes": 5, "logprob": -1.25}, {"name": "Ruby", "votes": 2, "logprob": -3.0}],
        "dropped": {"unparsed": 1, "unnamed": 0, "out of scope": 0}, "options": [EVIL, "Ruby"], "questions": [question],
        "right": {"greedy": False, "vote": False, "answer": False, "options": True},
    }  # fmt: skip
    return own | changes


class Read(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def test_what_a_model_says_is_shown_and_never_run():
    photo = Image.new("RGB", (40, 30), "teal")
    read = Read(trace_page([(row(), photo)], "Two <steps>"))
    assert "script" not in read.tags
    assert read.text.count("<script>alert(1)</script>") >= 5
    assert read.text.count("�") >= 5
    assert "\u202e" not in read.text
    for said in (
        "Ruby",
        "5 of 8",
        "-1.25",
        "0.750",
        "left out: 1 unparsed",
        "asked to choose",
        "Two <steps>",
        "→ Ruby",
    ):
        assert said in read.text, said


def test_verdicts_have_their_colours_and_long_replies_end():
    photo = Image.new("L", (400, 300))
    plain = trace_page([(row(), photo)], "x")
    assert 'class="wrong"' in plain
    assert 'class="right"' in trace_page([(row(right={"answer": True}), photo)], "x")
    unlabelled = row(label="", answer=None, by="abstain", gate="nothing read", questions=[])
    unlabelled.pop("right")
    page = trace_page([(unlabelled, photo)], "x")
    assert 'class="none"' in page
    assert "label:" not in page
    assert "no answer" in page
    question = {"shown": ["a"], "reply": "y" * 9000, "chosen": None, "chances": []}
    assert "y" * (LONGEST - 1) + "…" in trace_page([(row(questions=[question]), photo)], "x")


def test_bars_are_as_long_as_their_shares_and_the_label_stands_out():
    page = trace_page([(row(label="Ruby"), Image.new("RGB", (40, 30)))], "x")
    assert [page.count(f'style="width:{share}%"') for share in ("62.5", "25.0", "75.0")] == [1, 2, 1]
    assert page.count('<tr class="label">') == 1
    assert page.count('<tr class="label chosen">') == 1
    assert "1 photo, 0 of 1 right" in page


def share_of(picture: Image.Image, colour: tuple[int, int, int]) -> int:
    """How many pixels have about this colour."""
    apart = np.abs(np.asarray(picture).astype(int) - np.array(colour)).max(axis=-1)
    return int((apart < 9).sum())


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("width", "dark"), [(1200, False), (1200, True), (420, False)])
def test_a_browser_shows_the_page_and_neither_runs_nor_fetches_anything(width: int, dark: bool):
    hostile = row(
        answer=IMAGE, questions=[{"shown": [IMAGE, "Ruby"], "reply": IMAGE + EVIL, "chosen": IMAGE, "chances": []}]
    )
    seen = opened(trace_page([(hostile, Image.new("RGB", (PHOTO, PHOTO), TEAL))], "Two steps"), width, dark=dark)
    assert (seen.complaints, seen.asked) == ([], [])
    read = Read(seen.dom)
    assert read.tags.count("img") == 1
    assert "script" not in read.tags
    assert IMAGE in read.text
    drawn = share_of(seen.picture, TEAL)
    assert drawn > (0.95 * PHOTO**2 if width > 640 else 0.3 * PHOTO**2), "the photo is drawn"
    assert seen.picture.width == width
    colours = seen.picture.getcolors(10**7) or []
    assert len(colours) > 50, "letters have soft edges"
    ground = max(colours)[1]
    assert isinstance(ground, tuple)
    assert (max(ground) < 60) == dark


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_what_a_page_runs_and_fetches_would_be_seen():
    seen = opened('<script>missing()</script><img src="http://127.0.0.1:9/evil.png">')
    assert any("missing is not defined" in said for said in seen.complaints)
    assert seen.asked == ["http://127.0.0.1:9/evil.png"]
