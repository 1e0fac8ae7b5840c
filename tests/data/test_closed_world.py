import collections
import pickle
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy_birds import BIRDS, PATHS, example

from fgvr.data.closed_world import ClosedWorld
from fgvr.data.tasks import OpenWorld
from fgvr.errors import SampleError, UserError
from fgvr.taxonomy.branch import branch_of
from fgvr.taxonomy.tree import Taxonomy
from fgvr.types import Answer, Example


def test_options_are_bounded() -> None:
    for options in (0, 1, 27):
        with pytest.raises(UserError, match="between 2 and 26 or be all"):
            ClosedWorld(options=options)
    for options in (2.5, 4.0, True, "4"):
        with pytest.raises(UserError, match="between 2 and 26 or be all"):
            ClosedWorld(options=options)  # pyright: ignore[reportArgumentType]


@given(st.integers(0, 2**32), st.integers(2, 6), st.booleans(), st.sampled_from(sorted(PATHS)))
def test_the_order_of_options_never_changes_which_is_right(seed: int, options: int, letters: bool, label: str) -> None:
    task = ClosedWorld(options, letters).bind(BIRDS)
    shown = task.prepare(example(label), random.Random(seed))
    answer = task.parse(task.target(shown, random.Random(0)), shown)
    assert answer == Answer(label)
    assert len(task.shown(shown)) == len(set(task.shown(shown))) == options
    text = task.messages(shown, random.Random(1))[0]["content"][-1]["text"]
    lines = [line.split(" ", 1)[1] for line in text.splitlines()[1:-1]]
    assert lines == list(task.shown(shown))


def test_positions_of_the_label_are_balanced_with_and_without_prepare() -> None:
    task, rng = ClosedWorld(letters=True).bind(BIRDS), random.Random(0)
    for shown in (
        [example(uid=f"x-{i}") for i in range(2000)],
        [task.prepare(example(), rng) for _ in range(2000)],
    ):
        letters = collections.Counter(task.target(entry, rng) for entry in shown)
        assert len(letters) == 4
        assert all(400 < count < 600 for count in letters.values())  # 500 each, five standard errors are 97


def test_unprepared_order_is_the_same_in_another_process_and_varies_with_the_seed() -> None:
    task = ClosedWorld().bind(BIRDS)
    copied = pickle.loads(pickle.dumps(task))
    entries = [example(uid=f"x-{i}") for i in range(20)]
    assert [task.shown(entry) for entry in entries] == [copied.shown(entry) for entry in entries]
    assert [task.shown(entry) for entry in entries] != [ClosedWorld(seed=1).bind(BIRDS).shown(e) for e in entries]


def test_distractors_come_from_the_nearest_relatives() -> None:
    task = ClosedWorld(options=4).bind(BIRDS)
    assert set(task.shown(example())) == {"Red Finch", "Blue Finch", "Ash Finch", "Tall Finch"}
    assert {"Red Finch", "Blue Finch", "Ash Finch"} == set(ClosedWorld(options=3).bind(BIRDS).shown(example()))
    assert len(ClosedWorld(options=9).bind(BIRDS).shown(example())) == 6


def test_no_distractor_is_right_too() -> None:
    nested = Taxonomy({"Finch": ("Finch",), "Red Finch": ("Finch", "Red Finch"), "Wren": ("Wren",)}, ("a", "b"), "bird")
    red = Example("r", (b"",), "Red Finch", ("Finch", "Red Finch"), "val", "seen", "birds")
    assert set(ClosedWorld().bind(nested).shown(red)) == {"Red Finch", "Wren"}
    given_too = Example(
        "r", (b"",), "Finch", ("Finch",), "val", "seen", "b", {"options": ["red finch", "Wren", "wren", "finch"]}
    )
    assert set(ClosedWorld().bind(nested).shown(given_too)) == {"Finch", "Wren"}


def test_given_options_are_used_in_their_order() -> None:
    task = ClosedWorld(options=3).bind(BIRDS)
    entry = example(options=["Plain Wren", "Rubra", "Made-up Bird", "Ash Finch"])
    assert set(task.shown(entry)) == {"Red Finch", "Plain Wren", "Made-up Bird"}
    for bad in ("Plain Wren", [1, 2], None):
        with pytest.raises(SampleError, match="x-1: options must be a list"):
            task.shown(example(options=bad))
    with pytest.raises(SampleError, match="second class"):
        task.shown(example(options=["Red Finch"]))


