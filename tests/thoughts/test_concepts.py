"""Which concepts a photo shows: the score by hand, its bounds, and what is kept."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fgvr.thoughts.concepts import OTHERS, count_words, rivals, scores, select

X, Y = np.array([1.0, 0.0]), np.array([0.0, 1.0])


def test_a_score_by_hand() -> None:
    # t = 1: one description X, one of another photo Y. Of the concept X: s(d, z) = 1 and s(d', z) = 0, so
    # log(e / (e + 1)) = -0.3133; of the concept Y the other way round, log(1 / (1 + e)) = -1.3133
    found = scores(np.stack([X, Y]), X[None], Y[None], temperature=1.0)
    assert found == pytest.approx([1 - math.log(math.e + 1), -math.log(1 + math.e)])
    # two descriptions X and Y of the photo: the concept X has log(e / (e + 1)) + log(1 / (1 + 1)) = -0.3133 - 0.6931
    both = scores(X[None], np.stack([X, Y]), Y[None], temperature=1.0)
    assert both == pytest.approx([1 - math.log(math.e + 1) - math.log(2)])
    assert scores(X[None], X[None], np.zeros((0, 2))) == pytest.approx([0.0])


def test_what_is_kept_by_hand() -> None:
    # mean 2, standard deviation sqrt(2): above 2 + 0.4 * 1.414 = 2.566 are 4 and 3
    assert select(np.array([0.0, 1.0, 2.0, 3.0, 4.0]), least=1) == [4, 3]
    assert select(np.array([0.0, 1.0, 2.0, 3.0, 4.0])) == [4, 3, 2]  # three at the least
    assert select(np.array([5.0, 5.0])) == [0, 1]
    assert select(np.array([])) == []


@given(
    st.lists(st.lists(st.floats(-1, 1), min_size=3, max_size=3), min_size=1, max_size=5),
    st.lists(st.lists(st.floats(-1, 1), min_size=3, max_size=3), min_size=0, max_size=5),
)
def test_no_score_is_above_nought_and_more_rivals_only_lower_it(own, others) -> None:
    def unit(rows) -> np.ndarray:
        rows = np.array(rows, dtype=float).reshape(-1, 3) + np.array((1e-3, 0, 0))
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    concepts, mine, rivals = unit(own), unit(own), unit(others)
    found = scores(concepts, mine, rivals)
    assert (found <= 1e-12).all()
    more = scores(concepts, mine, np.concatenate([rivals, concepts]))
    assert (more <= found + 1e-9).all()


def test_counted_words_are_nearer_where_more_are_shared() -> None:
    one, near, far, empty = count_words(["a red cap", "a red brow", "long grey tail", ""])
    assert one @ near > one @ far
    assert np.linalg.norm(one) == pytest.approx(1)
    assert not empty.any()


def all_then_cut(described: list[np.ndarray], place: int) -> np.ndarray:
    """The slow twin: every other description side by side, of which some are taken."""
    found = [one for number, one in enumerate(described) if number != place and len(one)]
    others = np.concatenate(found) if found else np.zeros((0, described[place].shape[1]))
    return others[[number * len(others) // OTHERS for number in range(OTHERS)]] if len(others) > OTHERS else others


@given(st.lists(st.integers(0, 90), min_size=1, max_size=9), st.data())
def test_others_are_picked_as_from_all_of_them(sizes: list[int], data: st.DataObject) -> None:
    numbers = iter(range(sum(sizes)))
    described = [np.array([[next(numbers), 1.0] for _ in range(size)]).reshape(size, 2) for size in sizes]
    place = data.draw(st.integers(0, len(sizes) - 1))
    assert np.array_equal(rivals(described, place), all_then_cut(described, place))
