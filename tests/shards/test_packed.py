import shutil
from pathlib import Path

import pytest
from hostile import jpeg, write_folder

from fgvr.errors import UserError
from fgvr.shards.packed import pack_or_compare
from fgvr.shards.plan import PackOptions
from fgvr.sources import CSV, ImageFolder


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


@pytest.fixture
def birds(tmp_path: Path) -> Path:
    root = write_folder(tmp_path / "birds", 2, 6)
    pack_or_compare(ImageFolder(root), tmp_path / "out", PackOptions(val=0.2))
    return root


def test_the_same_pictures_and_options_are_left_alone(birds, tmp_path, caplog):
    before = contents(tmp_path / "out")
    pack_or_compare(ImageFolder(birds), tmp_path / "out", PackOptions(val=0.2))
    pack_or_compare(ImageFolder(birds), tmp_path / "out", None, seed=5)
    assert contents(tmp_path / "out") == before
    assert not caplog.records


def test_what_differs_is_named(birds, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(UserError, match=r"out must hold .*: seed was 0 and is 1; val was 0\.2 and is 0\.1\. Give"):
        pack_or_compare(ImageFolder(birds), out, PackOptions(seed=1))
    with pytest.raises(UserError, match="dataset was 'birds' and is 'owls'"):
        pack_or_compare(ImageFolder(birds, dataset="owls"), out, None)
    (birds / "class 0/new.jpg").write_bytes(jpeg(3))
    with pytest.raises(UserError, match=r"have changed \(12 pictures were there, 13 are\)"):
        pack_or_compare(ImageFolder(birds), out, None)


def test_comparing_reads_no_shard(birds, tmp_path):
    for file in (tmp_path / "out").glob("*.tar"):
        file.write_bytes(b"")
    pack_or_compare(ImageFolder(birds), tmp_path / "out", PackOptions(val=0.2))
    assert all(not file.stat().st_size for file in (tmp_path / "out").glob("*.tar"))


@pytest.mark.parametrize("empty", [False, True])
def test_pictures_that_were_moved_away_do_not_stop_a_run(birds, tmp_path, caplog, empty):
    shutil.rmtree(birds)
    if empty:
        birds.mkdir()
    pack_or_compare(ImageFolder(birds), tmp_path / "out", PackOptions(val=0.2))
    (record,) = caplog.records
    assert record.getMessage().startswith(f"{tmp_path / 'out'} is used as it is, since it cannot be compared")
    with pytest.raises(UserError, match="k_shot was None and is 1"):  # what can be compared still is
        pack_or_compare(ImageFolder(birds), tmp_path / "out", PackOptions(val=0.2, k_shot=1))
    with pytest.raises(UserError, match="root must"):
        pack_or_compare(ImageFolder(birds), tmp_path / "new", None)


def test_a_list_whose_pictures_are_gone_does_not_stop_a_run(tmp_path, caplog):
    root, lines = write_folder(tmp_path / "birds", 2, 6), ["file,label"]
    lines += [f"{file.relative_to(root)},{file.parent.name}" for file in sorted(root.glob("*/*.jpg"))]
    file = tmp_path / "list.csv"
    file.write_text("\n".join(lines))
    pack_or_compare(CSV(file, root), tmp_path / "out", None)
    (root / "class 0/0.jpg").unlink()
    with pytest.raises(UserError, match="the pictures, their labels or the taxonomy have changed"):
        pack_or_compare(CSV(file, root), tmp_path / "out", None)
    shutil.rmtree(root)
    pack_or_compare(CSV(file, root), tmp_path / "out", None)
    file.unlink()
    pack_or_compare(CSV(file, root), tmp_path / "out", None)
    assert [record.getMessage().split(": ")[1] for record in caplog.records] == [
        "none of the 12 pictures that it names can be read",
        f"file must be a csv file, but {file} is not a file",
    ]
