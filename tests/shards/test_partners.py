import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest
from hostile import jpeg
from sourced import touch
from toy_triplets import EVEN, FAMILY, packed, write_photos

from fgvr.aviary.source import Aviary
from fgvr.errors import SampleError, UserError
from fgvr.shards.manifest import load_index, load_manifest, read_manifest
from fgvr.shards.packed import pack_or_compare
from fgvr.shards.packing import pack
from fgvr.shards.partners import stored_partners
from fgvr.shards.plan import PackOptions
from fgvr.shards.reading import ShardSet
from fgvr.similarity import OnlineConfusion, Siblings
from fgvr.sources import ImageFolder, PartnerRecord, Record

SLOW = """
import sys, time
from fgvr.shards import packing
from fgvr.shards.plan import PackOptions
from fgvr.similarity import Siblings
from fgvr.sources.image_folder import ImageFolder
source, out = sys.argv[1:]
options = PackOptions(samples_per_shard=4)
packing.pack(ImageFolder(source), out, options, triplets=Siblings(), progress=lambda done, planned: time.sleep(0.05))
"""


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


def test_frozen_triplets_are_read_back_from_their_members(tmp_path: Path):
    source = Aviary(species=48, unseen=6, train=3, val=1, test=1, size=56)
    manifest = pack(source, tmp_path, PackOptions(val=0), triplets=Siblings())
    genus = {name: path[:-1] for name, path in source.taxonomy().paths.items()}
    whole = ShardSet(tmp_path, "train", ("seen",))
    by_uid = {example.uid: example for example in map(whole.read, range(len(whole)))}
    for entry in whole.entries():
        example = by_uid[entry.key]
        assert example.positive is not None
        assert example.negative is not None
        assert len(example.images) == 1
        for partner in (example.positive, example.negative):
            assert partner.uid != example.uid
            assert partner.images == by_uid[partner.uid].images
            assert partner.label == by_uid[partner.uid].label
        assert example.positive.label == example.label != example.negative.label
        assert genus[example.negative.label][:2] == genus[example.label][:2]
        assert [one.name for one in entry.members] == [
            f"{entry.key}.{end}" for end in ("jpg", "json", "neg.jpg", "pos.jpg")
        ]
        assert [(one.view, one.uid) for one in entry.partners] == [
            ("pos", example.positive.uid),
            ("neg", example.negative.uid),
        ]
        assert "positive" not in example.extra
    assert manifest.notes["with a positive"] == manifest.notes["with a negative"] == 42 * 3
    assert manifest.options["triplets"]["similarity"] == {"kind": "Siblings"}
    assert all(not entry.partners for entry in ShardSet(tmp_path, "val", ("seen",)).entries())


def test_without_triplets_nothing_in_a_set_speaks_of_them(tmp_path: Path):
    shards = packed(tmp_path / "birds")
    for file in shards.glob("*.json"):
        assert b"partners" not in file.read_bytes()
        assert b"triplets" not in file.read_bytes()


def test_a_tar_of_triplets_is_an_ordinary_one(tmp_path: Path):
    root = write_photos(tmp_path / "photos", EVEN)
    pack(ImageFolder(root), tmp_path / "out", PackOptions(), triplets=Siblings())
    with tarfile.open(tmp_path / "out/train-seen-000000.tar") as tar:
        names = [name.split(".", 1)[1] for name in tar.getnames()]
        text = tar.extractfile(next(name for name in tar.getnames() if name.endswith("json")))
        assert text is not None
        record = json.loads(text.read())
    assert names == ["json", "neg.png", "png", "pos.png"] * 30
    assert set(record["positive"]) == set(record["negative"]) == {"uid", "label"}


