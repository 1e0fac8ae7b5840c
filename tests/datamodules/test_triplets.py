import json
import logging
import pickle
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import tiny_backbone, tiny_policy
from lightning.pytorch import LightningModule
from toy_stream import SaveEverything, toy_trainer
from toy_triplets import EVEN, FAMILY, FINCHES, OWLS, examples_of, facts, packed, triplet_data, write_photos

from fgvr.data import OpenWorld
from fgvr.datamodules import ShardSource
from fgvr.datamodules.triplets import TripletData
from fgvr.errors import UserError
from fgvr.models import PixelBudget
from fgvr.shards.manifest import load_index, load_manifest
from fgvr.shards.packing import pack
from fgvr.similarity import OnlineConfusion, Siblings, TowerCentroids
from fgvr.sources import ImageFolder


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return packed(tmp_path_factory.mktemp("birds") / "birds")


def trained_uids(shards: Path) -> dict[str, str]:
    manifest = load_manifest(shards)
    entries = [entry for shard in manifest.select("train", ("seen",)) for entry in load_index(shards, shard)]
    return {entry.key: entry.label for entry in entries}


def test_an_anchor_has_another_photo_of_its_class_and_one_of_a_class_like_it(shards: Path):
    trained = trained_uids(shards)
    examples = examples_of(triplet_data(shards))
    assert sorted(one.uid for one in examples) == sorted(trained)
    for one in examples:
        assert one.positive is not None
        assert one.negative is not None
        assert one.positive.uid != one.uid
        assert one.positive.images != one.images
        assert one.positive.label == one.label == trained[one.positive.uid]
        assert one.negative.label == trained[one.negative.uid] != one.label
        assert FAMILY[one.negative.label] == FAMILY[one.label]


def test_each_epoch_draws_anew_and_one_class_has_one_rival(shards: Path):
    data = triplet_data(shards)
    first, second = examples_of(data), examples_of(data)
    assert sorted(one.uid for one in first) == sorted(one.uid for one in second)
    assert sorted(facts(first)) != sorted(facts(second))
    rivals = {(one.label, one.negative.label) for one in (*first, *second) if one.negative}
    assert len(rivals) == len(FAMILY)


def test_among_k_classes_each_is_as_likely_or_by_its_score(shards: Path):
    data = triplet_data(shards, k=2)
    drawn = [(one.label, one.negative.label) for _ in range(40) for one in examples_of(data) if one.negative]
    counts = Counter(drawn)
    assert set(counts) == {(a, b) for group in (FINCHES, OWLS) for a in group for b in group if a != b}
    assert min(counts.values()) > 70  # of 200 a class, each of two rivals as likely: 100 and 7 to either side
    weighted = triplet_data(shards, k=2, weighted=True, similarity=OnlineConfusion(Siblings(), decay=1.0))
    examples_of(weighted)
    label, often, seldom = OWLS
    answers = [("birds", label, often)] * 9 + [("birds", label, seldom)] + [("birds", label, "Owl")]
    weighted.count_confusions([*answers, ("birds", label, label), ("birds", label, "a bicycle")])
    drawn = [
        one.negative.label for _ in range(40) for one in examples_of(weighted) if one.negative and one.label == label
    ]
    assert 0.03 < drawn.count(seldom) / len(drawn) < 0.2
    assert set(drawn) == {often, seldom}


@pytest.mark.parametrize(("workers", "world"), [(1, 1), (2, 1), (0, 2), (1, 3)])
def test_any_number_of_workers_and_ranks_gives_the_same_triplets(shards: Path, workers: int, world: int):
    whole = triplet_data(shards, k=2)
    expected = [sorted(facts(examples_of(whole))) for _ in range(2)]
    ranks = []
    for rank in range(world):
        data = triplet_data(shards, k=2, workers=workers)
        stream = data.train_dataloader()
        stream.rank, stream.world = rank, world
        ranks.append([facts(examples_of(data)) for _ in range(2)])
        stream.close()
    assert [sorted(fact for rank in ranks for fact in rank[epoch]) for epoch in range(2)] == expected


