from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from conftest import NAMES, photo
from says import BIRDS

from fgvr.data.closed_world import ClosedWorld
from fgvr.data.tasks import OpenWorld
from fgvr.errors import UserError
from fgvr.recogniser.carried import OPEN_WORLD, Carried, of_run, read_carried, shard_sets
from fgvr.shards.packing import pack
from fgvr.sources.image_folder import ImageFolder

ASKED = {"class_path": "fgvr.data.OpenWorld", "init_args": {"question": "Which bird?", "think": True}}
CHOICE = {"class_path": "fgvr.data.ClosedWorld", "init_args": {"options": 3, "question": "Which of these?"}}


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("carried")
    for name in NAMES:
        (folder / "photos/val" / name).mkdir(parents=True)
        photo().save(folder / "photos/val" / name / "0.png")
    pack(ImageFolder(folder / "photos"), folder / "shards")
    return folder / "shards"


def test_a_folder_gives_back_what_was_written(tmp_path: Path):
    carried = Carried("birds", BIRDS.to_dict(), ASKED, 48, CHOICE, {"samples": 8}, "abc", 3)
    carried.write(tmp_path)
    assert read_carried(tmp_path) == carried
    found = read_carried(tmp_path)
    task = found.asks()
    assert isinstance(task, OpenWorld)
    assert (task.question, task.think) == ("Which bird?", True)
    assert isinstance(found.chooses(task), ClosedWorld)
    assert found.chooses(task).question == "Which of these?"
    assert found.steps().samples == 8
    assert found.names() == BIRDS


def test_what_is_missing_damaged_or_later_is_a_sentence(tmp_path: Path, shards: Path):
    with pytest.raises(UserError, match=r"does not say which names .* it has no fgvr\.json, .* Export the run again"):
        read_carried(tmp_path)
    assert set(read_carried(tmp_path, shards).names().paths) == set(NAMES)
    Carried("birds", BIRDS.to_dict(), ASKED, 48).write(tmp_path)
    file = tmp_path / "fgvr.json"
    whole = file.read_bytes()
    file.write_bytes(whole.replace(b"Azure", b"Agure"))
    with pytest.raises(UserError, match="damaged"):
        read_carried(tmp_path)
    file.write_text(json.dumps({"format": 2}))
    with pytest.raises(UserError, match="must be of format 1"):
        read_carried(tmp_path)
    file.write_text(json.dumps({"format": 1, "dataset": "birds"}))
    with pytest.raises(UserError, match="must say what this version of fgvr needs"):
        read_carried(tmp_path)


def test_a_run_s_settings_say_what_is_asked_in_one_step_and_in_two(shards: Path):
    steps = {"class_path": "fgvr.callbacks.TwoStepInference", "init_args": {"plan": {"samples": 6}}}
    data = {"train": [{"path": str(shards)}], "task": ASKED, "train_task": CHOICE}
    settings = {"data": {"init_args": data}, "trainer": {"callbacks": [steps]}}
    found = of_run(settings, 32, checkpoint="abc", step=5)
    assert (found.task, found.choice, found.plan, found.max_new_tokens) == (ASKED, CHOICE, {"samples": 6}, 32)
    assert (found.checkpoint, found.step) == ("abc", 5)
    assert set(found.names().paths) == set(NAMES)
    usual = of_run({"data": {"init_args": {"train": [{"path": str(shards)}]}}}, 32)
    assert usual.task == OPEN_WORLD
    assert usual.chooses(usual.asks()).letters


def test_shard_sets_that_are_gone_are_named(shards: Path, caplog: pytest.LogCaptureFixture):
    settings = {"data": {"init_args": {"train": [{"path": str(shards)}], "val": ["data/gone"]}}}
    caplog.set_level(logging.WARNING)
    assert set(of_run(settings, 32).names().paths) == set(NAMES)
    assert "The names of data/gone are not known" in caplog.text
    assert shard_sets(settings, evaluated=True) == [Path("data/gone")]
    lost = {"data": {"init_args": {"train": [{"path": "data/gone"}]}}}
    with pytest.raises(UserError, match=r"stand in its shard sets, but data/gone can be found from here: name one"):
        of_run(lost, 32)
    assert set(of_run(lost, 32, shards).names().paths) == set(NAMES)


def test_a_task_that_needs_the_label_cannot_name_photos():
    with pytest.raises(UserError, match="ClosedWorld with options drawn around the label"):
        Carried("birds", BIRDS.to_dict(), CHOICE, 8).asks()
    Carried("birds", BIRDS.to_dict(), {**CHOICE, "init_args": {"options": "all"}}, 8).asks()
