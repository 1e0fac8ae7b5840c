"""What a run asks that starts from another's checkpoint: configs and checkpoints are real, nothing is trained."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from conftest import tiny_backbone, tiny_policy
from jsonargparse import Namespace

from fgvr.checkpoints.format import write_checkpoint
from fgvr.data import ClosedWorld, OpenWorld
from fgvr.data.tasks import Task
from fgvr.datamodules import PromptData, ShardSource
from fgvr.errors import UserError
from fgvr.models import PixelBudget, PolicyConfig, TinyQwen, Trained
from fgvr.models.saved import policy_card
from fgvr.modules import SFT
from fgvr.runs.fingerprint import config_fingerprint
from fgvr.settings.taken_over import say_another_task, take_over_task

TASK = {"class_path": "fgvr.data.OpenWorld", "init_args": {"question": "Which bird?", "think": True}}


def trained(folder: Path, task: dict[str, Any] | None = TASK) -> Path:
    """A checkpoint of a run that was asked `task`."""
    policy = tiny_policy()
    state = {f"policy.{name}": value for name, value in policy.state_dict().items()}
    config = {"data": {"init_args": {"task": task}}} if task else {}
    ours = {"config": config, "fingerprint": {"config": config_fingerprint(config)}}
    content = {"state_dict": state, "fgvr_policy": policy_card(policy, 64), "global_step": 3, "fgvr": ours}
    write_checkpoint(content, folder / "checkpoints" / "step-00000003.ckpt")
    return folder


def config(backbone: type, task: Any = None, **options: Any) -> Namespace:
    path = f"fgvr.models.{backbone.__name__}"
    own = Namespace(class_path=path, init_args=Namespace(**options))
    model = Namespace(class_path="fgvr.modules.GRPO", init_args=Namespace(policy=Namespace(backbone=own)))
    return Namespace(model=model, data=Namespace(init_args=Namespace(task=task)))


def test_a_task_that_is_left_out_is_that_of_the_start(tmp_path: Path):
    given = config(Trained, run=str(trained(tmp_path)))
    take_over_task(given)
    taken = given.data.init_args.task.as_dict()
    assert taken["class_path"] == TASK["class_path"]
    assert taken["init_args"].items() >= TASK["init_args"].items()


def test_a_task_that_is_given_stays(tmp_path: Path):
    own = Namespace(class_path="fgvr.data.ClosedWorld", init_args=Namespace())
    given = config(Trained, own, run=str(trained(tmp_path)))
    take_over_task(given)
    assert given.data.init_args.task is own


def test_a_run_from_anything_else_must_say_what_it_asks():
    given = config(TinyQwen, vocabulary=["a"])
    take_over_task(given)
    assert given.data.init_args.task is None
    with pytest.raises(UserError, match=r"data\.task must say what is asked"):
        PromptData([ShardSource(Path("nowhere"))])


def test_a_start_that_is_missing_or_does_not_say_is_one_sentence(tmp_path: Path):
    with pytest.raises(UserError, match="which is not there"):
        take_over_task(config(Trained, run=str(tmp_path / "none")))
    run = trained(tmp_path / "silent", None)
    with pytest.raises(UserError, match=r"does not say what its run was asked: give data\.init_args\.task"):
        take_over_task(config(Trained, run=str(run)))


@pytest.mark.parametrize(
    ("task", "warned"),
    [
        (OpenWorld("Which bird?", think=True), False),
        (OpenWorld("Which bird?", think=True, depth={"species": 1.0}), False),  # of the target, not of the question
        (OpenWorld("Which bird?"), True),
        (OpenWorld("Which car?", think=True), True),
    ],
)
def test_another_question_is_said(tmp_path: Path, caplog: Any, task: OpenWorld, warned: bool):
    model = SFT(PolicyConfig(Trained(str(trained(tmp_path))), PixelBudget(784, 7056)))
    with caplog.at_level(logging.WARNING, logger="fgvr"):
        say_another_task(model, PromptData([ShardSource(tmp_path)], task))
    assert ("was taught to answer 'Which bird? Reason between" in caplog.text) == warned


@pytest.mark.parametrize(
    ("task", "warned"),
    [
        (OpenWorld("Which bird?", think=True), False),
        (OpenWorld("Which bird?"), True),
        (ClosedWorld("all", question="Which bird?"), True),
    ],
)
def test_an_evaluation_that_asks_otherwise_than_its_checkpoint_was_taught_is_said(
    tmp_path: Path, caplog: Any, task: Task, warned: bool
):
    checkpoint = trained(tmp_path) / "checkpoints" / "step-00000003.ckpt"
    model = SFT(PolicyConfig(tiny_backbone(), PixelBudget(784, 7056)))
    with caplog.at_level(logging.WARNING, logger="fgvr"):
        say_another_task(model, PromptData([ShardSource(tmp_path)], task), checkpoint)
    said = f"but {checkpoint} was taught to answer 'Which bird? Reason between"
    assert (said in caplog.text) == warned
    assert ("so its replies may be of no use: give data.init_args.task as that run had it" in caplog.text) == warned


def test_a_checkpoint_that_does_not_say_what_it_was_taught_is_evaluated_in_silence(tmp_path: Path, caplog: Any):
    model = SFT(PolicyConfig(tiny_backbone(), PixelBudget(784, 7056)))
    unknown = {"class_path": "fgvr.data.Gone", "init_args": {}}
    for name, task in (("silent", None), ("unknown", unknown)):
        checkpoint = trained(tmp_path / name, task) / "checkpoints" / "step-00000003.ckpt"
        say_another_task(model, PromptData([ShardSource(tmp_path)], OpenWorld()), checkpoint)
    assert not caplog.text