def test_killed_while_packing_triplets_it_ends_with_the_same_bytes(tmp_path: Path):
    root = write_photos(tmp_path / "photos", EVEN)
    pack(ImageFolder(root), tmp_path / "whole", PackOptions(samples_per_shard=4), triplets=Siblings())
    out = tmp_path / "killed"
    for shards in (1, 4):
        process = subprocess.Popen([sys.executable, "-c", SLOW, str(root), str(out)], start_new_session=True)
        deadline = time.monotonic() + 60
        while len(list(out.glob("*.index.json"))) < shards and time.monotonic() < deadline:
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        assert not (out / "manifest.json").exists()
    said: list[str] = []
    pack(ImageFolder(root), out, PackOptions(samples_per_shard=4), triplets=Siblings(), say=said.append)
    assert any("were there already and whole: kept" in sentence for sentence in said)
    assert contents(out) == contents(tmp_path / "whole")


def test_a_set_with_triplets_is_its_own_and_damage_is_packed_again(tmp_path: Path):
    root, out = write_photos(tmp_path / "photos", EVEN), tmp_path / "out"
    pack(ImageFolder(root), out, PackOptions(), triplets=Siblings())
    before = contents(out)
    (out / "train-seen-000000.tar").write_bytes(b"x")
    pack(ImageFolder(root), out, PackOptions(), triplets=Siblings())
    assert contents(out) == before
    with pytest.raises(UserError, match="made from other pictures or options"):
        pack(ImageFolder(root), out, PackOptions())
    pack_or_compare(ImageFolder(root), out, PackOptions())  # the pictures and options are those that it was made of
    touch(root, "train/Owl/Jade Owl/new.jpg")
    with pytest.raises(UserError, match="have changed"):
        pack_or_compare(ImageFolder(root), out, None)


def test_the_pictures_that_lack_a_partner_are_said_and_none_at_all_is_refused(tmp_path: Path):
    root = write_photos(tmp_path / "photos", {"Amber Finch": 3, "Azure Finch": 1, "Jade Owl": 2})
    said: list[str] = []
    manifest = pack(ImageFolder(root), tmp_path / "out", triplets=Siblings(), say=said.append)
    assert "1 of 6 pictures to train on have no positive, those of 'Azure Finch' (1)" in said
    assert "2 of 6 pictures to train on have no negative, those of 'Jade Owl' (2)" in said
    assert (manifest.notes["with a positive"], manifest.notes["with a negative"]) == (5, 4)
    single = write_photos(tmp_path / "single", dict.fromkeys(FAMILY, 1))
    with pytest.raises(UserError, match="need a positive, but none of 6 pictures"):
        pack(ImageFolder(single), tmp_path / "none", triplets=Siblings())


def test_what_changes_in_training_is_not_frozen(tmp_path: Path):
    root = write_photos(tmp_path / "photos", EVEN)
    with pytest.raises(UserError, match="cannot follow what a policy confuses, which OnlineConfusion does"):
        pack(ImageFolder(root), tmp_path / "out", triplets=OnlineConfusion())


def test_a_partner_that_cannot_be_read_refuses_its_anchor_by_name(tmp_path: Path):
    root = write_photos(tmp_path / "photos", EVEN)
    bad = root / "train/Owl/Jade Owl/0.png"
    bad.write_bytes(bad.read_bytes()[:60])
    with pytest.raises(UserError, match="was packed but not accepted"):
        pack(ImageFolder(root), tmp_path / "out", triplets=Siblings())
    refused = read_manifest(tmp_path / "out").refused
    assert len(refused) > 1
    others = [one.reason for one in refused if not one.sample.endswith("Jade Owl/0.png")]
    assert all("tive cannot be used: train/Owl/Jade Owl/0.png must be" in reason for reason in others)


def record(data: bytes, positive: bytes, negative: tuple[bytes, ...]) -> Record:
    partners = (PartnerRecord("p", "Robin", lambda: (positive,)), PartnerRecord("n", "", lambda: negative))
    return Record("a", "Robin", ("Robin",), "train", None, lambda: data, {}, "", *partners)


