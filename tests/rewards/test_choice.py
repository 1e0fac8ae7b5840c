from __future__ import annotations

from dataclasses import replace

import pytest
from toy_birds import BIRDS, example

from fgvr.data.closed_world import ClosedWorld
from fgvr.errors import UserError
from fgvr.rewards import AnsweredGroup, Choice

TEXTS = ["B", "**A**", "Red Finch", "A or B", "C", None]


def group(shown: list[str]) -> AnsweredGroup:
    task, asked = ClosedWorld(letters=True).bind(BIRDS), example(shown=shown)
    texts = ["hello" if text is None else f"<answer>{text}</answer>" for text in TEXTS]
    answers = [task.parse(text, asked) for text in texts]
    return AnsweredGroup(asked, texts, answers, [1] * len(texts), [False] * len(texts))


def test_the_right_option_alone_earns():
    assert Choice().score([group(["Blue Finch", "Red Finch"])]) == [[1.0, 0.0, 1.0, 0.0, 0.0, 0.0]]


def test_passing_over_the_label_earns_what_is_said_and_where_it_is_left_out_all():
    shown = ["Red Finch", "Blue Finch", "none of these"]
    assert Choice(0.2).score([group(shown)]) == [[0.0, 1.0, 1.0, 0.0, 0.2, 0.0]]
    assert Choice(0.2).score([group(["Ash Finch", "Blue Finch", "none of these"])]) == [[0.0, 0.0, 0.0, 0.0, 1.0, 0.0]]
    for worth in (-0.1, 1.0):
        with pytest.raises(UserError, match="none_of_these is less"):
            Choice(worth)


def test_choosing_no_option_may_have_no_part_in_the_group():
    # "hello" breaks the grammar and is wrong; "A or B" and "C", which was not offered, choose nothing
    assert Choice(outside=None).score([group(["Blue Finch", "Red Finch"])]) == [[1.0, 0.0, 1.0, None, None, 0.0]]
    assert Choice(outside=-0.5).score([group(["Blue Finch", "Red Finch"])]) == [[1.0, 0.0, 1.0, -0.5, -0.5, 0.0]]
    with pytest.raises(UserError, match="outside is less than a right choice earns"):
        Choice(outside=1.0)


def test_what_was_shown_and_chosen_is_counted():
    reward = Choice().bind(BIRDS)
    reward.score([group(["Blue Finch", "Red Finch"]), group(["Red Finch", "Blue Finch", "Ash Finch"])])
    assert reward.tally() == {
        "options/2": 1, "options/3": 1, "right_option/B": 1, "right_option/A": 1,
        "chosen_option/A": 3, "chosen_option/B": 3, "chosen_option/C": 1, "chosen_option/none": 5,
    }  # fmt: skip
    assert Choice().bind(BIRDS).tally() == {}


def test_another_task_is_refused():
    asked = example()
    with pytest.raises(UserError, match=r"let data\.init_args\.train_task be fgvr\.data\.ClosedWorld"):
        Choice().score([AnsweredGroup(asked, ["<answer>B</answer>"], [None], [1], [False])])


def test_given_options_that_were_left_out_are_counted():
    reward, asked = Choice(), group(["Blue Finch", "Red Finch"])
    told = asked.example.extra | {"options": ["Blue Finch", "Plain Wren", "Ash Finch"], "held_out": 2}
    reward.score([replace(asked, example=replace(asked.example, extra=told))])
    counts = reward.tally()
    assert (counts["given_options/held_out"], counts["given_options/kept"]) == (2, 1)


def test_whether_the_label_is_shown_is_counted_where_none_of_these_is_an_option():
    reward = Choice(0.2)
    shown = [["Red Finch", "Blue Finch", "none of these"], ["Ash Finch", "Blue Finch", "none of these"]]
    reward.score([group(names) for names in shown])
    counts = reward.tally()
    assert (counts["label/shown"], counts["label/left_out"]) == (1, 1)
    reward.score([group(["Blue Finch", "Red Finch"])])
    assert not [name for name in reward.tally() if name.startswith("label/")]