@pytest.mark.parametrize("taken", [1, 3, 5, 7])
def test_a_resumed_stream_draws_what_the_uninterrupted_one_does(shards: Path, taken: int):
    answers = [("birds", label, other) for group in (FINCHES, OWLS) for label in group for other in group[:2]]

    def batches(data: TripletData, count: int) -> list[Any]:
        found: list[Any] = []
        while len(found) < count:
            for batch in data.train_dataloader():
                found.append(facts(batch.examples))
                data.count_confusions(answers[: len(found)])
                if len(found) == count:
                    break
        return found

    options: dict[str, Any] = {"k": 2, "weighted": True, "similarity": OnlineConfusion()}
    whole = batches(triplet_data(shards, **options), 15)
    stopped = triplet_data(shards, **options)
    begun = batches(stopped, taken)
    resumed = triplet_data(shards, workers=taken % 2, **options)
    resumed.load_state_dict(stopped.state_dict())
    found: list[Any] = []
    while len(begun) + len(found) < 15:
        for batch in resumed.train_dataloader():
            found.append(facts(batch.examples))
            resumed.count_confusions(answers[: len(begun) + len(found)])
            if len(begun) + len(found) == 15:
                break
    resumed.train_dataloader().close()
    assert [*begun, *found] == whole


def test_what_is_confused_counts_from_the_next_epoch_on(shards: Path):
    data = triplet_data(shards, similarity=OnlineConfusion())
    label, rival = "Amber Finch", "Snow Owl"  # no sibling
    before = examples_of(data)
    data.count_confusions([("birds", label, "a snow owl")] * 2)
    assert data.rivals is not None
    assert rival not in {one.negative.label for one in before if one.negative and one.label == label}
    after = [one.negative.label for one in examples_of(data) if one.negative and one.label == label]
    assert set(after) == {rival}
    assert data.rivals.confusions("birds") == {label: {rival: 2.0}}
    examples_of(data)
    assert data.rivals.confusions("birds") == {label: {rival: 1.0}}


def test_sets_are_mixed_and_negatives_stay_in_their_dataset(tmp_path: Path):
    first, second = packed(tmp_path / "a"), packed(tmp_path / "b", first=1000)
    examples = examples_of(triplet_data(first, second, k=2))
    assert {one.dataset for one in examples} == {"a", "b"}
    of = {"a": trained_uids(first), "b": trained_uids(second)}
    contents = {name: {one.images for one in examples if one.dataset == name} for name in of}
    for one in examples:
        assert one.positive is not None
        assert one.negative is not None
        assert {one.positive.images, one.negative.images} <= contents[one.dataset]


def test_partners_come_from_the_few_examples_that_are_learned_from(shards: Path):
    data = triplet_data(ShardSource(shards, examples=12))
    few = {one.uid for one in examples_of(data)}
    partners = {uid for _ in range(5) for _, *rest in facts(examples_of(data)) for uid in rest}
    assert len(few) == 12
    assert partners <= few


def test_unseen_classes_and_other_splits_are_nobodys_partner(tmp_path: Path):
    shards = packed(tmp_path / "birds", unseen=2, seed=3)
    trained = trained_uids(shards)
    assert len(set(trained.values())) == 4
    data = triplet_data(shards, max_incomplete_share=1.0)
    partners = {uid for _ in range(4) for _, *rest in facts(examples_of(data)) for uid in rest}
    assert partners - {None} <= set(trained)


