"""`python -m fgvr shards --audit`: what it finds in sets that hold what they should not, and the pages it leaves."""

from __future__ import annotations

import io
import json
import random
import re
from pathlib import Path

import pytest
from PIL import Image, ImageEnhance

from fgvr.__main__ import main
from fgvr.shards.packing import pack
from fgvr.shards.plan import PackOptions
from fgvr.sources import ImageFolder

STRANGE = "tit & 'co'"


def drawn(number: int) -> Image.Image:
    """A picture with low frequencies of its own."""
    return Image.linear_gradient("L").rotate(37 * number).resize((90, 70)).convert("RGB")


def coarse(number: int) -> bytes:
    """A picture of 30 fields of a grey each, unlike all others."""
    rng = random.Random(number)
    noise = Image.frombytes("L", (6, 5), rng.randbytes(30)).resize((60, 50))
    stream = io.BytesIO()
    noise.convert("RGB").save(stream, "JPEG", quality=90)
    return stream.getvalue()


def saved(file: Path, picture: Image.Image | bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(picture, bytes):
        file.write_bytes(picture)
    else:
        picture.save(file, quality=95)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two sets: `one` trains on 0 to 3 and tests on 4; `two` tests on a copy of 1, on 2 made lighter, and on 5."""
    photos = tmp_path / "photos"
    for number in range(4):
        saved(photos / "one/train" / ("owl" if number % 2 else "jay") / f"{number}.jpg", drawn(number))
    saved(photos / "one/test/jay/4.jpg", coarse(4))
    saved(photos / "one/train/owl/owl_7.jpg", coarse(7))
    saved(photos / "two/test/jay/copied.jpg", (photos / "one/train/owl/1.jpg").read_bytes())
    stream = io.BytesIO()
    ImageEnhance.Brightness(drawn(2)).enhance(1.1).save(stream, "JPEG", quality=60)
    saved(photos / "two/test/jay/lighter.jpg", stream.getvalue())
    saved(photos / f"two/test/{STRANGE}/5.jpg", coarse(5))
    saved(photos / "two/train/jay/6.jpg", coarse(6))
    for name in ("one", "two"):
        pack(ImageFolder(photos / name), tmp_path / name, PackOptions(val=0))
    return tmp_path


def audited(folder: Path, *options: str) -> dict:
    sets = f"[{folder / 'one'},{folder / 'two'}]"
    assert main(["shards", "--audit", sets, "--out", str(folder / "audit"), "--workers", "0", *options]) == 0
    return json.loads((folder / "audit/audit.json").read_text())


def test_copies_and_look_alikes_across_sets_are_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = audited(folder)
    (copy,) = found["copies"]
    assert (copy["leaks"], copy["contradicts"]) == (True, True)
    assert [re.sub(r"-[0-9a-f]{12}", "", place) for place in copy["places"]] == [
        f"train/train-owl-1 of {folder / 'one'}",
        f"test/test-jay-copied of {folder / 'two'}",
    ]
    (pair,) = found["look_alike"]
    assert "lighter" in pair["evaluated"]
    assert "jay-2" in pair["trained"]
    assert pair["bits"] <= 4
    assert found["counts"]["jay"] == {"train": 3, "test": 3}
    (named,) = found["named_after_label"]
    assert "owl-owl_7" in named
    said = capsys.readouterr().out
    assert "10 pictures of 3 classes, 6 of them to train on." in said
    assert "1 pictures are trained on and evaluated with, byte for byte" in said
    assert "1 pictures stand under several labels" in said
    assert "makes 0.0% of them smaller" in said


def test_the_pages_show_every_class_and_run_nothing(folder: Path) -> None:
    audited(folder)
    pages = {
        file.relative_to(folder / "audit").as_posix(): file.read_text() for file in folder.rglob("audit/**/*.html")
    }
    index = pages.pop("index.html")
    assert "<script" not in index
    assert "tit &amp; &#39;co&#39;" in index
    for name, page in pages.items():
        assert f'href="{name}"' in index
        assert "<script" not in page
        assert 'src="data:image/jpeg;base64,' in page
        assert "http:" not in page.replace("http-equiv", "")
    assert len(pages) == 4  # three classes and the pairs


def test_sets_without_faults_are_said_to_have_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(6):
        saved(tmp_path / f"in/{'train' if number < 4 else 'test'}/bird {number % 2}/{number}.jpg", coarse(number))
    pack(ImageFolder(tmp_path / "in"), tmp_path / "out", PackOptions(val=0))
    assert main(["audit", "--sets", str(tmp_path / "out"), "--distance", "null", "--photos", "1"]) == 0
    said = capsys.readouterr().out
    assert "0 pictures are trained on and evaluated with, byte for byte." in said
    assert "look like" not in said
    assert (tmp_path / "out/audit/index.html").is_file()
    assert not (tmp_path / "out/audit/pairs.html").exists()


def test_several_processes_find_the_same(folder: Path) -> None:
    one = audited(folder)
    assert audited(folder, "--workers", "2") == one


def test_a_picture_that_cannot_be_read_is_counted(folder: Path) -> None:
    tar = next((folder / "one").glob("test-*.tar"))
    data = bytearray(tar.read_bytes())
    data[600] ^= 1
    tar.write_bytes(data)
    (sentence,) = audited(folder)["unread"]
    assert tar.name in sentence


@pytest.mark.parametrize(
    ("sets", "words"),
    [
        ("nowhere", "a shard set is a folder"),
        ("[]", "a shard set at least"),
        ("[{one},{one}]", "each shard set must be named once"),
    ],
)
def test_what_is_no_set_is_refused(folder: Path, sets: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "--sets", sets.replace("{one}", str(folder / "one"))]) == 2
    assert words in capsys.readouterr().err
