from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

from PIL import Image

from fgvr.pictures.trace import LONGEST, trace_page

EVIL = '<script>alert(1)</script>\u202e&"'


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
