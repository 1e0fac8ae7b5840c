"""Mined options over shards: those photos are trained on that have some, and are asked with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from conftest import NAMES, photo, tiny_backbone

from fgvr.data import ClosedWorld
from fgvr.datamodules import OptionData, ShardSource
from fgvr.errors import UserError
from fgvr.models import PixelBudget
from fgvr.options.deriving import Choice, Derived, Rules, write_options
from fgvr.options.store import Made
from fgvr.shards.packing import pack
from fgvr.shards.reading import ShardSet
from fgvr.sources import ImageFolder
from fgvr.types import PromptBatch

AMBER, AZURE, HERON, OWL = sorted(NAMES)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, out = tmp_path_factory.mktemp("photos"), tmp_path_factory.mktemp("shards")
    for row, name in enumerate(NAMES):
        for split, count in (("train", 3), ("val", 1)):
            (folder / split / name).mkdir(parents=True)
            for number in range(count):
                photo(84, 84, seed=100 * row + number).save(folder / split / name / f"{number}.png")
    pack(ImageFolder(folder, dataset="birds"), out)
    return out


def mined(shards: Path, file: Path, leave_out: str = OWL, label: str | None = None, split: str = "train") -> Path:
    """Every photo but those of one class has its label and its class's neighbour in the list as options."""
    entries = [entry for entry in ShardSet(shards, "train", ("seen",)).entries() if entry.label != leave_out]
    names = sorted(NAMES)
    choices = tuple(
        Choice(
            entry.key,
            label or entry.label,
            (names[names.index(entry.label) - 1], entry.label),
            (3, 1),
            ("offered", "offered"),
        )
        for entry in entries
    )
    made = Made("m", "p", {}, 0, "d", split, ("seen",), 12, 4, "birds", {"paths": {}}, {})
    write_options(file, made, Rules(4), Derived(choices))
    return file


def data_module(shards: Path, *options: Path | None, **others: Any) -> OptionData:
    task = ClosedWorld(options=4, letters=True)
    sets = [ShardSource(shards) for _ in options]
    data = OptionData(sets, task, options=list(options), batch_size=4, workers=0, **others)
    data.processor = tiny_backbone().processor(PixelBudget(28 * 28, 84 * 84))
    data.setup("fit")
    return data


def test_photos_with_options_are_asked_with_them_and_no_others_are(shards: Path, tmp_path: Path):
    data = data_module(shards, mined(shards, tmp_path / "options.jsonl"))
    batches: list[PromptBatch] = list(data.train_dataloader())
    examples = [example for batch in batches for example in batch.examples]
    assert sorted(example.label for example in examples) == sorted([AMBER, AZURE, HERON] * 3)
    before = {AMBER: OWL, AZURE: AMBER, HERON: AZURE}
    for example in examples:
        assert {*example.extra["shown"]} == {example.label, before[example.label]}


def test_letters_are_dealt_anew_in_every_epoch(shards: Path, tmp_path: Path):
    loader = data_module(shards, mined(shards, tmp_path / "options.jsonl")).train_dataloader()
    epochs = [
        {example.uid: tuple(example.extra["shown"]) for batch in loader for example in batch.examples} for _ in range(4)
    ]
    assert all(len({epoch[uid] for epoch in epochs}) <= 2 for uid in epochs[0])
    assert any(len({epoch[uid] for epoch in epochs}) == 2 for uid in epochs[0])


def test_a_set_without_a_file_keeps_its_own(shards: Path):
    batches: list[PromptBatch] = list(data_module(shards, None).train_dataloader())
    examples = [example for batch in batches for example in batch.examples]
    assert len(examples) == 12
    assert {len(example.extra["shown"]) for example in examples} == {4}


def test_other_options_are_another_stream(shards: Path, tmp_path: Path):
    one, other = (
        data_module(shards, mined(shards, tmp_path / f"{n}.jsonl", leave_out)).fingerprint()
        for n, leave_out in enumerate((OWL, AMBER))
    )
    assert one["options"] != other["options"]
    assert one["train[0]"] != other["train[0]"]


def test_a_file_of_other_photos_is_refused(shards: Path, tmp_path: Path):
    file = mined(shards, tmp_path / "options.jsonl")
    with pytest.raises(UserError, match="a file, or null, for each of 1 sets"):
        OptionData([ShardSource(shards)], ClosedWorld(), options=[])
    with pytest.raises(UserError, match="options to train on, but they are of val photos"):
        data_module(shards, mined(shards, tmp_path / "val.jsonl", split="val")).train_encode()
    with pytest.raises(UserError, match="has another label there: mine from that set"):
        data_module(shards, mined(shards, tmp_path / "wrong.jsonl", label=OWL, leave_out=AMBER))
    with pytest.raises(UserError, match="options in one file"):
        data_module(shards, file, file).train_encode()
