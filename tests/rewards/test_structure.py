"""The reward for structured thoughts, part by part."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fgvr.data.sections import Sections
from fgvr.rewards import Structure
from fgvr.rewards.structure import share_of_parts
from fgvr.types import Answer

WHOLE = Sections("a red cap", ("Coal Tit", "Great Tit"), "The coal tit lacks what the great tit has.", "Great Tit")


@pytest.mark.parametrize(
    ("thought", "answer", "share"),
    [
        (WHOLE.thought(), "great tit", 1.0),
        (WHOLE.thought(), "Coal Tit", 0.75),  # three of four: the prediction is not the answer
        (WHOLE.thought().replace("The coal tit lacks", "It lacks"), "Great Tit", 0.75),  # compares one of two
        (
            WHOLE.thought().replace("Coal Tit; ", "Wren; Rook; Crow; Jay; "),
            "Great Tit",
            0.5,
        ),  # five candidates, one compared
        (WHOLE.thought().replace("a red cap", ""), "Great Tit", 0.75),
        ("It is a great tit.", "Great Tit", 0.0),
        (WHOLE.thought().replace("The coal tit lacks", "Coal tits' wings lack"), "Great Tit", 1.0),
        (WHOLE.thought().replace("Coal Tit; ", "Rail; ").replace("The coal", "The trailing"), "Great Tit", 0.75),
        (WHOLE.thought().replace("Coal Tit; ", "?!; "), "Great Tit", 1.0),  # the only candidate is compared
        (Sections("a", ("?!",), "b", "Great Tit").thought(), "Great Tit", 0.25),  # no candidate, nothing compared
        (f"{WHOLE.thought()}\nPrediction: Great Tit", "Great Tit", 0.0),
    ],
)
def test_a_quarter_for_each_part_that_does_its_work(thought: str, answer: str, share: float) -> None:
    assert share_of_parts(Answer(answer, thought)) == share


def test_a_reply_that_did_not_parse_earns_nothing() -> None:
    assert share_of_parts(None) == 0.0


@given(st.text(max_size=200), st.text(min_size=1, max_size=20))
def test_it_lies_between_nought_and_one(thought: str, answer: str) -> None:
    assert 0 <= share_of_parts(Answer(answer, thought)) <= 1
    assert Structure().score([]) == []
