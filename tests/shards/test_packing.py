import hashlib
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import zlib
from pathlib import Path

import pytest
from hostile import REFUSED, animated, jpeg, photo, turned, write_folder
from PIL import Image
from sourced import touch

from fgvr.errors import SampleError, UserError
from fgvr.shards.manifest import canonical_json, load_index, load_manifest, read_manifest
from fgvr.shards.packing import pack
from fgvr.shards.plan import PackOptions
from fgvr.shards.reading import ShardSet
from fgvr.sources import CSV, ImageFolder
from fgvr.sources.base import Record, Source
from fgvr.taxonomy.tree import Taxonomy

SLOW = """
import sys, time
from fgvr.shards import packing
from fgvr.shards.plan import PackOptions
from fgvr.sources.image_folder import ImageFolder
source, out = sys.argv[1:]
options = PackOptions(samples_per_shard=7)
packing.pack(ImageFolder(source), out, options, progress=lambda done, planned: time.sleep(0.005))
"""

FOREIGN = """
import io, json, sys, PIL.Image, webdataset
found = {}
for name, split in json.load(open(sys.argv[1] + "/_info.json"))["splits"].items():
    urls = [sys.argv[1] + "/" + file for file in split["filenames"]]
    found[name] = [
        (sample["__key__"], json.loads(sample["json"])["uid"], PIL.Image.open(io.BytesIO(sample["jpg"])).mode)
        for sample in webdataset.WebDataset(urls, shardshuffle=False)
    ]
print(json.dumps(found))
"""


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


def test_what_is_packed_is_what_is_streamed_back(tmp_path):
    root = write_folder(tmp_path / "birds", 5, 12)
    told: list[tuple[int, int]] = []
    manifest = pack(
        ImageFolder(root),
        tmp_path / "out",
        PackOptions(unseen=1, samples_per_shard=9),
        progress=lambda *step: told.append(step),
    )
    assert manifest == load_manifest(tmp_path / "out")
    assert told[-1] == (60, 60)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    originals = {file.read_bytes(): file.parent.name for file in root.glob("*/*.jpg")}
    seen: list[bytes] = []
    for split, cohort in {(shard.split, shard.cohort) for shard in manifest.shards}:
        stream = ShardSet(tmp_path / "out", split, (cohort,))
        for number in range(len(stream)):
            example = stream.read(number)
            assert originals[example.images[0]] == example.label
            assert (example.split, example.cohort, example.dataset) == (split, cohort, "birds")
            assert manifest.cohorts[example.label] == cohort
            seen.append(example.images[0])
    assert sorted(seen) == sorted(originals)
    assert {split: sum(labels.values()) for split, labels in manifest.counts.items()} == {
        split: manifest.samples(split, ["seen", "unseen"]) for split in ("train", "val", "test")
    }
    assert manifest.image_pixels == {"width": [24, 28, 32], "height": [16, 19, 22]}


def test_the_index_leads_to_every_member(tmp_path):
    manifest = pack(ImageFolder(write_folder(tmp_path / "in", 2, 6)), tmp_path / "out")
    for shard in manifest.shards:
        data = (tmp_path / "out" / shard.file).read_bytes()
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            inside = {member.name: (member.offset_data, member.size) for member in tar}
        entries = [member for sample in load_index(tmp_path / "out", shard) for member in sample.members]
        assert {entry.name: (entry.offset, entry.size) for entry in entries} == inside
        for entry in entries:
            assert zlib.crc32(data[entry.offset : entry.offset + entry.size]) == entry.crc32


def test_plain_webdataset_and_timms_info_agree_with_the_manifest(tmp_path):
    manifest = pack(
        ImageFolder(write_folder(tmp_path / "in", 3, 8)), tmp_path / "out", PackOptions(unseen=1, samples_per_shard=5)
    )
    info = json.loads((tmp_path / "out/_info.json").read_text())["splits"]
    assert set(info) == {"train-seen", "val-seen", "val-unseen", "test-seen", "test-unseen"}
    read = json.loads(
        subprocess.run([sys.executable, "-c", FOREIGN, str(tmp_path / "out")], capture_output=True).stdout
    )
    for name, split in info.items():
        assert split["name"] == name
        assert split["num_samples"] == sum(split["shard_lengths"])
        shards = [shard for shard in manifest.shards if shard.file in split["filenames"]]
        keys = [sample.key for shard in shards for sample in load_index(tmp_path / "out", shard)]
        assert read[name] == [[key, key, "RGB"] for key in keys]


