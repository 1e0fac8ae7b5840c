"""Task files for lmms-eval, and what it calls by the names in them, without lmms-eval."""

from __future__ import annotations

import importlib
import json
import random
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import NAMES, photo
from hypothesis import given
from hypothesis import strategies as st

from fgvr.data.closed_world import ClosedWorld
from fgvr.data.own_question import OwnQuestion
from fgvr.data.tasks import OpenWorld
from fgvr.errors import UserError
from fgvr.harness import lmms_eval
from fgvr.harness.task_files import Asked, documents, write_group, write_task
from fgvr.recogniser.carried import Carried
from fgvr.shards.manifest import load_manifest
from fgvr.shards.order import key_of
from fgvr.shards.packing import pack
from fgvr.shards.plan import PackOptions
from fgvr.shards.reading import ShardSet
from fgvr.sources.image_folder import ImageFolder
from fgvr.taxonomy.tree import Taxonomy
from fgvr.tools.tasks import questions, tasks
from fgvr.types import Verdict


class Loader(yaml.SafeLoader):
    """Finds functions as lmms-eval does: by their module's whole name."""


def _function(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> Any:
    module, _, name = str(loader.construct_scalar(node)).rpartition(".")
    return getattr(importlib.import_module(module), name)


Loader.add_constructor("!function", _function)  # pyright: ignore[reportUnknownMemberType]


@pytest.fixture(scope="module")
def birds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two photos of each of four classes, all to validate with; one class is held out."""
    root = tmp_path_factory.mktemp("drawn") / "birds"
    for number, name in enumerate(NAMES):
        (root / "val" / name).mkdir(parents=True)
        for index in range(2):
            photo(60, 50, seed=10 * number + index).save(root / "val" / name / f"{index}.png")
    pack(ImageFolder(root), root.with_name("set"), PackOptions(unseen=1))
    return root.with_name("set")


def test_a_task_is_a_yaml_that_names_functions_and_a_row_for_each_photo(birds: Path, tmp_path: Path):
    name, count = write_task(tmp_path, birds, "val", "seen", Asked("open_world", OpenWorld("Which bird?"), 48))
    assert (name, count) == ("fgvr_birds_val_seen_open_world", 6)
    task = yaml.load((tmp_path / f"{name}.yaml").read_text(), Loader)
    assert task["dataset_kwargs"]["data_files"]["test"] == str(tmp_path / f"{name}.jsonl")
    assert task["generation_kwargs"]["max_new_tokens"] == 48
    rows = [json.loads(row) for row in (tmp_path / f"{name}.jsonl").read_text().splitlines()]
    row = rows[0]
    assert task["doc_to_text"](row) == "Which bird?\nGive the name between <answer> and </answer>."
    (picture,) = task["doc_to_visual"](row)
    assert (picture.size, picture.mode) == ((60, 50), "RGB")
    found = [task["process_results"](one, [f"<answer>{one['label']}</answer>"]) for one in rows[:3]]
    found.append(task["process_results"](rows[3], ["no answer"]))
    scores = {one["metric"]: one["aggregation"]([each[one["metric"]] for each in found]) for one in task["metric_list"]}
    # three of four are the label: 3 / 4 correct, all of them specific, 2 x 0.75 x 1 / 1.75 = 0.8571, 1 / 4 without
    expected = {"exact": 0.75, "correctness": 0.75, "specificity": 1.0, "harmonic_mean": 6 / 7, "parse_failures": 0.25}
    assert scores == pytest.approx(expected)
    assert [one["higher_is_better"] for one in task["metric_list"]] == [True, True, True, True, False]


def test_options_stand_as_a_validation_shows_them(birds: Path):
    task = ClosedWorld(4, letters=True)
    rows = documents(birds, "val", "seen", Asked("closed_world", task, 48, seed=5))
    shards, bound = ShardSet(birds, "val", ("seen",)), task.bind(Taxonomy.from_dict(load_manifest(birds).taxonomy))
    for place, row in enumerate(rows):
        example = bound.prepare(shards.read(row["number"]), random.Random(key_of(5, "encode", 0, place)))
        assert tuple(row["options"]) == bound.shown(example)
        letter = "ABCD"[row["options"].index(row["label"])]
        assert lmms_eval.judged(row, [f"<answer>{letter}</answer>"])["exact"]
        other = "ABCD"[(row["options"].index(row["label"]) + 1) % 4]
        assert lmms_eval.judged(row, [f"<answer>{other}</answer>"])["correctness"] == Verdict.WRONG


def test_a_reply_goes_on_from_what_the_template_begins_it_with(birds: Path):
    asked = Asked("open_world", OpenWorld(think=True), 48, opening="<think>")
    row = documents(birds, "val", "unseen", asked)[0]
    assert lmms_eval.judged(row, [f"a bird</think><answer>{row['label']}</answer>"])["exact"]


def test_a_question_around_the_photo_cannot_be_asked(birds: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(OwnQuestion, "messages", lambda *_: [{"content": [{"type": "text"}, {"type": "image"}]}])
    with pytest.raises(UserError, match="shows the photo first"):
        documents(birds, "val", "seen", Asked("open_world", OwnQuestion(), 48))


def test_rows_of_another_set_are_found_out(birds: Path):
    row = documents(birds, "val", "seen", Asked("open_world", OpenWorld(), 48))[0]
    with pytest.raises(ValueError, match="write the task files again"):
        lmms_eval.photo({**row, "uid": "another"})


def test_the_tool_writes_all_and_says_what_to_type(birds: Path, tmp_path: Path):
    said = tasks([birds], tmp_path / "tasks", split="val")
    assert f"--include_path {tmp_path}/tasks --tasks fgvr_val" in said
    group = yaml.safe_load((tmp_path / "tasks/fgvr_val.yaml").read_text())
    assert group["task"] == [
        f"fgvr_birds_val_{cohort}_{kind}" for cohort in ("seen", "unseen") for kind in ("open_world", "closed_world")
    ]
    with pytest.raises(UserError, match="split must be test or val"):
        tasks([birds], tmp_path, split="train")
    with pytest.raises(UserError, match=r"has no fgvr\.json beside a"):
        tasks([birds], tmp_path, tmp_path)
    with pytest.raises(UserError, match="a shard set at least"):
        tasks([], tmp_path)


def test_an_export_that_was_taught_to_choose_is_asked_to_choose_and_nothing_else(birds: Path, tmp_path: Path):
    choice = {"class_path": "fgvr.data.ClosedWorld", "init_args": {"options": 3, "letters": True}}
    Carried("birds", load_manifest(birds).taxonomy, choice, 8).write(tmp_path)
    (asked,) = questions(tmp_path, 4)
    assert (asked.kind, asked.max_new_tokens) == ("closed_world", 8)
    assert all(len(row["options"]) == 3 and row["letters"] for row in documents(birds, "val", "seen", asked))


def test_a_group_names_its_tasks(tmp_path: Path):
    write_group(tmp_path, "all", ["a", "b"])
    assert yaml.safe_load((tmp_path / "all.yaml").read_text()) == {"group": "all", "task": ["a", "b"]}


@given(st.lists(st.sampled_from([int(one) for one in Verdict] + [-1]), min_size=1))
def test_figures_are_shares(verdicts: list[int]):
    correct, fine = lmms_eval.correctness(verdicts), lmms_eval.specificity(verdicts)
    assert correct == pytest.approx(sum(one >= Verdict.GENERIC for one in verdicts) / len(verdicts))
    assert 0 <= fine <= 1
    assert lmms_eval.harmonic_mean(verdicts) == pytest.approx(2 * correct * fine / (correct + fine or 1))
    assert lmms_eval.parse_failures(verdicts) == sum(one == -1 for one in verdicts) / len(verdicts)
