from toy_birds import classes

from fgvr.similarity.base import best


def test_the_best_come_first_and_equals_by_name():
    assert best({"c": 1.0, "a": 1.0, "b": 2.0, "d": -1.0}, 3) == (("b", 2.0), ("a", 1.0), ("c", 1.0))
    assert best({}, 3) == ()


def test_a_group_does_not_differ_from_its_members():
    birds = classes()
    assert birds.differ("Red Finch", "Blue Finch")
    assert not birds.differ("Red Finch", "Red Finch")
    assert not birds.differ("Finches", "Red Finch")
    assert not birds.differ("Red Finch", "Finches")