def test_the_same_pictures_give_the_same_bytes(tmp_path):
    root = write_folder(tmp_path / "a" / "birds", 3, 6)
    pack(ImageFolder(root), tmp_path / "one", PackOptions(unseen=1, k_shot=2))
    twin = tmp_path / "b" / "birds"
    for file in sorted(root.glob("*/*.jpg"), reverse=True):  # made in another order, at another time
        copy = twin / file.relative_to(root)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(file.read_bytes())
        os.utime(copy, (1, 1))
    pack(ImageFolder(twin), tmp_path / "two", PackOptions(unseen=1, k_shot=2))
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def start(root: Path, out: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", SLOW, str(root), str(out)], start_new_session=True)


def kill_when(process: subprocess.Popen[bytes], out: Path, indexes: int, seconds: float) -> bool:
    """Kills the process a moment after so many shards have their index; False when it ended before."""
    while process.poll() is None and len(list(out.glob("*.index.json"))) < indexes:
        time.sleep(0.001)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return True
    return False


def test_killed_at_any_moment_it_goes_on_and_ends_with_the_same_bytes(tmp_path):
    root, out = write_folder(tmp_path / "birds", 5, 20), tmp_path / "killed"
    pack(ImageFolder(root), tmp_path / "whole", PackOptions(samples_per_shard=7))
    for indexes, seconds in ((1, 0.01), (5, 0.02), (9, 0.0)):
        assert kill_when(start(root, out), out, indexes, seconds)
        assert not (out / "manifest.json").exists()
        assert len(list(out.glob("*.index.json"))) >= indexes
    assert start(root, out).wait(60) == 0
    assert contents(out) == contents(tmp_path / "whole")


def test_killed_between_any_two_files_it_ends_with_the_same_bytes(tmp_path):
    source = ImageFolder(write_folder(tmp_path / "birds", 2, 10))
    pack(source, tmp_path / "whole", PackOptions(samples_per_shard=6))
    whole = contents(tmp_path / "whole")
    written = sorted(
        whole, key=lambda name: (name.startswith(("manifest", "_info")), (tmp_path / "whole" / name).stat().st_mtime_ns)
    )
    for count in range(len(written)):
        out = tmp_path / f"cut{count}"
        out.mkdir()
        for name in written[:count]:
            (out / name).write_bytes(whole[name])
        (out / f"{written[count]}.part").write_bytes(whole[written[count]][:100])
        (out / f".{written[count]}.4321.part").write_bytes(b"")
        pack(source, out, PackOptions(samples_per_shard=6))
        assert contents(out) == whole


def test_two_packings_of_one_folder_take_turns(tmp_path):
    root = write_folder(tmp_path / "birds", 3, 10)
    both = [start(root, tmp_path / "out") for _ in range(2)]
    assert [process.wait(60) for process in both] == [0, 0]
    pack(ImageFolder(root), tmp_path / "alone", PackOptions(samples_per_shard=7))
    assert contents(tmp_path / "out") == contents(tmp_path / "alone")


def test_a_shard_that_was_damaged_is_written_again_and_the_others_kept(tmp_path):
    source = ImageFolder(write_folder(tmp_path / "birds", 3, 10))
    pack(source, tmp_path / "out", PackOptions(samples_per_shard=6))
    before = contents(tmp_path / "out")
    victim = tmp_path / "out/train-seen-000001.tar"
    kept = (tmp_path / "out/train-seen-000000.tar").stat().st_mtime_ns
    victim.write_bytes(before[victim.name][:-700])
    said: list[str] = []
    pack(source, tmp_path / "out", PackOptions(samples_per_shard=6), say=said.append)
    assert contents(tmp_path / "out") == before
    assert (tmp_path / "out/train-seen-000000.tar").stat().st_mtime_ns == kept
    assert said == [
        f"damaged or missing, so packed again: {victim.name}",
        f"{len(list(tmp_path.glob('out/*.tar'))) - 1} of 6 shards were there already and whole: kept",
    ]


def test_a_whole_set_is_left_alone_and_another_is_not_mixed_in(tmp_path):
    source, out = ImageFolder(write_folder(tmp_path / "birds", 3, 10)), tmp_path / "out"
    first = pack(source, out)
    said: list[str] = []
    assert pack(source, out, say=said.append) == first
    assert said == [f"{out} holds this shard set already, whole: nothing to do"]
    before = contents(out)
    with pytest.raises(UserError, match=r"made from other pictures or options.*set overwrite"):
        pack(source, out, PackOptions(samples_per_shard=4))
    assert contents(out) == before
    again = pack(source, out, PackOptions(samples_per_shard=4), overwrite=True)
    assert load_manifest(out) == again
    pack(source, tmp_path / "fresh", PackOptions(samples_per_shard=4))
    assert contents(out) == contents(tmp_path / "fresh")


def test_a_folder_with_something_else_in_it_is_refused(tmp_path):
    source, out = ImageFolder(write_folder(tmp_path / "birds", 2, 4)), tmp_path / "out"
    out.mkdir()
    (out / "thesis.tex").write_text("x")
    (out / "movie.part").write_text("x")
    with pytest.raises(UserError, match=r"it holds movie\.part"):
        pack(source, out)
    pack(source, out, overwrite=True)
    assert (out / "thesis.tex").exists()
    assert (out / "movie.part").exists()
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="out must be a folder"):
        pack(source, tmp_path / "file")
    with pytest.raises(UserError, match="must not lie among the pictures"):
        pack(source, tmp_path / "birds/shards")


