from __future__ import annotations

import pytest
from toy_replies import made, sampled

from fgvr.options.deriving import Choice
from fgvr.options.report import by_cohort, cohort_figures, figures, recalled, staleness

PHOTOS = [
    sampled("a", "Red Finch", "Red Finch", "rubra"),
    sampled("b", "Blue Finch", "Red Finch", "Blue Finch", "Red Finch", None),
    sampled("c", "Ash Finch", refused="gone"),
    sampled("d", "Tall Finch", "gull", "Red Finch", parts=2),
]


def test_every_photo_is_in_the_denominator():
    found = figures(made(4), PHOTOS[:3], None)
    assert (found["photos"], found["refused"], found["in_parts"]) == (3, 1, 0)
    assert found["recall@1"] == pytest.approx(1 / 3)
    assert found["recall@2"] == pytest.approx(2 / 3)
    assert found["unparsed"] == pytest.approx(1 / 6)
    assert (found["replies"], found["tokens"]) == (2, 10)
    assert found["unanimous"] == found["unanimous_right"] == pytest.approx(1 / 3)
    assert found["different"] == 1
    assert found["margin"] == pytest.approx((1 + 1 / 4) / 3)


def test_cohorts_are_told_apart_and_scope_shuts_names_out():
    of = made(4)
    assert {cohort: len(own) for cohort, own in by_cohort(PHOTOS).items()} == {"seen": 3, "unseen": 1}
    found = cohort_figures(of, PHOTOS, of.scope("all"))["unseen"]
    assert (found["out_of_scope"], found["different"], found["in_parts"]) == (0.5, 1, 1)
    assert found["recall@1"] == 0


def test_figures_of_nothing_are_refused():
    with pytest.raises(ValueError, match="need photos"):
        figures(made(0), [], None)


def test_options_that_are_as_they_were_are_not_stale():
    same = {"a": ("x", "y"), "b": ("z",)}
    assert staleness(same, same) == {"photos": 2, "jaccard": 0, "rank_overlap": 1, "first_changed": 0}
    found = staleness({"a": ("x", "y"), "gone": ("q",)}, {"a": ("y", "z"), "new": ("q",)})
    assert found["photos"] == 1
    assert found["jaccard"] == pytest.approx(2 / 3)
    assert found["rank_overlap"] == pytest.approx((0 + 1 / 2) / 2)
    assert found["first_changed"] == 1
    with pytest.raises(ValueError, match="none in common"):
        staleness({"a": ("x",)}, {"b": ("x",)})


def test_a_label_that_was_put_there_is_not_recalled():
    offered = Choice("a", "x", ("x", "y"), (2, 1), ("offered", "offered"))
    put = Choice("b", "x", ("y", "x"), (2, 0), ("offered", "truth"))
    padded = Choice("c", "x", ("x", "y"), (2, 0), ("offered", "padded"))
    assert recalled([offered, put, padded]) == pytest.approx(2 / 3)
    with pytest.raises(ValueError, match="needs photos"):
        recalled([])