def test_the_very_same_picture_is_left_out_and_noted():
    data = jpeg(1)
    stored = stored_partners(record(data, data, (jpeg(2), jpeg(3))), data)
    assert list(stored.members) == ["neg.jpg", "neg.1.jpg"]
    assert stored.notes == ["positive left out: the very same picture", "with a negative"]
    assert [one.view for one in stored.entries] == ["neg"]
    with pytest.raises(SampleError, match="a: its negative cannot be used: n must hold an image, but it holds none"):
        stored_partners(record(data, jpeg(2), ()), data)
    with pytest.raises(SampleError, match="a: its positive cannot be used: p must be"):
        stored_partners(record(data, b"no image", ()), data)


def test_several_views_of_a_partner_come_in_their_order(tmp_path: Path):
    class Views(ImageFolder):
        def records(self):
            for number, one in enumerate(super().records()):
                assert isinstance(one, Record)
                views = tuple(jpeg(100 * number + view + 1) for view in range(12))
                yield Record(
                    one.name, one.label, one.path, "train", None, one.load, {"positive": "a column of the table"}, "",
                    None, PartnerRecord(f"n{number}", "", lambda views=views: views),
                )  # fmt: skip

    root = touch(tmp_path / "in", "a/1.jpg", "b/2.jpg")
    pack(Views(root), tmp_path / "out")
    whole = ShardSet(tmp_path / "out", "train", ("seen",))
    for example in map(whole.read, range(2)):
        assert example.negative is not None
        assert len(example.images) == 1
        assert example.negative.images in [tuple(jpeg(100 * n + view + 1) for view in range(12)) for n in range(2)]
        assert (example.negative.label, example.positive) == ("", None)
        assert example.extra["positive"] == "a column of the table"
    (shard,) = load_manifest(tmp_path / "out").shards
    assert load_index(tmp_path / "out", shard)[0].partners[0].label == ""


@pytest.mark.parametrize(("positive", "negative", "reason"), [
    ("Robin", "Wren", None),
    ("", "", None),
    ("Robin", "Robin", "its negative must be of another class, but n is of its own, 'Robin'"),
    ("Wren", "Wren", "its positive must be of its own class, but p is of 'Wren'"),
])  # fmt: skip
def test_partners_of_the_wrong_class_are_refused(tmp_path: Path, positive: str, negative: str, reason: str | None):
    class Odd(ImageFolder):
        def records(self):
            for number, one in enumerate(super().records()):
                assert isinstance(one, Record)
                if number:
                    yield one
                    continue
                partners = (
                    PartnerRecord("p", positive, lambda: (jpeg(7),)),
                    PartnerRecord("n", negative, lambda: (jpeg(8),)),
                )
                yield Record(one.name, one.label, one.path, "train", None, one.load, {}, "", *partners)

    root = touch(tmp_path / "in", "Robin/1.jpg", "Robin/2.jpg", "Wren/3.jpg")
    manifest = pack(Odd(root), tmp_path / "out", max_bad_share=1.0)
    assert [one.reason for one in manifest.refused] == ([] if reason is None else [reason])
    if reason is None:
        with pytest.raises(UserError, match="the source has triplets of its own"):
            pack(Odd(root), tmp_path / "again", triplets=Siblings())


def test_a_picture_under_two_labels_or_met_twice_is_frozen_beside_nobody_of_its_own(tmp_path: Path):
    root = write_photos(tmp_path / "photos", EVEN)
    finches = root / "train/Finch"
    shared = (finches / "Amber Finch/0.png").read_bytes()
    (finches / "Azure Finch/0.png").write_bytes(shared)
    (finches / "Amber Finch/1.png").write_bytes((finches / "Amber Finch/2.png").read_bytes())
    said: list[str] = []
    for seed in range(5):
        out = tmp_path / f"out{seed}"
        pack(ImageFolder(root), out, PackOptions(seed), triplets=Siblings(), say=said.append)
        whole = ShardSet(out, "train", ("seen",))
        for example in map(whole.read, range(len(whole))):
            assert example.positive is not None
            assert example.negative is not None
            assert shared not in (example.positive.images[0], example.negative.images[0])
            assert example.positive.images[0] != example.images[0]
    assert "1 pictures stand under two labels and are nobody's partner" in said
