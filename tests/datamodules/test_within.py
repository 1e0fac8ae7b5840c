from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from toy_stream import LABELS, ToyStream, write_set

from fgvr.data.tasks import OpenWorld
from fgvr.datamodules.shard_source import ShardSource
from fgvr.datamodules.within import order_within
from fgvr.errors import UserError
from fgvr.shards.reading import ShardSet
from fgvr.taxonomy.tree import Taxonomy

SIZES = {"train-seen": [7, 9, 6], "val-seen": [8], "val-unseen": [2], "test-unseen": [4]}  # labels come by turns


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_set(tmp_path_factory.mktemp("within") / "set", SIZES)


def stream(data: Path, within: str | None, **source: Any) -> ToyStream:
    return ToyStream([ShardSource(data, **source)], OpenWorld(), batch_size=4, workers=0, seed=3, within=within)


def uids(batches: Any) -> set[str]:
    return {uid for batch in batches for uid in batch.uids}


def test_only_photos_of_the_branch_are_trained_and_validated_on(data: Path, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO, "fgvr")
    owls = stream(data, "Owl")
    owls.setup("fit")
    expected = {f"s{n:05}" for n in range(22) if LABELS[n % 4].endswith("Owl")}  # 2, 3, 6, 7, ..., 18, 19
    assert uids(owls.train_dataloader()) == expected
    assert len(expected) == len(owls.order) == 10
    assert owls.cohorts == ["seen", "unseen"]
    seen, unseen = owls.val_dataloader()
    # val-seen are 22 to 29, of which 22, 23, 26 and 27 are owls; val-unseen 30 and 31, both
    assert (len(uids(seen)), len(uids(unseen))) == (4, 2)
    assert "Within owl: 2 of 4 classes." in caplog.messages
    assert f"{data}: 10 of 22 photos to train on are within owl." in caplog.messages
    assert "Within owl: 4 of 8 photos of val seen." in caplog.messages
    assert owls.classes_of("seen") == {"Jade Owl", "Grey Owl"}
    finches = stream(data, "finch")
    finches.setup("fit")
    assert finches.cohorts == ["seen"]
    assert finches.fingerprint() != owls.fingerprint()


def test_as_many_as_were_asked_for_are_taken_from_the_branch(data: Path):
    few = stream(data, "owl", examples=4)
    few.setup("fit")
    labels = few.train_sets[0].labels()
    assert sorted(labels) == ["Grey Owl", "Grey Owl", "Jade Owl", "Jade Owl"]
    with pytest.raises(UserError, match=r"must have 11 photos to train on within 'owl', it has 10"):
        stream(data, "owl", examples=11).setup("fit")


def test_the_root_leaves_everything_as_it_is(data: Path):
    whole, root = stream(data, None), stream(data, "bird")
    for one in (whole, root):
        one.setup("fit")
    assert whole.branch is None
    assert [batch.uids for batch in whole.train_dataloader()] == [batch.uids for batch in root.train_dataloader()]
    shard_set = ShardSet(data, "val", ("seen",))
    orders = [order_within([shard_set], one.branch, 5, "val", "seen", 3) for one in (whole, root)]
    assert orders[0] == orders[1]


def test_a_name_that_is_no_node_or_one_class_is_a_sentence(data: Path):
    for name, words in (
        ("Finsh", "'Finsh' is none: .* 'finch'"),
        ("jade owl", "'Jade Owl' has 1: .* 'owl'"),
    ):
        with pytest.raises(UserError, match=words):
            stream(data, name).setup("validate")


def test_a_set_without_a_photo_of_the_branch_cannot_be_trained_on(tmp_path: Path):
    paths = {label: ("bird", label) for label in LABELS} | {"Cat": ("beast", "Cat"), "Dog": ("beast", "Dog")}
    animals = Taxonomy(paths, ("class", "species"), "animal")
    data = write_set(tmp_path / "set", {"train-seen": [4], "val-seen": [4]}, taxonomy=animals)
    with pytest.raises(UserError, match=r"must have 1 photos to train on within 'beast', it has 0"):
        stream(data, "beast").setup("fit")
    other = stream(data, "beast")
    other.setup("validate")
    assert other.val_dataloader() == []
