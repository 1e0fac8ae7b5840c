"""Lengths of replies by hand, and how they are cut into stretches."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fgvr.metrics.lengths import LENGTH_FIGURES, by_length, length_figures

REPLIES = st.lists(st.tuples(st.integers(0, 40), st.booleans()), max_size=60)


def test_mean_lengths_by_hand() -> None:
    # all (10 + 20 + 60) / 3 = 30; the exact ones (10 + 20) / 2 = 15; the other 60
    found = length_figures([(10, True), (60, False), (20, True)])
    assert found == {"length": 30.0, "length_exact": 15.0, "length_others": 60.0}
    assert length_figures([(7, False)]) == {"length": 7.0, "length_exact": 0.0, "length_others": 7.0}
    assert length_figures([]) == dict.fromkeys(LENGTH_FIGURES, 0.0)


def test_stretches_by_hand() -> None:
    # two stretches of six: the three shortest, of which two are exact, and the rest, of which one is
    replies = [(9, False), (1, True), (2, False), (3, True), (8, False), (7, True)]
    short, long = by_length(replies, 2)
    assert (short.n, short.tokens, short.exact) == (3, 2.0, pytest.approx(2 / 3))
    assert (long.n, long.tokens, long.exact) == (3, 8.0, pytest.approx(1 / 3))
    # Wilson's interval of 2 of 3, z = 1.96: (2/3 + 0.640 -+ 1.96 sqrt(0.0741 + 0.1067)) / 2.280
    assert (short.low, short.high) == (pytest.approx(0.208, abs=1e-3), pytest.approx(0.939, abs=1e-3))
    assert by_length([]) == []


def test_replies_of_one_length_stay_together() -> None:
    assert [one.n for one in by_length([(5, True)] * 9 + [(6, False)], 5)] == [9, 1]
    assert len(by_length([(5, False)] * 9)) == 1


@given(REPLIES, st.integers(1, 6))
def test_every_reply_is_in_one_stretch_and_none_is_longer_than_the_next(
    replies: list[tuple[int, bool]], stretches: int
) -> None:
    found = by_length(replies, stretches)
    assert len(found) <= stretches
    assert sum(one.n for one in found) == len(replies)
    assert sum(one.n * one.exact for one in found) == pytest.approx(sum(exact for _, exact in replies))
    assert sum(one.n * one.tokens for one in found) == pytest.approx(sum(length for length, _ in replies))
    assert all(one.tokens < other.tokens for one, other in pairwise(found))
    assert all(0 <= one.low <= one.exact <= one.high <= 1 for one in found)


@given(REPLIES)
def test_the_order_of_replies_changes_nothing(replies: list[tuple[int, bool]]) -> None:
    assert by_length(replies) == by_length(replies[::-1])
    assert length_figures(replies) == pytest.approx(length_figures(sorted(replies)))