def test_hostile_pictures_are_refused_by_name_and_counted(tmp_path):
    root = write_folder(tmp_path / "birds", 3, 10)
    for number, (make, _) in enumerate(REFUSED.values()):
        (root / "class 1" / f"bad{number:02}.jpg").write_bytes(make())
    with pytest.raises(UserError, match=r"class 1/bad00\.jpg: must be an image, but it is empty.*--max_bad_share 0\.3"):
        pack(ImageFolder(root), tmp_path / "out")
    with pytest.raises(UserError, match="not accepted"):
        load_manifest(tmp_path / "out")
    kept = {file.name: file.stat().st_mtime_ns for file in tmp_path.glob("out/*.tar")}
    manifest = pack(ImageFolder(root), tmp_path / "out", max_bad_share=0.5)
    assert {file.name: file.stat().st_mtime_ns for file in tmp_path.glob("out/*.tar")} == kept
    assert [one.sample for one in manifest.refused] == [f"class 1/bad{n:02}.jpg" for n in range(len(REFUSED))]
    assert all(words in one.reason for (_, words), one in zip(REFUSED.values(), manifest.refused, strict=True))
    assert sum(shard.samples for shard in manifest.shards) == 30
    assert load_manifest(tmp_path / "out") == manifest
    with pytest.raises(UserError, match="not accepted"):  # a stricter limit holds for a set that was accepted before
        pack(ImageFolder(root), tmp_path / "out")


def test_a_shard_of_which_nothing_is_left_is_an_empty_shard(tmp_path):
    root = write_folder(tmp_path / "birds", 2, 2)
    for file in root.glob("*/*.jpg"):
        file.write_bytes(b"")
    with pytest.raises(UserError, match="4 of 4 were"):
        pack(ImageFolder(root), tmp_path / "out", max_bad_share=1.0)
    assert {shard.samples for shard in read_manifest(tmp_path / "out").shards} == {0}


