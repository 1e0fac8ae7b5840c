from __future__ import annotations

import random

import pytest
from toy_birds import BIRDS, example

from fgvr.data import ClosedWorld, OpenWorld, Several
from fgvr.errors import UserError
from fgvr.types import Answer

OPEN, CHOICE = OpenWorld("Which bird?", think=True), ClosedWorld(2, question="Which of these?")


def text(task: Several, asked: int) -> str:
    (turn,) = task.messages(example(asked=asked), random.Random(0))
    return turn["content"][-1]["text"]


def test_each_showing_is_asked_one_of_the_tasks_as_often_as_another():
    task, rng = Several([OPEN, CHOICE]).bind(BIRDS), random.Random(0)
    drawn = [task.prepare(example(), rng).extra for _ in range(400)]
    assert 160 < sum(extra["asked"] for extra in drawn) < 240
    assert all(("shown" in extra) == (extra["asked"] == 1) for extra in drawn)


def test_prompt_target_and_parser_are_those_of_the_task_that_was_drawn():
    task, rng = Several([OPEN, CHOICE]).bind(BIRDS), random.Random(0)
    assert text(task, 0).startswith("Which bird?\nReason")
    assert text(task, 1).startswith("Which of these?\n- ")
    for asked, thinks in ((0, True), (1, False)):
        own = example(asked=asked)
        told = task.target(own, rng)
        assert told.startswith("<think>") == thinks
        answer = task.parse(told, own)
        assert answer is not None
        assert answer.text == "Red Finch"
    assert task.parse("<answer>Red Finch</answer>") == Answer("Red Finch", "")


def test_it_stands_for_all_its_tasks():
    task = Several([OPEN, CHOICE])
    assert (task.questions, task.think, task.needs_label) == (["Which bird?", "Which of these?"], True, True)
    thinking = task.opened("<think>")
    assert [one.always_thinks for one in thinking.tasks] == [True, True]
    assert [one.always_thinks for one in task.tasks] == [False, False]


def test_one_task_is_not_several():
    with pytest.raises(UserError, match="several tasks are two or more, got 1"):
        Several([OPEN])
