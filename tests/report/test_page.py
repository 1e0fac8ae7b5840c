from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy_report import HOSTILE

from fgvr.pictures.tables import Table
from fgvr.report.page import as_data, breakable, own_script, plotly_script, policy, report_page
from fgvr.report.parts import Deck, Listing, Part, Tile
from fgvr.report.plots import Plot, drawn, word


class Read(HTMLParser):
    """A page's elements, its text outside of scripts, and the scripts by their kind."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, Any]]] = []
        self.scripts: list[tuple[str, str]] = []
        self.text = ""
        self._kind: str | None = None
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self._kind = dict(attrs).get("type", "")
            self.scripts.append((self._kind or "", ""))

    def handle_endtag(self, tag: str) -> None:
        self._kind = None if tag == "script" else self._kind

    def handle_data(self, data: str) -> None:
        if self._kind is None:
            self.text += data
        else:
            self.scripts[-1] = (self._kind, self.scripts[-1][1] + data)


def hostile_part(key: str = "all") -> Part:
    plot = Plot(HOSTILE, drawn([{"type": "bar", "x": [word(HOSTILE)], "y": [1], "name": word(HOSTILE)}]), HOSTILE)
    deck = Deck("cards", {"cards": [{"photos": [], "title": HOSTILE}]}, 0, HOSTILE, HOSTILE)
    table = Table((HOSTILE, "n"), ((HOSTILE, 1),), HOSTILE, HOSTILE)
    return Part(key, HOSTILE, [HOSTILE], "", [Tile(HOSTILE, HOSTILE, HOSTILE)], [plot], [table], [deck],
                [Listing(HOSTILE, HOSTILE)])  # fmt: skip


def test_what_data_and_models_say_is_shown_and_never_run():
    absent = Part("none", HOSTILE, [], HOSTILE)
    page = report_page([hostile_part(), absent], [{HOSTILE: "data:,"}], HOSTILE, HOSTILE).decode()
    read = Read(page)
    kinds = [kind for kind, _ in read.scripts]
    assert kinds.count("") == 1, "the page's own script alone is one that runs"
    assert dict(read.scripts)[""] == own_script()
    assert not [tag for tag, attrs in read.tags if tag in ("img", "iframe", "object", "link", "base", "form")]
    assert not [attrs for _, attrs in read.tags if any(name.startswith("on") for name in attrs)]
    assert read.text.count("<img src=http://127.0.0.1:9/x onerror=alert(1)>") >= 12
    assert "\u202e" not in page
    assert r"\u202e" in page, "a mark that turns the direction of writing stands as an escape"
    assert "49" not in re.findall(r"\{\{7\*7\}\}|49", read.text), "no template is made of it"
    blocks = [json.loads(text) for kind, text in read.scripts if kind == "application/json"]
    assert blocks[-1] == {HOSTILE: "data:,"}


def test_the_policy_lets_nothing_out_and_its_own_scripts_run():
    page = report_page([hostile_part()], [], "x", "y").decode()
    (said,) = [attrs["content"] for tag, attrs in Read(page).tags if attrs.get("http-equiv")]
    for script in (own_script(), plotly_script()):
        assert base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() in said
    assert said == policy(own_script(), plotly_script())
    assert said.startswith("default-src 'none'; img-src data:;")
    assert "unsafe-eval" not in said
    assert "script-src 'unsafe" not in said


def test_a_page_without_plots_does_not_carry_the_library():
    page = report_page([Part("a", "A", tables=[Table(("x",), (("y",),))])], [], "x", "y")
    assert len(page) < 60_000
    assert b'id="plotly"' not in page


def test_a_page_is_the_same_each_time_and_can_hold_half_a_letter():
    parts = [Part("a", "A", tables=[Table(("x",), (("\ud83d",),))])]
    assert report_page(parts, [], "\ud83d", "y") == report_page(parts, [], "\ud83d", "y")


@given(st.text("<>&/'\"\\!-script\u2028\u2029\ud83d鳥\0"))
def test_data_comes_out_of_its_element_as_it_went_in(text: str):
    data = str(as_data({text: text}))
    assert not re.search("[<>&\u2028\u2029]", data)
    assert json.loads(data) == {text: text}


def test_no_number_is_no_data():
    with pytest.raises(ValueError, match="not JSON compliant"):
        as_data(float("nan"))


def test_plotly_is_given_no_marks_that_it_would_take_for_html():
    assert word("<b>%{x}\n</b>") == "&lt;b&gt;%{x} &lt;/b&gt;"


def test_a_long_name_may_go_on_behind_its_dots_and_a_figure_may_not():
    assert breakable("data.init_args.train_task") == "data.<wbr>init_args.<wbr>train_task"
    assert breakable("0.500 (0.19-0.81)") == "0.500 (0.19-0.81)"
    assert breakable(f"a/<b>{'x' * 30}") == f"a/<wbr>&lt;b&gt;{'x' * 30}"
