"""What a photo's concepts are held against: descriptions of the other photos, the same however they are picked."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fgvr.aviary.names import catalogue
from fgvr.errors import UserError
from fgvr.thoughts.aviary_teacher import AviaryTeacher
from fgvr.thoughts.building import OTHERS, _others
from fgvr.thoughts.teacher import Asked, Photo


def all_then_cut(described: list[np.ndarray], place: int) -> np.ndarray:
    """The slow twin: every other description side by side, of which some are taken."""
    rivals = [one for number, one in enumerate(described) if number != place and len(one)]
    others = np.concatenate(rivals) if rivals else np.zeros((0, described[place].shape[1]))
    return others[[number * len(others) // OTHERS for number in range(OTHERS)]] if len(others) > OTHERS else others


@given(st.lists(st.integers(0, 90), min_size=1, max_size=9), st.data())
def test_others_are_picked_as_from_all_of_them(sizes: list[int], data: st.DataObject) -> None:
    numbers = iter(range(sum(sizes)))
    described = [np.array([[next(numbers), 1.0] for _ in range(size)]).reshape(size, 2) for size in sizes]
    place = data.draw(st.integers(0, len(sizes) - 1))
    assert np.array_equal(_others(described, place), all_then_cut(described, place))


def test_the_aviarys_teacher_holds_a_bird_against_as_many_as_it_is_told() -> None:
    bird, *others = (one.name for one in next(members for members in catalogue().values() if len(members) >= 4))
    asked = Asked("thought", "", Photo("uid", bird, tuple(others), b""), 0)
    replies = {count: AviaryTeacher(candidates=count).reply(asked) for count in (2, 3, 4)}
    for count, reply in replies.items():
        listed = reply.partition("<options>")[2].partition("</options>")[0].split("; ")
        assert len(listed) == count
        assert bird in listed
    assert len({AviaryTeacher(candidates=count).identity for count in replies}) == 3
    with pytest.raises(UserError, match=r"teacher.candidates must be from 2 to 4, got 5"):
        AviaryTeacher(candidates=5)
