"""The Aviary's teacher: how many birds it holds one against."""

from __future__ import annotations

import pytest

from fgvr.aviary.names import catalogue
from fgvr.errors import UserError
from fgvr.thoughts.aviary_teacher import AviaryTeacher
from fgvr.thoughts.teacher import Asked, Photo


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