def test_closed_world_replies() -> None:
    task = ClosedWorld(letters=True).bind(BIRDS)
    entry = example(shown=["Blue Finch", "Red Finch", "Ash Finch", "Plain Wren"])

    def read(text: str) -> str | None:
        answer = task.parse(f"<answer>{text}</answer>", entry)
        return answer.text if answer else None

    for text in ["B", "b", "(B)", "B.", "B) Red Finch", "b. rubra", "red finch", "Rubra", "the Red Finch."]:
        assert read(text) == "Red Finch", text
    # A reply that names no single option stays as it is, and no judge will find it right.
    for text in ["A, B", "A B", "A or B", "B) Tall Finch", "Z", "Red, Finch", "Red Finch or Ash Finch", "Tall Wren"]:
        assert read(text) == text
    assert read("B) Blue Finch") is read("") is None
    assert task.parse("B", entry) is None
    with pytest.raises(ValueError, match="pass the example"):
        task.parse("<answer>B</answer>")


def test_letters_mean_nothing_where_none_are_shown() -> None:
    entry = example(shown=["Blue Finch", "Red Finch"])
    assert ClosedWorld().bind(BIRDS).parse("<answer>B</answer>", entry) == Answer("B")


def test_all_classes_as_options_need_no_label():
    task = ClosedWorld("all").bind(BIRDS)
    assert not task.needs_label
    assert ClosedWorld().needs_label
    photos = [Example(f"{n}.jpg", (b"",), "", (), "predict", "", "photos") for n in range(8)]
    shown = [task.shown(photo) for photo in photos]
    assert all(sorted(options) == sorted(BIRDS.paths) for options in shown)
    assert len(set(shown)) > 1, "the order is drawn for each photo"
    assert shown == [task.shown(photo) for photo in photos]
    assert all(f"- {name}\n" in task.choices(photos[0]) for name in BIRDS.paths)
    label = sorted(BIRDS.paths)[0]
    assert task.parse(f"<answer>{label.upper()}</answer>", photos[0]) == Answer(label)


def test_letters_for_all_classes_end_with_the_alphabet():
    few, many = Taxonomy.flat([f"class {n}" for n in range(26)]), Taxonomy.flat([f"class {n}" for n in range(27)])
    photo = Example("x.jpg", (b"",), "", (), "predict", "", "photos")
    task = ClosedWorld("all", letters=True).bind(few)
    assert task.parse("<answer>Z</answer>", photo) == Answer(task.shown(photo)[25])
    with pytest.raises(UserError, match="27 classes: leave them out"):
        ClosedWorld("all", letters=True).bind(many)


def test_mined_options_are_classes_of_their_own_and_the_last_gives_way_to_the_label():
    task = ClosedWorld(options=3).bind(BIRDS)
    ranked = ["Plain Wren", "the plain wren", "Ash Finch", "Barred Wren", "Rubra"]
    assert set(task.shown(example(options=ranked))) == {"Red Finch", "Plain Wren", "Ash Finch"}
    assert set(task.shown(example(options=["Rubra", "Plain Wren", "Ash Finch"]))) == {
        *("Red Finch", "Plain Wren", "Ash Finch")
    }


def test_each_showing_has_an_order_of_its_own_with_the_label_as_often_in_each_place():
    task, rng = ClosedWorld(options=5, letters=True).bind(BIRDS), random.Random(0)
    for mined in (
        ["Plain Wren"],
        ["Plain Wren", "Ash Finch"],
        ["Plain Wren", "Ash Finch", "Barred Wren", "Blue Finch"],
    ):
        entry, count = example(options=mined), len(mined) + 1
        shown = [task.shown(task.prepare(entry, rng)) for _ in range(3000)]
        assert len(set(shown)) > 1
        places = collections.Counter(order.index("Red Finch") for order in shown)
        expected = 3000 / count  # binomial: five standard errors
        assert all(abs(places[place] - expected) < 5 * (expected * (1 - 1 / count)) ** 0.5 for place in range(count))


def test_none_of_these_is_right_where_the_label_was_left_out():
    task, rng = ClosedWorld(options=3, letters=True, none_of_these=0.25).bind(BIRDS), random.Random(0)
    train = Example("t", (b"",), "Red Finch", ("Finches", "Roundbill", "Red Finch"), "train", "seen", "birds")
    shown = [task.prepare(train, rng) for _ in range(2000)]
    assert {len(task.shown(entry)) for entry in shown} == {4}
    assert {task.shown(entry)[-1] for entry in shown} == {"none of these"}
    missing = [entry for entry in shown if "Red Finch" not in task.shown(entry)]
    assert 400 < len(missing) < 600
    assert task.target(missing[0], rng) == "<answer>D</answer>"
    assert task.parse("<answer>d)</answer>", missing[0]) == Answer("none of these")
    assert task.parse("<answer>None of these.</answer>", missing[0]) == Answer("none of these")
    tested = [task.shown(task.prepare(example(), rng)) for _ in range(200)]  # of split "val"
    assert all("Red Finch" in order and order[-1] == "none of these" for order in tested)
    for options, letters in (("all", False), (26, True)):
        with pytest.raises(UserError, match="a letter of its own"):
            ClosedWorld(options, letters, none_of_these=0.1)  # pyright: ignore[reportArgumentType]
    with pytest.raises(UserError, match="none_of_these"):
        ClosedWorld(none_of_these=1.5)