def test_odd_pictures_are_mended_and_noted(tmp_path):
    root = write_folder(tmp_path / "birds", 2, 4)
    (root / "class 0/turned.jpg").write_bytes(turned(6))
    (root / "class 0/film.gif").write_bytes(animated("GIF"))
    manifest = pack(ImageFolder(root), tmp_path / "out", PackOptions(val=0, test=0))
    assert dict(manifest.notes) == {
        "turned upright": 1,
        "first frame of an animation": 1,
        "converted from P to RGB": 1,
        "re-encoded": 2,
    }
    stream = ShardSet(tmp_path / "out", "train", ("seen",))
    sizes = {stream.uid(n)[:14]: Image.open(io.BytesIO(stream.read(n).images[0])).size for n in range(len(stream))}
    assert sizes["class-0-turned"] == (32, 48)


def test_the_same_picture_in_two_splits_is_named(tmp_path):
    root = write_folder(tmp_path / "birds", 2, 3, ("train", "val", "test"))
    (root / "test/class 0/copy.jpg").write_bytes((root / "train/class 1/0.jpg").read_bytes())
    (root / "val/class 0/twin.jpg").write_bytes((root / "val/class 0/0.jpg").read_bytes())
    said: list[str] = []
    manifest = pack(ImageFolder(root), tmp_path / "out", say=said.append)
    assert len(manifest.leaks) == 1
    assert [sample.split("/")[0] for sample in manifest.leaks[0].samples] == ["test", "train"]
    assert manifest.notes == {"same picture again in its split": 1, "same picture under two labels": 1}
    assert said[-2:] == [
        "pictures that stand in more than one split, byte for byte: 1; manifest.json names them. What is trained on "
        "measures nothing in a test: keep one file of each and pack again, with overwrite",
        "pictures that stand under more than one label, byte for byte: 1: test/class 0/copy.jpg as 'class 0' and "
        "train/class 1/0.jpg as 'class 1'. Keep the right label: delete the other file, or give both the same label, "
        "and pack again, with overwrite",
    ]


def test_a_list_packs_like_a_folder(tmp_path):
    root = write_folder(tmp_path / "birds", 2, 5)
    rows = [f"{file.relative_to(root)},{file.parent.name},bird" for file in sorted(root.glob("*/*.jpg"))]
    (root / "list.csv").write_text("\n".join(["file,label,group", *rows, "nowhere.jpg,class 1,bird"]))
    manifest = pack(CSV(root / "list.csv", ranks=["group"]), tmp_path / "out", max_bad_share=0.1)
    assert manifest.taxonomy["paths"]["class 1"] == ["bird", "class 1"]
    assert [str(one) for one in manifest.refused] == ["nowhere.jpg: must be a file, but there is none"]
    example = ShardSet(tmp_path / "out", "train", ("seen",)).read(0)
    assert example.path == ("bird", example.label)


def test_what_is_about_to_be_packed_is_said_first(tmp_path):
    root = touch(tmp_path / "cars", *(f"{make}/{make} {n}/{p}.jpg" for make in "ab" for n in range(3) for p in (1, 2)))
    (root / "a/a 9").mkdir()
    said: list[str] = []
    pack(ImageFolder(root, ranks=["make", "model"]), tmp_path / "out", say=said.append)
    assert said[:3] == [
        "cars: 12 pictures of 6 classes to pack; ranks, coarse to fine: make > model",
        "names such as a > a 0; a > a 1; b > b 0; b > b 2",
        f"folders of {root} without a picture, so none is a class: a/a 9",
    ]


def test_a_class_that_is_refused_is_named_before_thousands_of_others_are_packed(tmp_path):
    root = touch(tmp_path / "birds", *(f"{name}/{n}.jpg" for name in ("wren", "rook", "jay\x1b") for n in range(2)))
    said: list[str] = []
    with pytest.raises(UserError, match="packed but not accepted"):
        pack(ImageFolder(root), tmp_path / "out", say=said.append)
    reason = "a label must hold no control characters, but it is 'jay\\x1b'"
    assert said[2] == f"2 refused before any is read (jay\\x1b/0.jpg: {reason})"


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def test_no_flipped_bit_in_what_a_killed_packing_left_is_believed(tmp_path):
    source, options = ImageFolder(write_folder(tmp_path / "birds", 2, 8)), PackOptions(samples_per_shard=9)
    pack(source, tmp_path / "whole", options)
    whole = contents(tmp_path / "whole")
    index = next(name for name in whole if name.endswith(".index.json"))
    bits = random.Random(0).sample(range(8 * len(whole[index])), 24)
    for bit in bits:
        out = tmp_path / f"bit{bit}"
        shutil.copytree(tmp_path / "whole", out)
        (out / "manifest.json").unlink()
        (out / index).write_bytes(flipped(whole[index], bit))
        pack(source, out, options)
        assert contents(out) == whole


