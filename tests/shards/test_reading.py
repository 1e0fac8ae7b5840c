import dataclasses
import json
import os
import pickle
import tarfile
from pathlib import Path

import pytest
from toy_stream import LABELS, TAXONOMY, picture, write_set

from fgvr.errors import SampleError, UserError
from fgvr.shards.manifest import load_index, load_manifest, save_manifest
from fgvr.shards.reading import ShardSet, open_shard_writer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_set(tmp_path / "set", {"train-seen": [4, 6], "val-seen": [3], "val-unseen": [2]})


def overwrite(file: Path, offset: int, data: bytes) -> None:
    with file.open("r+b") as stream:
        stream.seek(offset)
        stream.write(data)


def member(folder: Path, number: int, suffix: str):
    samples = [
        entry for shard in load_manifest(folder).select("train", ("seen",)) for entry in load_index(folder, shard)
    ]
    return next(part for part in samples[number].members if part.name.endswith(suffix))


def test_writer_is_deterministic_and_an_ordinary_tar(tmp_path):
    members = {"json": b"{}", "png": b"x" * 513, "1.png": b""}
    for name in ("a.tar", "b.tar"):
        with open_shard_writer(tmp_path / name) as writer:
            first = writer.write("k1", members)
            second = writer.write("k2", {"json": b"12345"})
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()
    assert sorted(tmp_path.iterdir()) == [tmp_path / "a.tar", tmp_path / "b.tar"]
    with tarfile.open(tmp_path / "a.tar") as tar:
        told = [(entry.name, entry.offset, entry.size) for entry in (*first, *second)]
        assert told == [(info.name, info.offset_data, info.size) for info in tar.getmembers()]


def test_writer_leaves_nothing_when_it_fails(tmp_path):
    with pytest.raises(ValueError, match="must be bytes"), open_shard_writer(tmp_path / "a.tar") as writer:
        writer.write("k", {"json": "{}"})  # pyright: ignore[reportArgumentType]
    assert list(tmp_path.iterdir()) == []


def test_reads_every_sample_as_written(folder):
    shard_set = ShardSet(folder, "train", ("seen", "base"))
    assert len(shard_set) == 10
    assert shard_set.shard_sizes == (4, 6)
    assert shard_set.taxonomy == TAXONOMY
    for number in (9, 0, 5, 3, 4):
        example = shard_set.read(number)
        assert example.uid == shard_set.uid(number) == f"s{number:05d}"
        assert example.images == (picture(number),)
        assert example.label == shard_set.labels()[number] == LABELS[number % 4] == example.path[-1]
        assert (example.split, example.cohort, example.dataset) == ("train", "seen", "s")
        assert example.extra == {"number": number}
    with pytest.raises(IndexError):
        shard_set.read(10)


def test_images_come_photo_first_then_by_number(tmp_path):
    from fgvr.shards.reading import _image_rank

    suffixes = ["10.jpg", "wing.jpg", "2.png", "webp", "tail.jpg"]
    assert sorted(suffixes, key=_image_rank) == ["webp", "2.png", "10.jpg", "tail.jpg", "wing.jpg"]


def test_a_copy_opens_its_own_files(folder):
    shard_set = ShardSet(folder, "train", ("seen",))
    first = shard_set.read(0)
    copy = pickle.loads(pickle.dumps(shard_set))
    shard_set.close()
    assert copy.read(0) == first == shard_set.read(0)


def test_flipped_bit_is_found_in_each_member_and_nothing_else_is_lost(folder):
    for number, suffix in ((1, "png"), (6, "json")):
        entry = member(folder, number, suffix)
        overwrite(next(folder.glob(f"train-seen-00000{number // 4}.tar")), entry.offset + 3, b"\x00")
    shard_set = ShardSet(folder, "train", ("seen",))
    bad = {}
    for number in range(10):
        try:
            shard_set.read(number)
        except SampleError as error:
            bad[number] = str(error)
    assert set(bad) == {1, 6}
    assert "train-seen-000000.tar, s00001.png" in bad[1]
    assert "train-seen-000001.tar, s00006.json" in bad[6]