def test_options_that_are_not_told_bound_the_answer_of_the_open_question():
    task, own = ClosedWorld(2, question="Which bird?", think=True, told=False).bind(BIRDS), example()
    assert task.messages(own, random.Random(0)) == OpenWorld("Which bird?", think=True).messages(own, random.Random(0))
    shown = task.prepare(own, random.Random(0))
    assert len(task.shown(shown)) == 2
    assert task.parse(task.target(shown, random.Random(0)), shown) == OpenWorld(think=True).bind(BIRDS).parse(
        OpenWorld(think=True).bind(BIRDS).target(own, random.Random(0))
    )
    for letters, none_of_these in ((True, 0.0), (False, 0.1)):
        with pytest.raises(UserError, match="who is not told the options can answer neither by letter"):
            ClosedWorld(2, letters, none_of_these=none_of_these, told=False)


def test_no_held_out_class_is_shown_in_training_wherever_the_options_come_from():
    hidden = ["Blue Finch", "Plain Wren"]
    for options in (2, 4, 6, "all"):
        task = ClosedWorld(options).bind(BIRDS).holding_out(hidden)
        mined = ["the plain wren", "Blue Finch", "Made-up Bird", "Barred Wren", "Tall Finch"]
        for asked in (example(), example(options=mined)):
            for draw in range(20):
                train = replace(asked, split="train")
                shown = task.shown(task.prepare(train, random.Random(draw)))
                assert "Red Finch" in shown
                assert not {"Blue Finch", "Plain Wren", "the plain wren"} & {*shown, *task.shown(train)}
    task = ClosedWorld(4).bind(BIRDS).holding_out(hidden)
    given = replace(example(options=["the plain wren", "Blue Finch", "Ash Finch"]), split="train")
    assert task.prepare(given, random.Random(0)).extra["held_out"] == 2
    assert "Blue Finch" in ClosedWorld(6).bind(BIRDS).holding_out(hidden).shown(example()), "evaluation shows all"
    own = replace(example("Blue Finch"), split="train")
    assert "Blue Finch" in task.shown(own)
    with pytest.raises(SampleError, match="a choice needs a second class"):
        task.prepare(replace(example(options=["Plain Wren"]), split="train"), random.Random(0))
    assert OpenWorld().holding_out(hidden).__dict__ == OpenWorld().__dict__


def test_within_a_branch_no_other_class_is_shown_wherever_the_options_come_from():
    finches, rng = branch_of(BIRDS, "Finches"), random.Random(0)
    for options in (2, 6, "all"):
        task = ClosedWorld(options).within(finches).bind(BIRDS)
        for asked in (example(), example(options=["Plain Wren", "Wrens", "Made-up Bird", "the tall finch"])):
            shown = task.shown(task.prepare(asked, rng))
            assert "Red Finch" in shown
            assert {task.same(one, "Tall Finch") or one in finches.classes for one in shown} == {True}
    assert len(task.shown(example())) == 4  # of six
    strangers = example(options=["Plain Wren", "Made-up Bird"])
    kin = ClosedWorld(3).within(finches).bind(BIRDS).shown(strangers)
    assert {*kin} < finches.classes  # none is left of those given, so relatives stand in
    assert "held_out" not in task.prepare(strangers, rng).extra
    alone = ClosedWorld().within(finches).bind(BIRDS).holding_out(["Blue Finch", "Ash Finch", "Tall Finch"])
    with pytest.raises(SampleError, match="a choice needs a second class"):
        alone.shown(replace(example(), split="train"))
    assert ClosedWorld().within(None).__dict__ == ClosedWorld().__dict__
    assert OpenWorld().within(finches).bind(BIRDS).target(example(), rng) == "<answer>Red Finch</answer>"


def test_letters_have_to_do_for_the_classes_of_the_branch_alone():
    many = Taxonomy({f"{side} {n}": (side, f"{side} {n}") for side in ("east", "west") for n in range(20)}, ("a", "b"))
    with pytest.raises(UserError, match="26 options, but there are 40 classes"):
        ClosedWorld("all", letters=True).bind(many)
    assert len(ClosedWorld("all", letters=True).within(branch_of(many, "east")).bind(many).members["east"]) == 20
