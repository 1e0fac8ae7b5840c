import hashlib
import json
from dataclasses import asdict, replace

import pytest

from fgvr.errors import UserError
from fgvr.shards.manifest import (
    Leak,
    Manifest,
    MemberEntry,
    Refusal,
    SampleEntry,
    ShardIndex,
    ShardInfo,
    canonical_json,
    dump_index,
    load_index,
    load_manifest,
    parse_index,
    save_manifest,
)

SHARD = ShardInfo("train-seen-000000.tar", "train-seen-000000.index.json", "train", "seen", 3, 10, "ab", "cd")
MANIFEST = Manifest(
    format=1,
    dataset="birds",
    source={"kind": "ImageFolder"},
    seed=0,
    options={"max_bad_share": 0.001},
    taxonomy={"root": "bird", "ranks": ["species"], "paths": {"wren": ["wren"]}, "synonyms": {}},
    cohorts={"wren": "seen"},
    counts={"train": {"wren": 3}, "val": {"wren": 2}},
    shards=(SHARD, replace(SHARD, file="val-seen-000000.tar", index_file="val-seen-000000.index.json", split="val")),
    refused=(Refusal("a.jpg", "a.jpg", "must be an image, but it is empty"),),
    notes={"turned upright": 1},
    image_pixels={"width": [1, 2, 3], "height": [1, 2, 3]},
    leaks=(Leak("00", ("train/a", "val/b")),),
    plan="11",
)
INDEX = ShardIndex(
    "11", SHARD.file, 10, "ab", (SampleEntry("k", "wren", (MemberEntry("k.jpg", 512, 7, 9),), "ff", 4, 5),)
)


def test_manifest_and_index_come_back_as_they_were_written(tmp_path):
    save_manifest(MANIFEST, tmp_path)
    assert load_manifest(tmp_path) == MANIFEST
    data = dump_index(INDEX)
    assert parse_index(tmp_path / "x", data) == INDEX
    (tmp_path / SHARD.index_file).write_bytes(data)
    assert load_index(tmp_path, replace(SHARD, index_sha256=hashlib.sha256(data).hexdigest())) == INDEX.samples


def test_select_and_count():
    assert [shard.file for shard in MANIFEST.select("val", ["seen", "unseen"])] == ["val-seen-000000.tar"]
    assert MANIFEST.samples("train", ("seen",)) == 3
    assert MANIFEST.samples("train", ("unseen",)) == 0


def test_the_fingerprint_follows_the_data_and_nothing_else():
    same = replace(MANIFEST, notes={}, options={}, leaks=())
    assert same.fingerprint() == MANIFEST.fingerprint()
    other = replace(MANIFEST, shards=(replace(SHARD, sha256="ac"), *MANIFEST.shards[1:]))
    assert other.fingerprint() != MANIFEST.fingerprint()
    assert replace(MANIFEST, taxonomy={}).fingerprint() != MANIFEST.fingerprint()


def test_a_set_that_was_not_accepted_is_refused_with_names_and_the_option(tmp_path):
    save_manifest(replace(MANIFEST, accepted=False), tmp_path)
    with pytest.raises(UserError, match=r"a\.jpg: must be an image.*--max_bad_share 0\.143"):  # 1 of 7, rounded up
        load_manifest(tmp_path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "must be JSON as it was written, but Expecting value"),
        ("[" * 100_000, "must be JSON as it was written, but it is nested too deeply"),
        ("[]", "must be JSON as it was written, but it holds list, not an object"),
        ('{"format": 99}', "has format 99"),
        ('{"format": 1}', "lacks or misnames a field"),
    ],
)
def test_what_is_no_manifest_is_refused(tmp_path, text, words):
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(UserError, match=words):
        load_manifest(tmp_path)


@pytest.mark.parametrize("name", ["../../etc/passwd", "/train-seen-000000.tar", "pipe:ls", "train-seen-000000.tar\n"])
def test_a_manifest_cannot_name_files_elsewhere(tmp_path, name):
    save_manifest(replace(MANIFEST, shards=(replace(SHARD, file=name),)), tmp_path)
    with pytest.raises(UserError, match="a shard is called like"):
        load_manifest(tmp_path)


def test_a_set_whose_packing_was_killed_is_told_from_what_is_no_set(tmp_path):
    (tmp_path / "photo.jpg").write_bytes(b"")
    with pytest.raises(UserError, match=r"but .* has neither: give the folder that `python -m fgvr shards` wrote to"):
        load_manifest(tmp_path)
    for name in ("train-seen-000000.tar.part", "train-seen-000000.tar"):  # killed in its first shard, or later
        (tmp_path / name).write_bytes(b"")
        with pytest.raises(UserError, match="has none: its packing was not finished"):
            load_manifest(tmp_path)
        (tmp_path / name).unlink()


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(UserError, match="nowhere is not one"):
        load_manifest(tmp_path / "nowhere")


def test_one_flipped_bit_in_an_index_is_found(tmp_path):
    data = bytearray(dump_index(INDEX))
    shard = replace(SHARD, index_sha256=hashlib.sha256(data).hexdigest())
    for place in range(0, len(data), 7):
        changed = bytearray(data)
        changed[place] ^= 1
        (tmp_path / SHARD.index_file).write_bytes(changed)
        with pytest.raises(UserError, match="does not have the hash"):
            load_index(tmp_path, shard)
    (tmp_path / SHARD.index_file).unlink()
    with pytest.raises(UserError, match="must be readable"):
        load_index(tmp_path, shard)


@pytest.mark.parametrize("data", [b"", b"{}", b"[1]", b'{"samples": 1}', b"[" * 100_000])
def test_what_is_no_index_is_refused(tmp_path, data):
    with pytest.raises(UserError, match="must be the index of a shard"):
        parse_index(tmp_path / "x", data)


def test_a_flipped_bit_in_any_byte_of_a_manifest_is_noticed(tmp_path):
    save_manifest(MANIFEST, tmp_path)
    file = tmp_path / "manifest.json"
    data = file.read_bytes()
    for place in range(len(data)):
        changed = bytearray(data)
        changed[place] ^= 1 << place % 8
        file.write_bytes(changed)
        with pytest.raises(
            UserError, match=r"manifest\.json must be JSON as it was written, but .*: copy it again, or"
        ):
            load_manifest(tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"split": "trcin"}, "trcin-seen with 3 samples, which cannot be"),
        ({"cohort": "unseen"}, "train-unseen with 3 samples, which cannot be"),
        ({"samples": -3}, "with -3 samples, which cannot be"),
        ({"file": "trcin-seen-000000.tar"}, "a shard is called like"),
    ],
)
def test_a_manifest_without_a_digest_is_checked_against_its_schema(tmp_path, change, words):
    older = json.loads(canonical_json(asdict(MANIFEST)))
    (tmp_path / "manifest.json").write_bytes(canonical_json(older))
    assert load_manifest(tmp_path) == MANIFEST
    older["shards"][0] |= change
    (tmp_path / "manifest.json").write_bytes(canonical_json(older))
    with pytest.raises(UserError, match=words):
        load_manifest(tmp_path)
    (tmp_path / "manifest.json").write_bytes(canonical_json(older | {"shards": [], "taxonomy": "bird"}))
    with pytest.raises(UserError, match="must hold an object under taxonomy"):
        load_manifest(tmp_path)


def test_canonical_json_has_one_spelling():
    assert canonical_json({"b": 1, "a": "é"}) == b'{"a":"\\u00e9","b":1}\n'
    with pytest.raises(ValueError, match="JSON"):
        canonical_json(float("nan"))