def test_the_same_picture_is_no_positive_and_one_under_two_labels_nobodys_partner(tmp_path: Path, caplog: Any):
    photos = tmp_path / "birds/photos/train"
    write_photos(photos.parent, EVEN | {"Amber Finch": 2})
    twice = photos / "Finch/Amber Finch"
    (twice / "9.png").write_bytes((twice / "0.png").read_bytes())
    (photos / "Owl/Jade Owl/9.png").write_bytes((photos / "Owl/Snow Owl/0.png").read_bytes())
    pack(ImageFolder(photos.parent), tmp_path / "out")
    with caplog.at_level(logging.WARNING, "fgvr"):
        data = triplet_data(tmp_path / "out", k=2)
    assert "1 pictures stand under two labels and are nobody's partner" in caplog.text
    shared = (photos / "Owl/Snow Owl/0.png").read_bytes()
    for _ in range(10):
        for one in examples_of(data):
            assert one.positive is not None
            assert one.negative is not None
            assert one.images[0] != one.positive.images[0]
            assert shared not in (one.positive.images[0], one.negative.images[0])


def test_for_a_partner_that_cannot_be_read_another_is_drawn(tmp_path: Path):
    shards = packed(tmp_path / "birds")
    (shard,) = load_manifest(shards).select("train", ("seen",))
    entry = load_index(shards, shard)[0]
    with (shards / shard.file).open("r+b") as tar:
        member = next(one for one in entry.members if one.name.endswith("png"))
        tar.seek(member.offset + 20)
        tar.write(b"damage")
    data = triplet_data(shards, max_bad_share=1.0)
    quarantined = [pair for batch in data.train_dataloader() for pair in batch.record.quarantined]
    assert [uid for uid, _ in quarantined] == [entry.key]


def test_numbers_out_of_range_are_refused(shards: Path):
    with pytest.raises(UserError, match="k must be at least 1, got 0"):
        triplet_data(shards, k=0)
    with pytest.raises(UserError, match="max_incomplete_share is a share"):
        triplet_data(shards, max_incomplete_share=2.0)


class Small(LightningModule):
    """Only holds a policy, whose tower is looked through."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        torch.manual_seed(0)
        self.policy = tiny_policy()
        self.processor = self.policy.processor
        self.rankings: list[Any] = []

    def training_step(self, batch: Any, batch_idx: int) -> None:
        data: Any = self.trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
        self.rankings.append(json.loads(json.dumps(data.rivals.rankings["birds"])))
        optimizer: Any = self.optimizers()
        for parameter in self.policy.parameters():
            parameter.grad = torch.randn_like(parameter, dtype=torch.float32)
        optimizer.step()

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        raise AssertionError("nothing is validated here")

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.policy.parameters(), 0.05)


def test_the_tower_is_looked_through_as_training_begins_and_a_resumed_run_keeps_what_it_saw(
    tmp_path: Path, shards: Path
):
    def fit(root: Path, every: int | None, epochs: int, resume: bool = False) -> Small:
        data = triplet_data(shards, similarity=TowerCentroids(2, every), k=2, batch_size=10)
        torch.manual_seed(1)
        module = Small()
        trainer = toy_trainer(root, SaveEverything(), max_epochs=epochs, limit_val_batches=0)
        trainer.fit(module, datamodule=data, ckpt_path=root / "last.ckpt" if resume else None, weights_only=False)
        return module

    once, twice = fit(tmp_path / "once", None, 3), fit(tmp_path / "twice", 2, 3)
    assert len(once.rankings) == 9
    assert all(ranking == once.rankings[0] for ranking in once.rankings)
    assert once.rankings[0] == twice.rankings[0] == twice.rankings[5]
    assert twice.rankings[6] == twice.rankings[8] != twice.rankings[0]
    stopped = fit(tmp_path / "stopped", None, 1)
    resumed = fit(tmp_path / "stopped", None, 2, resume=True)
    assert resumed.rankings == stopped.rankings  # not those of the weights that it goes on from


def test_validation_asks_nobody_for_partners(shards: Path):
    data = TripletData([ShardSource(shards)], OpenWorld(), workers=0, max_incomplete_share=0.0)
    data.processor = tiny_backbone().processor(PixelBudget(28 * 28, 84 * 84))
    data.setup("validate")
    (batch,) = data.val_dataloader()[0]
    assert {one.positive for one in batch.examples} == {None}
    assert pickle.loads(pickle.dumps(data)).k == 1
