from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from toy_stream import LABELS, ToyStream, picture, write_set

from fgvr.aviary import Aviary
from fgvr.data.tasks import OpenWorld
from fgvr.datamodules.base import ShardSource
from fgvr.datamodules.optioned import Optioned, check_options, with_options
from fgvr.errors import UserError
from fgvr.options import deriving
from fgvr.options.deriving import Choice
from fgvr.shards.manifest import load_manifest, save_manifest
from fgvr.shards.packing import pack
from fgvr.shards.part import part_of
from fgvr.shards.reading import ShardSet
from fgvr.sources import ChoiceJSON
from fgvr.whole_files import sealed_line, write_whole

Write = Callable[..., Path]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_set(tmp_path / "set", {"train-seen": [5, 4]})


def choice(number: int, *others: str, label: str | None = None) -> Choice:
    own = label or LABELS[number % len(LABELS)]
    names = (own, *(name for name in others if name != own))
    return Choice(f"s{number:05d}", own, names, (1,) * len(names), ("offered",) * len(names))


@pytest.fixture
def mined(tmp_path: Path) -> Write:
    """Writes a file of options, line by line as mining does."""

    def write(*choices: Choice, split: str = "train") -> Path:
        file = tmp_path / "options.jsonl"
        lines = [{"format": deriving.FORMAT, "split": split}, *map(asdict, choices)]
        write_whole(file, b"".join(map(sealed_line, lines)))
        return file

    return write


def test_only_photos_with_options_are_there_each_with_its_own(folder: Path, mined: Write):
    whole = ShardSet(folder, "train", ("seen",))
    file = mined(choice(7, "Jade Owl", "Amber Finch"), choice(2, "Amber Finch"))
    part = with_options(whole, file)
    assert [part.uid(n) for n in range(len(part))] == ["s00002", "s00007"]
    assert [part.read(n).extra["options"] for n in range(2)] == [
        ["Jade Owl", "Amber Finch"], ["Grey Owl", "Jade Owl", "Amber Finch"],
    ]  # fmt: skip
    assert part.shard_sizes == (1, 1)
    assert part.read(0).images == whole.read(2).images
    assert pickle.loads(pickle.dumps(part)).read(1).extra == part.read(1).extra


def test_other_options_are_another_stream(folder: Path, mined: Write):
    whole = ShardSet(folder, "train", ("seen",))
    first = with_options(whole, mined(choice(2, "Amber Finch")))
    again = with_options(whole, mined(choice(2, "Amber Finch")))
    other = with_options(whole, mined(choice(2, "Grey Owl")))
    assert first.fingerprint == again.fingerprint != other.fingerprint
    assert isinstance(first, Optioned)


def test_a_part_keeps_those_of_its_own_that_have_options(folder: Path, mined: Write):
    whole = ShardSet(folder, "train", ("seen",))
    part = part_of(whole, 4, seed=0)
    every = mined(*(choice(n, "Amber Finch", "Jade Owl") for n in range(9)))
    assert with_options(part, every).numbers == part.numbers
    lacking = next(n for n in range(9) if n not in part.numbers)
    with pytest.raises(UserError, match="has none for these"):
        with_options(part, mined(choice(lacking, "Amber Finch", "Jade Owl")))


def test_options_of_another_set_or_label_are_refused(folder: Path, mined: Write):
    whole = ShardSet(folder, "train", ("seen",))
    for strange in (choice(70, "Jade Owl"), choice(2, "Amber Finch", label="Grey Owl")):
        with pytest.raises(UserError, match="1 of 1 photos are not in it under their label"):
            with_options(whole, mined(strange))
    with pytest.raises(UserError, match="are of test photos"):
        with_options(whole, mined(choice(2, "Grey Owl"), split="test"))
    (folder / "no.jsonl").write_text("{}\n")
    with pytest.raises(UserError, match="run that line again"):
        with_options(whole, folder / "no.jsonl")


