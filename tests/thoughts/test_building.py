"""How a teacher is asked: nothing twice, in parts, round after round; what is kept and what is not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from fgvr.errors import UserError
from fgvr.taxonomy.names import Names
from fgvr.taxonomy.tree import Taxonomy
from fgvr.thoughts.building import NO_REPLY, Builder, Outcome, Recipe, spoken
from fgvr.thoughts.kept import KeptReplies
from fgvr.thoughts.teacher import Asked, NoReply, Photo, Teacher

BIRDS = Taxonomy({name: ("Tits", name) for name in ("Great Tit", "Coal Tit")}, ("family", "species"), "bird")
RIGHT = (
    "<analysis>The breast is yellow with a band in the middle of it.</analysis><options>{0}; x</options>"
    "<comparison>The other lacks the band that is seen here.</comparison><prediction>{0}</prediction>"
)


class Written(Teacher):
    """Says what is written for each number of a thought; "" is no reply. Answers two questions at a time."""

    def __init__(self, *thoughts: str) -> None:
        self.thoughts, self.asked, self.stop_after = thoughts, list[Asked](), 10**6

    @property
    def identity(self) -> str:
        return "written"

    def reply(self, asked: Asked) -> str:
        self.asked.append(asked)
        text = "a red cap\na band" if asked.kind == "concepts" else "A bird."
        if asked.kind == "thought":
            text = self.thoughts[min(asked.number, len(self.thoughts) - 1)].format(asked.photo.label)
        if not text:
            raise NoReply("gone")
        return text

    def replies(self, asked: Sequence[Asked]) -> Iterator[list[tuple[int, str | NoReply]]]:
        for start in range(0, len(asked), 2):
            if len(self.asked) >= self.stop_after:
                raise UserError("stopped")
            yield [(place, self._said(asked[place])) for place in range(start, min(start + 2, len(asked)))]


def photo(uid: str, label: str = "Great Tit", image: bytes = b"") -> Photo:
    return Photo(uid, label, tuple(set(BIRDS.paths) - {label}), image or uid.encode())


def built(teacher: Teacher, file: Path, photos: Sequence[Photo], *spares: Photo, **recipe: Any) -> list[Outcome]:
    kept = KeptReplies(file)
    try:
        builder = Builder(teacher, kept, Names(BIRDS), Recipe(**recipe), "bird", "Which?")
        return builder.build(photos, {"Great Tit": iter(spares)})
    finally:
        kept.close()


def test_what_is_alike_is_asked_once(tmp_path: Path) -> None:
    teacher = Written(RIGHT)
    found = built(teacher, tmp_path / "kept", [photo("a", image=b"x"), photo("b", image=b"x")], descriptions=1)
    assert [one.thought is not None for one in found] == [True, True]
    assert [asked.kind for asked in teacher.asked] == ["concepts", "description", "thought"]
    assert found[0].concepts == ("a red cap", "a band")


def test_only_those_without_a_thought_are_asked_again(tmp_path: Path) -> None:
    teacher = Written("no parts", RIGHT)
    found = built(teacher, tmp_path / "kept", [photo("a"), photo("b")], descriptions=0, attempts=3)
    assert [one.refused for one in found] == [("missing section: analysis",)] * 2
    assert [asked.number for asked in teacher.asked] == [0, 0, 1, 1]


def test_a_part_is_kept_whole_and_batches_are_the_same_after_a_stop(tmp_path: Path) -> None:
    photos, first, again, straight = [photo(uid) for uid in "abcde"], Written(RIGHT), Written(RIGHT), Written(RIGHT)
    first.stop_after = 2
    with pytest.raises(UserError, match="stopped"):
        built(first, tmp_path / "kept", photos, descriptions=0)
    found = built(again, tmp_path / "kept", photos, descriptions=0)
    assert [asked.photo.uid for asked in first.asked + again.asked] == list("abcde")
    assert found == built(straight, tmp_path / "other", photos, descriptions=0)


def test_a_photo_stands_in_for_one_that_was_refused_but_not_where_there_was_no_reply(tmp_path: Path) -> None:
    found = built(Written("no"), tmp_path / "no", [photo("a")], photo("b"), photo("c"), descriptions=0, attempts=1)
    assert [(one.photo.uid, one.instead) for one in found] == [("a", ""), ("b", "a"), ("c", "b")]
    gone = built(Written(""), tmp_path / "gone", [photo("a")], photo("b"), descriptions=0, attempts=2)
    assert [(one.photo.uid, one.refused) for one in gone] == [("a", (NO_REPLY, NO_REPLY))]
    back = built(Written(RIGHT), tmp_path / "gone", [photo("a")], descriptions=0)
    assert back[0].thought is not None  # what was not had is not kept


def test_what_a_teacher_thinks_aloud_is_none_of_its_reply() -> None:
    assert spoken("<think>the <analysis>?</think>\n<analysis>a</analysis>") == "<analysis>a</analysis>"
    assert spoken("a") == "a"
