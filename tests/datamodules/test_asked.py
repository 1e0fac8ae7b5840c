import pytest

from fgvr.data import ClosedWorld, OpenWorld
from fgvr.datamodules.asked import task_of, wording
from fgvr.errors import UserError


def test_the_task_of_a_run_s_settings():
    task = {"class_path": "fgvr.data.ClosedWorld", "init_args": {"options": 3, "letters": True}}
    found = task_of({"data": {"init_args": {"task": task}}})
    assert isinstance(found, ClosedWorld)
    assert (found.options, found.letters) == (3, True)
    for silent in ({}, {"data": None}, {"data": {"init_args": {"task": None}}}):
        assert task_of(silent) is None
    with pytest.raises(UserError, match=r"must be one of this version's, but .*NoSuchTask"):
        task_of({"data": {"init_args": {"task": {"class_path": "fgvr.data.NoSuchTask"}}}})


def test_two_tasks_are_worded_alike_when_a_photo_is_asked_the_same():
    assert wording(OpenWorld("Which?")) == "Which? Give the name between <answer> and </answer>."
    assert wording(OpenWorld("Which?", depth={"genus": 1.0})) == wording(OpenWorld("Which?"))
    assert wording(OpenWorld("Which?", think=True)) != wording(OpenWorld("Which?"))
    assert wording(ClosedWorld(letters=True)) != wording(ClosedWorld())
