import pytest
from PIL import Image
from toy_birds import classes

from fgvr.errors import SampleError
from fgvr.similarity.base import best, some_photos


def test_the_best_come_first_and_equals_by_name():
    assert best({"c": 1.0, "a": 1.0, "b": 2.0, "d": -1.0}, 3) == (("b", 2.0), ("a", 1.0), ("c", 1.0))
    assert best({}, 3) == ()


def test_a_group_does_not_differ_from_its_members():
    birds = classes()
    assert birds.differ("Red Finch", "Blue Finch")
    assert not birds.differ("Red Finch", "Red Finch")
    assert not birds.differ("Finches", "Red Finch")
    assert not birds.differ("Red Finch", "Finches")


def test_some_photos_of_a_class_are_always_the_same_and_one_that_cannot_be_read_is_said(
    caplog: pytest.LogCaptureFixture,
):
    def photo(number: int) -> Image.Image:
        if number == 3:
            raise SampleError("number 3 is damaged")
        return Image.new("L", (1, 1), number)

    def drawn(count: int, seed: int = 0) -> list[int]:
        return [int(one.getpixel((0, 0))) for one in some_photos("Robin", 9, count, seed, photo)]  # pyright: ignore

    assert drawn(20) == [0, 1, 2, 4, 5, 6, 7, 8]
    assert "left out of the comparison of classes: number 3 is damaged" in caplog.text
    assert drawn(4) == drawn(4) == sorted(drawn(4))
    assert len({tuple(drawn(4, seed)) for seed in range(5)}) > 1
