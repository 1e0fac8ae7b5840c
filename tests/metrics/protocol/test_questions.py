from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from conftest import photo
from toy_birds import BIRDS, example

from fgvr.data.closed_world import ClosedWorld
from fgvr.errors import SampleError
from fgvr.metrics.protocol.passes import Pass, Variant
from fgvr.metrics.protocol.questions import STRENGTHS, Questions, without_photo
from fgvr.metrics.protocol.replies import UNASKED
from fgvr.similarity import Ranking
from fgvr.taxonomy.tree import Taxonomy
from fgvr.types import Example

RANKING: Ranking = {"Red Finch": (("Plain Wren", 0.9), ("Blue Finch", 0.8), ("Barred Wren", 0.7))}


def questions(options: int = 4, classes: dict[str, frozenset[str]] | None = None) -> Questions:
    task = ClosedWorld(options).bind(BIRDS)
    return Questions(task, classes or {"birds": frozenset(BIRDS.paths)}, {"birds": RANKING})


def asked(strength: str, of: Example, options: int = 4, seed: int | None = 0) -> tuple[list[str], Counter[str]]:
    notes: Counter[str] = Counter()
    return questions(options).asked(of, strength, seed, notes).extra["shown"], +notes


@pytest.mark.parametrize("strength", STRENGTHS)
def test_the_label_stands_among_them_once_and_each_seed_only_moves_it(strength: str) -> None:
    shown = [asked(strength, example(uid=f"u{n}"), seed=seed)[0] for n in range(8) for seed in range(4)]
    assert all(one.count("Red Finch") == 1 and len(set(one)) == 4 for one in shown)
    of_one = shown[:4]
    assert len({frozenset(one) for one in of_one}) == 1
    assert len({tuple(one) for one in shown}) > 4
    assert asked(strength, example(uid="u0"), seed=0)[0] == shown[0]


def test_strengths_choose_whom_they_say() -> None:
    assert set(asked("hardest", example())[0]) == {"Red Finch", "Plain Wren", "Blue Finch", "Barred Wren"}
    siblings, notes = asked("siblings", example(), options=3)
    assert set(siblings) == {"Red Finch", "Blue Finch", "Ash Finch"}
    assert not notes
    first = asked("siblings", example(), seed=None)[0]
    assert first[0] == "Red Finch"
    assert set(first) == {"Red Finch", "Blue Finch", "Ash Finch", "Tall Finch"}  # no third sibling: the next relative
    drawn = {name for n in range(40) for name in asked("random", example(uid=f"u{n}"))[0]}
    assert drawn == set(BIRDS.paths)


def test_a_class_without_siblings_gets_relatives_and_is_counted() -> None:
    shown, notes = asked("siblings", example("Tall Finch"))
    assert set(shown) == {"Tall Finch", "Red Finch", "Blue Finch", "Ash Finch"}
    assert notes == {"siblings: a class without siblings": 1}


def test_a_stored_list_with_the_label_twice_or_not_at_all_is_mended_and_counted() -> None:
    twice = example(options=["Red Finch", "rubra", "Blue Finch", "Plain Wren", "Ash Finch"])
    shown, notes = asked("stored", twice)
    assert set(shown) == {"Red Finch", "Blue Finch", "Plain Wren", "Ash Finch"}
    assert notes == {"stored: the label was among the options more than once": 1}
    shown, notes = asked("stored", example(options=["Blue Finch", "Plain Wren", "Barred Wren", "Ash Finch"]))
    assert set(shown) == {"Red Finch", "Blue Finch", "Plain Wren", "Barred Wren"}  # the label for the last one
    assert notes == {"stored: the label was not among the options": 1}
    shown, notes = asked("stored", example(options=["Red Finch", "Blue Finch", "blue finch"]))
    assert len(set(shown)) == 4
    assert notes == {"stored: an option was left out": 1, "stored: filled up with relatives": 1}
    assert asked("stored", example())[1]["stored: no options were stored"] == 1


def test_another_data_set_s_classes_are_no_distractors() -> None:
    own = questions(4, {"birds": frozenset({"Red Finch", "Plain Wren"})})
    notes: Counter[str] = Counter()
    assert set(own.asked(example(), "random", 0, notes).extra["shown"]) == {"Red Finch", "Plain Wren"}
    assert notes["random: fewer options than asked for"] == 1


def test_a_question_that_cannot_be_made_is_wrong_and_counted() -> None:
    alone = Taxonomy.flat(["Emu"])
    one = Questions(ClosedWorld().bind(alone), {"birds": frozenset({"Emu"})})
    emu = replace(example(), label="Emu", path=("Emu",))
    with pytest.raises(SampleError, match="there is none"):
        one.distractors(emu, "siblings", Counter())
    made = Pass(one, [Variant("distractors: siblings", "siblings", 0)])
    made.add([emu], lambda examples: ["" for _ in examples])
    assert [reply.chosen for reply in made.replies] == [UNASKED]
    assert not made.replies[0].strict
    assert made.notes["siblings: a question could not be made"] == 1
    broken = example(options="Red Finch")
    made = Pass(questions(), [Variant("distractors: stored", "stored", seed) for seed in (0, 1)])
    made.add([broken], lambda examples: ["" for _ in examples])
    assert made.notes == {"stored: a question could not be made": 1}  # of photos, not of seeds


def test_the_grey_picture_is_as_large_as_the_photo() -> None:
    import io

    from fgvr.data.images import open_image

    data = io.BytesIO()
    photo(60, 40).save(data, "PNG")
    grey = open_image(without_photo(replace(example(), images=(data.getvalue(), b"x"))).images[0], "x")
    assert grey.size == (60, 40)
    assert grey.getcolors() == [(2400, (128, 128, 128))]
    with pytest.raises(SampleError):
        without_photo(example())
