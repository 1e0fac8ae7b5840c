from pathlib import Path

import pytest
from hostile import write_folder

from fgvr.shards.columns import HEAD, ROWS
from fgvr.shards.packing import pack
from fgvr.shards.plan import PackOptions
from fgvr.sources.image_folder import ImageFolder


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


@pytest.mark.parametrize("name", ["train-seen-000001.tar", "train-seen-000001.index.json"])
def test_a_complete_set_with_a_changed_file_is_mended(tmp_path, name):
    source, out = ImageFolder(write_folder(tmp_path / "birds", 3, 10)), tmp_path / "out"
    options = PackOptions(samples_per_shard=6)
    pack(source, out, options)
    before = contents(out)
    (out / name).write_bytes(before[name].replace(b"class", b"glass"))  # an index stays a well-formed index
    kept = (out / "train-seen-000000.tar").stat().st_mtime_ns
    said: list[str] = []
    pack(source, out, options, say=said.append)
    assert contents(out) == before
    assert (out / "train-seen-000000.tar").stat().st_mtime_ns == kept
    assert said[0] == "damaged or missing, so packed again: train-seen-000001.tar"


def test_overwriting_packs_every_shard_again(tmp_path):
    source, out = ImageFolder(write_folder(tmp_path / "birds", 2, 6)), tmp_path / "out"
    pack(source, out)
    before, times = contents(out), {file.name: file.stat().st_mtime_ns for file in out.iterdir()}
    said: list[str] = []
    pack(source, out, overwrite=True, say=said.append)
    assert contents(out) == before
    assert all(file.stat().st_mtime_ns > times[file.name] for file in out.iterdir())
    assert said == [
        "birds: 12 pictures of 2 classes to pack; ranks, coarse to fine: class",
        "names such as class 0; class 1",
    ]


def test_photos_that_were_mended_are_packed_again_with_overwrite(tmp_path):
    root, out = write_folder(tmp_path / "birds", 2, 6), tmp_path / "out"
    (root / "class 1/copy.jpg").write_bytes((root / "class 0/0.jpg").read_bytes())
    told: list[list[str]] = []
    for mended in (False, True):
        if mended:
            (root / "class 1/copy.jpg").unlink()
        told.append([])
        pack(ImageFolder(root), out, PackOptions(val=0, test=0), overwrite=mended, say=told[-1].append)
    before, after = (any("under more than one label" in sentence for sentence in said) for said in told)
    assert before
    assert not after


@pytest.mark.parametrize("name", [ROWS, HEAD])
@pytest.mark.parametrize("how", ["missing", "damaged"])
def test_columns_are_written_again_and_nothing_else_is(tmp_path, name, how):
    """A set that an older version packed has none."""
    source, out = ImageFolder(write_folder(tmp_path / "birds", 2, 6)), tmp_path / "out"
    pack(source, out)
    before = contents(out)
    times = {file.name: file.stat().st_mtime_ns for file in out.iterdir() if file.name not in (ROWS, HEAD)}
    (out / name).unlink()
    if how == "damaged":
        (out / name).write_bytes(before[name][:20] + b"!" + before[name][21:])
    said: list[str] = []
    pack(source, out, say=said.append)
    assert contents(out) == before
    assert all((out / file).stat().st_mtime_ns == time for file, time in times.items())
    assert said[0] == "damaged or missing, so written again: columns.json"
