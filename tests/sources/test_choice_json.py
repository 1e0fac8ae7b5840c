from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from fgvr.data import ClosedWorld
from fgvr.errors import UserError
from fgvr.shards.packing import pack
from fgvr.shards.plan import PackOptions
from fgvr.shards.reading import ShardSet
from fgvr.sources import ChoiceJSON, Record, Refusal, SourceGone

PROBLEM = (
    "This is an image containing a bird. Please identify the most likely species name of the bird.\n"
    "{options}\nPlease output the letter of the correct bird name, as in <answer> option letter </answer>"
)


def asked(path: str, letter: str, *names: str) -> dict[str, str]:
    options = "\n".join(f"{mark}. {name}" for mark, name in zip("ABCDE", names, strict=False))
    return {"image_path": path, "problem": PROBLEM.format(options=options), "solution": f"<answer>{letter}</answer>"}


def written(folder: Path, items: Any, **options: Any) -> ChoiceJSON:
    for number in range(6):
        Image.new("RGB", (40, 40), (40 * number, 80, 90)).save(folder / f"{number}.png")
    (folder / "mcq.json").write_text(json.dumps(items))
    return ChoiceJSON(folder / "mcq.json", **options)


def records(source: ChoiceJSON) -> list[Record]:
    return [one for one in source.records() if isinstance(one, Record)]


def refusals(source: ChoiceJSON) -> list[str]:
    return [one.reason for one in source.records() if isinstance(one, Refusal)]


def test_a_question_of_choice_has_its_label_and_the_other_names(tmp_path: Path):
    source = written(
        tmp_path,
        [
            asked("0.png", "B", "sooty albatross", "black footed albatross", "laysan albatross"),
            asked("1.png", "A", "sooty albatross", "b-2"),
            {"image_path": "2.png", "problem": "What bird is it?", "solution": "<answer> arctic tern </answer>"},
        ],
    )
    one, other, plain = records(source)
    assert (one.label, one.extra) == ("black footed albatross", {"options": ["sooty albatross", "laysan albatross"]})
    assert (other.label, other.extra, other.split) == ("sooty albatross", {"options": ["b-2"]}, "train")
    assert (plain.label, plain.extra) == ("arctic tern", {})
    assert source.dataset == "mcq"


def test_it_packs_and_is_asked_in_an_order_of_its_own(tmp_path: Path):
    names = ("sooty albatross", "black footed albatross", "laysan albatross")
    items = [asked(f"{n}.png", "ABC"[n % 3], *names) for n in range(6)]
    (tmp_path / "data").mkdir()
    pack(written(tmp_path / "data", items), tmp_path / "shards", PackOptions(val=0.0, test=0.0))
    shards = ShardSet(tmp_path / "shards", "train", ("seen",))
    assert len(shards) == 6
    task = ClosedWorld(options=5, letters=True).bind(shards.taxonomy)
    orders = set()
    for number in range(6):
        example = task.prepare(shards.read(number), random.Random(number))
        assert {*task.shown(example)} == {*names}
        letter = task.target(example, random.Random(0))
        read = task.parse(letter, example)
        assert read is not None
        assert read.text == example.label
        orders.add(task.shown(example))
    assert len(orders) > 1


def test_paths_of_another_machine_are_put_under_the_root(tmp_path: Path):
    item = asked("/home/them/cub/0.png", "A", "x", "y")
    assert "climbs out" in refusals(written(tmp_path, [item]))[0]
    (record,) = records(written(tmp_path, [item], prefix="/home/them/cub"))
    assert record.name == "0.png"
    assert record.load()


def test_two_spellings_of_a_label_are_one_class(tmp_path: Path):
    items = [asked("0.png", "A", "black-footed albatross", "b-2"), asked("1.png", "A", "Black footed albatross", "x")]
    source = written(tmp_path, items)
    assert {record.label for record in records(source)} == {*source.taxonomy().paths} == {"black-footed albatross"}


def test_an_item_that_cannot_be_used_is_refused_by_its_number(tmp_path: Path):
    source = written(
        tmp_path,
        [
            asked("0.png", "E", "x", "y"),
            {"image_path": "1.png", "problem": "p", "solution": "x"},
            ["no item"],
            asked("../up.png", "A", "x", "y"),
            asked("2.png", "A", "X", "x"),
            asked("3.png", "A", "x", "y"),
            asked("3.png", "B", "x", "y"),
        ],
    )
    said = refusals(source)
    for number, why in enumerate(
        (
            "one of the letters A, B",
            "must be <answer>",
            "must have the texts",
            "climbs out",
            "another name of its label",
        )
    ):
        assert said[number].startswith(f"mcq.json[{number}]: ")
        assert why in said[number]
    assert [one.endswith("its photo is in another item too") for one in said[5:]] == [True, True]


def test_what_is_no_list_of_items_is_a_sentence(tmp_path: Path):
    for items, said in (({}, "got dict"), ([], "got an empty list")):
        with pytest.raises(UserError, match=said):
            list(written(tmp_path, items).records())
    (tmp_path / "mcq.json").write_text("[")
    with pytest.raises(UserError, match="must be JSON"):
        list(ChoiceJSON(tmp_path / "mcq.json").records())
    with pytest.raises(SourceGone, match="give its path"):
        list(ChoiceJSON(tmp_path / "none.json").records())
    with pytest.raises(UserError, match="split must be one of"):
        ChoiceJSON(tmp_path / "mcq.json", split="dev")