@pytest.mark.parametrize("name", ["manifest.json", "_info.json"])
def test_the_same_line_mends_what_is_damaged(tmp_path, name):
    source, out, said = ImageFolder(write_folder(tmp_path / "birds", 2, 8)), tmp_path / "out", list[str]()
    pack(source, out)
    whole = contents(out)
    for bit in random.Random(1).sample(range(8 * len(whole[name])), 12):
        (out / name).write_bytes(flipped(whole[name], bit))
        pack(source, out, say=said.append)
        assert contents(out) == whole
    if name == "_info.json":
        assert said.count("damaged or missing, so written again: _info.json") == 12


def test_a_set_of_an_older_version_is_read_with_a_sentence_and_gets_its_digests_from_the_same_line(tmp_path, caplog):
    source, out = ImageFolder(write_folder(tmp_path / "birds", 2, 8)), tmp_path / "out"
    manifest = pack(source, out)
    whole = contents(out)
    older = json.loads(whole["manifest.json"])
    for shard in older["shards"]:
        index = {key: value for key, value in json.loads(whole[shard["index_file"]]).items() if key != "digest"}
        (out / shard["index_file"]).write_bytes(canonical_json(index))
        shard["index_sha256"] = hashlib.sha256(canonical_json(index)).hexdigest()
    del older["digest"]
    (out / "manifest.json").write_bytes(canonical_json(older))
    for name in ("columns.json", "columns.bin"):
        (out / name).unlink()
    assert load_manifest(out).fingerprint() == manifest.fingerprint()
    assert len(ShardSet(out, "train", ("seen",)).labels()) == manifest.samples("train", ("seen",))
    (record,) = caplog.records
    assert "was written by an older version and has no digest of itself" in record.getMessage()
    pack(source, out)
    assert contents(out) == whole


class Sketches(Source):
    """A layout of a user's own: pictures made on the fly, with fields for the sample."""

    dataset = "sketches"

    def taxonomy(self):
        return Taxonomy.flat(["a", "b"])

    def records(self):
        for number in range(6):
            extra = {"response": f"<answer>{number}</answer>", "uid": "must not win"}
            yield Record(
                f"s/{number}", "ab"[number % 2], ("ab"[number % 2],), "train", None, lambda n=number: draw(n), extra
            )

    def describe(self):
        return {"kind": "Sketches"}


def draw(number: int) -> bytes:
    if number == 4:
        raise SampleError("s/4 must be drawn, but the ink is out")
    stream = io.BytesIO()
    photo(number).save(stream, "PNG")
    return stream.getvalue()


def test_a_source_of_ones_own_brings_fields_and_refusals(tmp_path):
    manifest = pack(Sketches(), tmp_path / "out", PackOptions(val=0), max_bad_share=0.2)
    assert [(one.sample, one.reason) for one in manifest.refused] == [("s/4", "must be drawn, but the ink is out")]
    example = ShardSet(tmp_path / "out", "train", ("seen",)).read(0)
    assert example.extra["response"].startswith("<answer>")
    assert example.uid.startswith("s-")


def test_shares_out_of_range_are_refused(tmp_path):
    with pytest.raises(UserError, match="max_bad_share must be a share"):
        pack(Sketches(), tmp_path / "out", max_bad_share=2)


def test_a_picture_that_changes_its_size_makes_another_set(tmp_path):
    root = write_folder(tmp_path / "birds", 2, 4)
    pack(ImageFolder(root), tmp_path / "out")
    (root / "class 0/0.jpg").write_bytes(jpeg(99, (60, 60)))
    with pytest.raises(UserError, match="other pictures or options"):
        pack(ImageFolder(root), tmp_path / "out")
