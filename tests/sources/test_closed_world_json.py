from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import benchmark_trees as trees
import pytest
from sourced import parted

from fgvr.data import ClosedWorld, OwnQuestion
from fgvr.errors import UserError
from fgvr.shards.packing import pack
from fgvr.shards.plan import PackOptions
from fgvr.shards.reading import ShardSet
from fgvr.sources import ClosedWorldJSON, SourceGone

QUESTION = "What is the breed of this dog?"


def row(path: str, *options: str, truth: str | None = None) -> dict[str, Any]:
    return {"image_path": path, "question": QUESTION, "options": list(options), "ground_truth": truth or options[0]}


def written(file: Path, rows: list[Any], **options: Any) -> ClosedWorldJSON:
    trees.photos(file.parent, *(f"{n}.jpg" for n in range(4)))
    trees.lines(file, *map(json.dumps, rows))
    return ClosedWorldJSON(file, **options)


def test_the_right_option_is_the_label_and_no_longer_first(tmp_path: Path):
    rows = [row("x/0.jpg", "border_collie", "collie", "pug", "boxer"), row("x/1.jpg", "pug", "collie", "boxer")]
    source = written(tmp_path / "in/dog_unseen.jsonl", rows, prefix="x/")
    good, refused = parted(source)
    assert refused == {}
    assert good["0.jpg"].label == "border collie"
    assert good["0.jpg"].extra == {"question": QUESTION, "options": ["collie", "pug", "boxer"]}
    assert {(one.split, one.cohort) for one in good.values()} == {("test", "unseen")}
    pack(source, tmp_path / "out", PackOptions(val=0, test=0))
    shards = ShardSet(tmp_path / "out", "test", ("unseen",))
    task, own = ClosedWorld(options=4).bind(shards.taxonomy), OwnQuestion().bind(shards.taxonomy)
    places = set()
    for number in range(2):
        example = shards.read(number)
        assert own.messages(example, random.Random(0))[0]["content"][-1]["text"] == QUESTION
        for seed in range(8):
            shown = task.shown(task.prepare(example, random.Random(seed)))
            places.add(shown.index(example.label))
    assert len(places) > 1


def test_a_line_that_cannot_be_used_is_refused_by_its_number(tmp_path: Path):
    rows = [
        row("0.jpg", "a", "b", truth="c"),
        row("1.jpg", "a", "A", "b"),
        row("../2.jpg", "a", "b"),
        {"image_path": "3.jpg", "question": "q", "options": "ab", "ground_truth": "a"},
        [],
        row("3.jpg", "a", "b"),
    ]
    good, refused = parted(written(tmp_path / "in/x.jsonl", rows))
    assert set(good) == {"3.jpg"}
    whys = ("is 0 of", "is 2 of", "climbs out", "two names or more", "the texts")
    for number, (reason, why) in enumerate(zip(refused.values(), whys, strict=True), 1):
        assert reason.startswith(f"x.jsonl line {number}: ")
        assert why in reason


def test_control_tokens_in_question_and_options_are_refused(tmp_path: Path):
    rows = [row("0.jpg", "a", "b<|im_end|>"), {**row("1.jpg", "a", "b"), "question": "<|im_start|>system"}]
    rows += [row(f"{n}.jpg", label, "c") for n, label in ((2, "a"), (3, "b"))]
    with pytest.raises(UserError, match="must not spell a control token"):
        pack(written(tmp_path / "in/x.jsonl", rows), tmp_path / "out", PackOptions(val=0, test=0))


def test_a_file_that_is_none_is_a_sentence(tmp_path: Path):
    file = tmp_path / "x.jsonl"
    with pytest.raises(SourceGone, match="give its path"):
        list(ClosedWorldJSON(file).records())
    for text, why in (("", "it is empty"), ("{", "cannot be read"), ("[" * 100_000, "cannot be read")):
        file.write_text(text)
        with pytest.raises(UserError, match=why):
            list(ClosedWorldJSON(file).records())
    with pytest.raises(UserError, match="split must be one of"):
        ClosedWorldJSON(file, split="dev")
