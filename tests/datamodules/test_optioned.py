from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from toy_stream import LABELS, ToyStream, write_set

from fgvr.data.tasks import OpenWorld
from fgvr.datamodules.base import ShardSource
from fgvr.datamodules.optioned import Optioned, with_options
from fgvr.errors import UserError
from fgvr.options import deriving
from fgvr.options.deriving import Choice
from fgvr.shards.manifest import load_manifest, save_manifest
from fgvr.shards.part import part_of
from fgvr.shards.reading import ShardSet
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