def test_a_held_out_name_never_enters_training(folder: Path, mined: Write):
    manifest = load_manifest(folder)
    save_manifest(replace(manifest, cohorts=dict(manifest.cohorts) | {"Grey Owl": "novel"}), folder)
    whole = ShardSet(folder, "train", ("seen",))
    with pytest.raises(UserError, match=r"has Grey Owl: derive the options with the scope base"):
        with_options(whole, mined(choice(2, "Grey Owl")))


def test_a_data_module_trains_on_them(folder: Path, mined: Write):
    file = mined(choice(2, "Amber Finch"), choice(3, "Amber Finch"))
    data = ToyStream([ShardSource(folder, options=file)], OpenWorld(), batch_size=2)
    assert len(data.order) == 2
    assert [part.read(0).extra["options"] for part in data.train_sets] == [["Jade Owl", "Amber Finch"]]


def test_options_that_are_mined_anew_hold_no_held_out_name_either(folder: Path, mined: Write):
    manifest = load_manifest(folder)
    save_manifest(replace(manifest, cohorts=dict(manifest.cohorts) | {"Grey Owl": "novel"}), folder)
    part = with_options(ShardSet(folder, "train", ("seen",)), mined(choice(2, "Amber Finch")))
    with pytest.raises(RuntimeError, match="the held-out name 'Grey Owl' must not enter training"):
        part.renewed({"s00002": choice(2, "Grey Owl")})
    assert part.renewed({"s00002": choice(2, "Snow Owl")}).options == [("Jade Owl", "Snow Owl")]


def checked(entry: ShardSource, needed: bool = True) -> None:
    check_options([entry], lambda one: ShardSet(Path(one.path), "train", ("seen",)), needed)


def test_choices_need_options_from_mining_or_with_the_photos(folder: Path, mined: Write, tmp_path: Path):
    checked(ShardSource(folder), needed=False)
    checked(ShardSource(folder, options=mined(choice(2, "Amber Finch"))))
    with pytest.raises(UserError, match=r"but .*set has none: mine them with `python -m fgvr mine`"):
        checked(ShardSource(folder))
    with pytest.raises(UserError, match="are of test photos"):
        checked(ShardSource(folder, options=mined(choice(2, "Grey Owl"), split="test")), needed=False)
    # of a set that is not packed yet
    birds = Aviary(species=48, unseen=0, train=1, val=1, test=0, size=56)
    with pytest.raises(UserError, match="birds has none"):
        checked(ShardSource(tmp_path / "birds", source=birds))
    (tmp_path / "x.png").write_bytes(picture(0))
    items = [{"image_path": "x.png", "problem": "Which?\nA. x\nB. y", "solution": "<answer>A</answer>"}]
    (tmp_path / "x.json").write_text(json.dumps(items))
    checked(ShardSource(tmp_path / "json", source=ChoiceJSON(tmp_path / "x.json")))


def test_options_that_are_packed_with_the_photos_are_enough(tmp_path: Path):
    items: list[dict[str, str]] = []
    for number in range(8):
        (tmp_path / f"{number}.png").write_bytes(picture(number))
        letters = "A. Jade Owl\nB. Grey Owl"
        solution = f"<answer>{'AB'[number % 2]}</answer>"
        items.append({"image_path": f"{number}.png", "problem": f"Which?\n{letters}", "solution": solution})
    (tmp_path / "birds.json").write_text(json.dumps(items))
    pack(ChoiceJSON(tmp_path / "birds.json"), tmp_path / "packed")
    checked(ShardSource(tmp_path / "packed"))


def test_options_that_are_not_there_are_missed_in_a_sentence_that_tells_how_to_get_them(folder: Path, tmp_path: Path):
    for entry in (ShardSource(folder, options=tmp_path / "no.jsonl"), ShardSource(tmp_path / "none", options=folder)):
        with pytest.raises(UserError, match=r"cannot be read .*: mine it with `python -m fgvr mine`"):
            checked(entry, needed=False)
