from __future__ import annotations

import base64
import io
from pathlib import Path

import pytest
from PIL import Image
from toy_report import BIRDS, write_run, write_shards
from toy_triplets import FAMILY

from fgvr.report.photos import SIDE, Budget, Photos, as_address, places_of
from fgvr.report.ran import Ran, read_run
from fgvr.shards.reading import ShardSet


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("photos")
    write_run(base / "run", write_shards(base / "birds"))
    return base


def picture(address: str) -> Image.Image:
    kind, _, data = address.partition(",")
    assert kind == "data:image/jpeg;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))


def test_photos_are_found_by_uid_in_any_split_and_those_that_are_not_are_counted(folder: Path):
    photos = Photos.of(read_run(folder / "run"))
    uids = [ShardSet(folder / "birds/shards", split, ("seen",)).uid(2) for split in ("train", "val")]
    photos.find([*uids, "nobody"])
    assert set(photos.found) == set(uids)
    assert photos.unread == 1
    assert photos.labels[uids[0]] in BIRDS
    assert picture(photos.found[uids[0]]).size in ((56, 56), (84, 56), (68, 45))  # 3136 pixels at the most


def test_there_is_a_photo_of_each_class_and_of_each_name_above(folder: Path):
    photos = Photos.of(read_run(folder / "run"))
    found = photos.one_of_each({"Jade Owl", "Finch", "Dodo"})
    assert set(found) == {"Jade Owl", "Finch"}
    assert photos.labels[found["Jade Owl"]] == "Jade Owl"
    assert FAMILY[photos.labels[found["Finch"]]] == "Finch"


def test_a_photo_is_no_larger_than_the_model_saw_it_nor_than_the_page_shows_it():
    assert Budget(None, 5000).within(Image.new("RGB", (200, 100))).size == (100, 50)
    assert Budget(None, None).within(Image.new("RGB", (200, 100))).size == (200, 100)
    assert Budget(None, 10**6).within(Image.new("RGB", (200, 100))).size == (200, 100)
    assert picture(as_address(Image.new("RGBA", (600, 300)))).size == (SIDE, SIDE // 2)


def test_a_set_is_found_from_where_the_run_was_started(tmp_path: Path):
    ran = Ran(tmp_path / "runs/x", "x", {"run": {"dir": "runs/x"}})
    assert list(places_of(Path("data/birds"), ran)) == [Path("data/birds"), tmp_path / "data/birds"]
    assert list(places_of(Path("data/birds"), Ran(tmp_path / "moved", "x", ran.config))) == [Path("data/birds")]


def test_a_set_that_was_moved_is_named_and_found_where_it_is_said_to_lie(folder: Path):
    ran = read_run(folder / "run")
    ran.config["data"]["init_args"]["train"][0]["path"] = "data/gone"
    assert Photos.of(ran).missing == [
        "The shard set data/gone is not there, so its photos are not shown: give --data FOLDER where it lies now."
    ]
    photos = Photos.of(ran, [folder / "birds/shards"])
    assert (len(photos.sets), photos.missing) == (1, [])
    assert Photos().taxonomy is None