def test_destroyed_headers_do_not_matter(folder):
    """webdataset alone would end here without a word; the index knows where the data is."""
    overwrite(folder / "train-seen-000000.tar", 0, bytes(512))
    assert [ShardSet(folder, "train", ("seen",)).read(n).uid for n in range(4)] == [f"s{n:05d}" for n in range(4)]


def test_shard_cut_at_a_member_border(folder):
    cut = member(folder, 2, "json").offset - 512
    os.truncate(folder / "train-seen-000000.tar", cut)
    with pytest.raises(UserError, match=r"2 of 10 samples are not there.*train-seen-000000.tar \(\d+ of \d+ bytes\)"):
        ShardSet(folder, "train", ("seen",))
    shard_set = ShardSet(folder, "train", ("seen",), max_bad_share=0.2)
    assert shard_set.read(1).uid == "s00001"
    for number in (2, 3):
        with pytest.raises(SampleError, match="the shard ends before"):
            shard_set.read(number)
    assert shard_set.read(4).uid == "s00004"


def test_missing_shard_and_damaged_index(folder):
    (folder / "train-seen-000000.tar").unlink()
    with pytest.raises(UserError, match="4 of 10 samples"):
        ShardSet(folder, "train", ("seen",))
    shard_set = ShardSet(folder, "train", ("seen",), max_bad_share=1)
    with pytest.raises(SampleError, match=r"train-seen-000000.tar: the shard cannot be read \(No such file"):
        shard_set.read(0)
    overwrite(folder / "train-seen-000001.index.json", 30, b"!")
    with pytest.raises(SampleError, match=r"train-seen-000001.tar\[0\].*hash"):
        shard_set.read(4)
    assert shard_set.uid(4) == "train-seen-000001.tar[0]"


def test_shard_that_vanishes_and_returns(folder):
    shard_set = ShardSet(folder, "train", ("seen",))
    shard_set.read(0)
    for descriptor in shard_set._files._open.values():
        os.close(descriptor)  # as a stale handle of a network disk
    assert shard_set.read(0).uid == "s00000"


def test_nothing_to_read_is_refused(folder):
    with pytest.raises(UserError, match="no test samples of seen"):
        ShardSet(folder, "test", ("seen",))
    with pytest.raises(UserError, match="is not one"):
        ShardSet(folder / "nowhere", "train", ("seen",))


def test_a_shard_outside_the_folder_is_never_opened(folder, tmp_path):
    manifest = load_manifest(folder)
    elsewhere = dataclasses.replace(manifest.shards[0], file="../elsewhere.tar")
    save_manifest(dataclasses.replace(manifest, shards=(elsewhere,)), folder)
    with pytest.raises(UserError, match="elsewhere"):
        ShardSet(folder, "train", ("seen",), max_bad_share=1)


WHOLE = {"uid": "k", "label": "owl", "path": ["owl"], "split": "train", "cohort": "seen", "dataset": "d"}


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (b"{", "not readable"),
        (b"\xff{}", "not readable"),
        (b"[" * 100_000, "not readable"),
        (b'{"n": ' + b"1" * 5000 + b"}", "not readable"),
        (json.dumps({**WHOLE, "x": float("nan")}).encode(), "NaN"),
        (b"[]", "'uid'"),
        (json.dumps({**WHOLE, "path": "owl"}).encode(), "'path'"),
        (json.dumps({**WHOLE, "path": []}).encode(), "'path'"),
        (json.dumps({**WHOLE, "path": ["finch"]}).encode(), "does not end in the label"),
        (b" " * (1 << 20) + b"{}", "may have"),
    ],
)
def test_bad_json_is_one_bad_sample(text, named):
    from fgvr.shards.reading import _parse

    with pytest.raises(SampleError, match=f"a.tar, k.json.*{named}"):
        _parse(memoryview(text), "a.tar, k.json")
