"""The four parts of a thought, from tags to headings and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fgvr.data.sections import Sections, candidates_in, read_reply, sections_of
from fgvr.errors import SampleError

WORDS = st.text("abc xyz,.", min_size=1, max_size=20).map(str.strip).filter(lambda text: text.strip(" .,"))
NAMES = st.lists(st.text("abcxyz", min_size=1, max_size=6), min_size=1, max_size=4, unique=True)


@given(WORDS, NAMES, WORDS, st.text("abcxyz", min_size=1))
def test_what_is_written_is_read_again(analysis: str, names: list[str], comparison: str, prediction: str) -> None:
    whole = Sections(analysis, tuple(names), comparison, prediction)
    parts = sections_of(whole.thought())
    assert parts["Visual analysis"] == analysis.strip()
    assert candidates_in(parts["Candidates"] + ";") == tuple(names)
    assert (parts["Comparison"], parts["Prediction"]) == (comparison.strip(), prediction)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("A; B ; A", ("A", "B")),
        ("1. Coal tit\n2) Great tit.\n- Rook", ("Coal tit", "Great tit", "Rook")),
        ("Coal tit, Great tit", ("Coal tit", "Great tit")),
        ("Audi S4, Sedan; BMW M3", ("Audi S4, Sedan", "BMW M3")),
        (" ", ()),
    ],
)
def test_lists_of_candidates(text: str, names: tuple[str, ...]) -> None:
    assert candidates_in(text) == names


def test_tags_are_read_in_order_and_the_grammar_s_own_are_dropped() -> None:
    text = "Sure!<Analysis>a <think>b</think></Analysis><options>X</options>"
    text += "<comparison>c</comparison><prediction>X.</prediction>"
    assert read_reply(text) == Sections("a b", ("X",), "c", "X")
    with pytest.raises(SampleError, match="missing section: options"):
        read_reply("<options>X</options><analysis>a</analysis><comparison>c</comparison><prediction>X</prediction>")


def test_headings_out_of_order_or_twice_are_no_parts() -> None:
    assert sections_of("Candidates: a\nVisual analysis: b") == {}
    assert sections_of("Comparison: a\nComparison: b") == {}
    assert sections_of("no heading at all") == {}
