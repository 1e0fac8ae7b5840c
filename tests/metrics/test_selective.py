from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, binomtest

from fgvr.errors import UserError
from fgvr.metrics.selective import (
    Graded,
    Operating,
    choose,
    clopper_pearson,
    curve,
    enough_for,
    operate,
    upper_bound,
)

PHOTOS = [
    Graded((1.0, 1.0, 0.8), 3),
    Graded((0.9, 0.6, 0.6), 2),  # wrong at the species
    Graded((0.5, 0.2), 0),  # wrong altogether
    Graded((), 0),  # nothing was read
]


def test_coverage_and_risk_by_hand():
    # at 0.6: three nodes down (right), three down (the third is wrong), none, none
    assert operate(PHOTOS, 0.6) == Operating(0.6, 1, (2, 0, 0, 2))
    # at 0.5: the third photo is answered one node down, wrongly: 3 of 4 answered, 2 of 3 wrong
    point = operate(PHOTOS, 0.5)
    assert (point.n, point.answered, point.coverage, point.risk) == (4, 3, 0.75, pytest.approx(2 / 3))
    # at 0.7: the second stands one node down, where it is right
    assert operate(PHOTOS, 0.7) == Operating(0.7, 0, (2, 1, 0, 1))
    assert operate(PHOTOS, 1.0).depths == (3, 0, 1, 0)
    assert [point.threshold for point in curve(PHOTOS, 4)] == [1.0, 0.75, 0.5, 0.25]


def test_nothing_has_no_risk_and_every_interval():
    point = operate([], 0.5)
    assert (point.coverage, point.risk, point.risk_interval, point.coverage_interval) == (0.0, 0.0, (0, 1), (0, 1))


def test_the_bound_by_hand():
    # none of n wrong: (1 - p)^n = 1 - level, so p = 1 - 0.1^(1/22) = 0.0994
    assert upper_bound(0, 22, 0.9) == pytest.approx(1 - 0.1 ** (1 / 22))
    assert upper_bound(0, 21, 0.9) > 0.1 > upper_bound(0, 22, 0.9)
    assert enough_for(0.1, 0.9) == 22
    assert enough_for(0.0, 0.9) == enough_for(0.1, 1.0) == 0
    assert upper_bound(3, 3, 0.9) == upper_bound(0, 0, 0.9) == 1.0


@given(st.integers(1, 400), st.data(), st.sampled_from([0.5, 0.8, 0.9, 0.95, 0.99]))
def test_bounds_are_those_of_scipy(n: int, data: st.DataObject, level: float):
    wrong = data.draw(st.integers(0, n))
    low, high = clopper_pearson(wrong, n, level)
    theirs = binomtest(wrong, n).proportion_ci(level, method="exact")
    assert (low, high) == (pytest.approx(theirs.low, abs=1e-9), pytest.approx(theirs.high, abs=1e-9))


def test_large_counts_are_quick_and_right():
    bound = upper_bound(1200, 100_000, 0.9)
    assert binom.cdf(1200, 100_000, bound) == pytest.approx(0.1, abs=1e-6)


def points(*counts: tuple[int, int], n: int = 200) -> list[Operating]:
    """(answered, wrong) at thresholds from 1 downward."""
    return [
        Operating(1 - k / len(counts), wrong, (n - answered, answered)) for k, (answered, wrong) in enumerate(counts)
    ]


def test_the_lowest_threshold_that_holds_is_chosen():
    # upper bounds at level 0.9 of 0 of 30: .074, 1 of 60: .063, 5 of 100: .091, 12 of 150: .116
    found = choose(points((30, 0), (60, 1), (100, 5), (150, 12)), 0.1, 0.9)
    assert found is not None
    assert (found.answered, found.threshold) == (100, 0.5)


def test_testing_stops_at_the_first_threshold_that_fails():
    # 9 of 60 fails, so that 5 of 100 behind it is not looked at any more
    found = choose(points((30, 0), (60, 9), (100, 5)), 0.1, 0.9)
    assert found is not None
    assert found.answered == 30
    assert choose(points((30, 6), (100, 0)), 0.1, 0.9) is None


def test_thresholds_with_too_few_answers_to_tell_are_passed_over():
    found = choose(points((3, 1), (21, 0), (40, 0)), 0.1, 0.9)
    assert found is not None
    assert found.answered == 40
    assert choose(points((3, 0), (21, 0)), 0.1, 0.9) is None
    assert choose([], 0.1, 0.9) is None


def test_refusals_are_sentences():
    with pytest.raises(UserError, match=r"selective\.risk is a share"):
        choose([], 1.5, 0.9)
    with pytest.raises(ValueError, match="never rise"):
        Graded((0.5, 0.6), 0)
    with pytest.raises(ValueError, match="right counts nodes"):
        Graded((0.5,), 2)


graded = st.lists(st.floats(0, 1), max_size=4).flatmap(
    lambda own: st.integers(0, len(own)).map(lambda right: Graded(tuple(sorted(own, reverse=True)), right))
)


@given(st.lists(graded, max_size=30), st.integers(1, 12))
def test_a_lower_threshold_answers_more_and_accounts_for_all(photos: list[Graded], steps: int):
    found = curve(photos, steps)
    answered = [point.answered for point in found]
    assert answered == sorted(answered)
    assert all(point.n == len(photos) and 0 <= point.wrong <= point.answered for point in found)


def test_the_promise_holds_as_often_as_it_says():
    """Of 400 calibrations on 300 photos each, the chosen threshold's true risk is above the target in at most 10 %.

    Confidence c is uniform on tenths, an answer is wrong with probability 0.6 (1 - c): the true risk at threshold t is
    0.6 (1 - mean of the tenths from t to 1). 400 x 0.1 = 40 failures are allowed, plus three standard deviations of
    6: 58.
    """
    import numpy as np

    rng, failures, chosen = np.random.default_rng(0), 0, 0
    for _ in range(400):
        confidence = rng.integers(1, 11, 300) / 10
        right = rng.random(300) >= 0.6 * (1 - confidence)
        found = choose(
            curve([Graded((float(c),), int(r)) for c, r in zip(confidence, right, strict=True)], 10), 0.1, 0.9
        )
        if found is not None:
            chosen += 1
            tenths = [k / 10 for k in range(round(found.threshold * 10), 11)]
            failures += 0.6 * (1 - math.fsum(tenths) / len(tenths)) > 0.1
    assert chosen > 350
    assert failures <= 58
