import pytest
from toy_birds import BIRDS, classes

from fgvr.errors import UserError
from fgvr.similarity import OnlineConfusion, Siblings


def test_what_was_answered_most_often_is_most_alike():
    measure = OnlineConfusion()
    nearest = measure.nearest(classes(BIRDS), 2)
    confused = {"Red Finch": {"Barred Wren": 3.0, "Tall Finch": 1.0, "Ash Finch": 1.0}, "Ash Finch": {"Red Finch": 0.0}}
    refined = measure.refined(nearest, confused, 2)
    assert refined["Red Finch"] == (("Barred Wren", 0.6), ("Ash Finch", 0.2))  # of equals the first by name
    assert {name: row for name, row in refined.items() if name != "Red Finch"} == {
        name: row for name, row in nearest.items() if name != "Red Finch"
    }
    assert nearest == Siblings().nearest(classes(BIRDS), 2)


def test_a_score_is_of_the_measure_that_gave_it():
    confused = {"Red Finch": {"Ash Finch": 1.0}, "Ash Finch": {"Red Finch": 0.0}}
    measures = [OnlineConfusion().source_of(name, confused) for name in ("Red Finch", "Ash Finch", "Barred Wren")]
    assert measures == ["OnlineConfusion", "Siblings", "Siblings"]
    assert Siblings().source_of("Red Finch", confused) == "Siblings"


def test_a_class_that_is_not_trained_on_gets_no_rivals():
    measure = OnlineConfusion()
    assert "Emu" not in measure.refined(measure.nearest(classes(BIRDS), 1), {"Emu": {"Red Finch": 2.0}}, 1)


def test_a_decay_is_a_share():
    with pytest.raises(UserError, match="decay is a share"):
        OnlineConfusion(decay=1.5)
