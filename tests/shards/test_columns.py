import hashlib
import logging
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy_stream import LABELS, write_set

from fgvr.shards.columns import HEAD, ROW, ROWS, all_pictures, columns_fit, open_columns, write_columns
from fgvr.shards.files import OpenFiles
from fgvr.shards.manifest import dump_index, load_index, load_manifest, parse_index, save_manifest
from fgvr.shards.part import part_of
from fgvr.shards.reading import ShardSet

SIZES = {"train-seen": [5, 3], "val-seen": [4]}


def with_pictures(folder: Path) -> Path:
    """Gives every sample of a set a picture's hash: that of its key."""
    manifest = load_manifest(folder)
    shards = []
    for shard in manifest.shards:
        index = parse_index(folder / shard.index_file, (folder / shard.index_file).read_bytes())
        samples = [replace(one, picture=hashlib.sha256(one.key.encode()).hexdigest()) for one in index.samples]
        data = dump_index(replace(index, samples=tuple(samples)))
        (folder / shard.index_file).write_bytes(data)
        shards.append(replace(shard, index_sha256=hashlib.sha256(data).hexdigest()))
    save_manifest(replace(manifest, shards=tuple(shards)), folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = with_pictures(write_set(tmp_path_factory.mktemp("set") / "birds", SIZES))
    assert write_columns(folder, load_manifest(folder))
    return folder


def copied(folder: Path, to: Path) -> Path:
    to.mkdir()
    for file in folder.iterdir():
        (to / file.name).write_bytes(file.read_bytes())
    return to


def columns_of(folder: Path):
    return open_columns(OpenFiles(folder), load_manifest(folder))


def test_a_row_by_hand(folder: Path):
    shard = load_manifest(folder).shards[0]
    text = (folder / shard.index_file).read_bytes()
    number, at, size, _, picture = ROW.unpack((folder / ROWS).read_bytes()[2 * ROW.size : 3 * ROW.size])
    assert text[at : at + size].startswith(b'{"height":0,"key":"s00002","label":"Jade Owl","members":[["s00002.json"')
    assert text[at : at + size].endswith(b'"width":0}')
    assert (number, picture) == (2, hashlib.sha256(b"s00002").digest())  # the third label to appear
    assert (folder / ROWS).stat().st_size == 12 * 52  # 4 + 8 + 4 + 4 + 32 bytes each


def test_columns_and_indexes_say_the_same_of_every_sample(folder: Path, tmp_path: Path):
    without = copied(folder, tmp_path / "without")
    (without / HEAD).unlink()
    for split in ("train", "val"):
        short, long = (ShardSet(place, split, ("seen",)) for place in (folder, without))
        numbers = range(len(long))
        assert [short.read(number) for number in numbers] == [long.read(number) for number in numbers]
        assert not short._indexes, "no index was read as a whole"
        assert long._indexes
        assert [short.uid(number) for number in numbers] == [long.uid(number) for number in numbers]
        assert short.labels() == long.labels() == [entry.label for entry in long.entries()]
        assert short.fingerprint == long.fingerprint
        assert part_of(short, 3, 1).numbers == part_of(long, 3, 1).numbers
    shards = load_manifest(folder).shards
    every = [entry.picture for shard in shards for entry in load_index(folder, shard)]
    found = all_pictures(folder, load_manifest(folder), shards)
    assert found is not None
    assert found.tolist() == sorted(int.from_bytes(bytes.fromhex(picture)[:8], "little") for picture in every)
    assert all_pictures(without, load_manifest(without), shards) is None


def test_a_copy_in_another_process_reads_on(folder: Path):
    shard_set = ShardSet(folder, "train", ("seen",))
    first = shard_set.read(0)
    again = pickle.loads(pickle.dumps(shard_set))
    assert again.read(0) == first
    shard_set.close()
    assert shard_set.read(1).uid == "s00001"


@given(st.data())
def test_no_damaged_byte_gives_another_sample(folder: Path, tmp_path_factory: pytest.TempPathFactory, data):
    place = copied(folder, tmp_path_factory.mktemp("damaged") / "set")
    name = data.draw(st.sampled_from([HEAD, ROWS]))
    content = bytearray((place / name).read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] ^= 1 << data.draw(st.integers(0, 7))
    (place / name).write_bytes(content)
    damaged, whole = (ShardSet(one, "train", ("seen",)) for one in (place, folder))
    assert [damaged.read(number) for number in range(8)] == [whole.read(number) for number in range(8)]
    assert damaged.labels() == whole.labels()
    assert not columns_fit(place, load_manifest(place))


def test_a_damaged_index_costs_only_what_is_damaged(folder: Path, tmp_path: Path):
    place = copied(folder, tmp_path / "set")
    index = place / "train-seen-000000.index.json"
    text = index.read_bytes()
    index.write_bytes(text.replace(b'"key":"s00003"', b'"key":"s00009"'))
    shard_set = ShardSet(place, "train", ("seen",))
    assert [shard_set.uid(number) for number in range(8)] == [
        "s00000", "s00001", "s00002", "train-seen-000000.tar[3]", "s00004", "s00005", "s00006", "s00007",
    ]  # fmt: skip


@pytest.mark.parametrize("how", ["cut short", "of other indexes", "of another version", "no rows"])
def test_columns_that_do_not_belong_are_told_and_not_used(folder: Path, tmp_path: Path, caplog, how: str):
    place = copied(folder, tmp_path / "set")
    if how == "cut short":
        (place / ROWS).write_bytes((place / ROWS).read_bytes()[:-1])
    elif how == "of other indexes":
        with_pictures(write_set(place, {"train-seen": [8], "val-seen": [4]}))
    elif how == "no rows":
        (place / ROWS).unlink()
    else:
        (place / HEAD).write_bytes((place / HEAD).read_bytes().replace(b'"format":1', b'"format":2'))
    with caplog.at_level(logging.WARNING):
        assert columns_of(place) is None
    assert "the indexes are read in its place" in caplog.text
    assert len(ShardSet(place, "train", ("seen",)).labels()) == 8


def test_indexes_in_another_spelling_have_no_columns(folder: Path, tmp_path: Path):
    place = copied(folder, tmp_path / "set")
    manifest = load_manifest(place)
    shard = manifest.shards[0]
    data = (place / shard.index_file).read_bytes().replace(b'"width":0', b'"width": 0')
    (place / shard.index_file).write_bytes(data)
    other = replace(shard, index_sha256=hashlib.sha256(data).hexdigest())
    manifest = replace(manifest, shards=(other, *manifest.shards[1:]))
    save_manifest(manifest, place)
    assert not write_columns(place, manifest)
    assert not {HEAD, ROWS} & {file.name for file in place.iterdir()}
    assert ShardSet(place, "train", ("seen",)).labels() == [LABELS[number % 4] for number in range(8)]


def test_pictures_without_a_hash_are_left_out(tmp_path: Path):
    folder = write_set(tmp_path / "set", SIZES)
    manifest = load_manifest(folder)
    write_columns(folder, manifest)
    found = all_pictures(folder, manifest, manifest.shards)
    assert found is not None
    assert found.dtype == np.uint64
    assert not len(found)
