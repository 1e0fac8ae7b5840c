from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path

import benchmark_trees as trees
import pytest
from sourced import parted

from fgvr.errors import UserError
from fgvr.sources import CUB, Aircraft, Food101, Photo, StanfordCars
from fgvr.sources.protocols import base_novel, few_shots, fine_r1, speciarl


def test_halves_are_of_the_benchmarks_own_order():
    # 5 classes: ceil(5 / 2) = 3 are base
    assert base_novel(["z", "b", "a", "d", "c"]) == dict(zip("zbadc", ["base"] * 3 + ["novel"] * 2, strict=True))


def test_the_cohorts_of_a_tree(tmp_path: Path):
    source = Aircraft(trees.aircraft(tmp_path), classes="base-novel")
    sides = {record.label: record.cohort for record in parted(source)[0].values()}
    assert sides == {"707-320": "base", "737-200": "base", "A380": "base", "F/A-18": "novel", "Spitfire": "novel"}
    assert source.describe()["classes"] == "base-novel"
    sides = {record.label: record.cohort for record in parted(Aircraft(tmp_path, classes="fine-r1"))[0].values()}
    # their lists have "Boeing 707-320" (unseen), "Boeing 737-200", "Airbus A380", "F/A-18" and "Spitfire" (seen)
    assert sides == {"707-320": "unseen", "737-200": "seen", "A380": "seen", "F/A-18": "seen", "Spitfire": "seen"}


def test_fine_r1_has_452_seen_and_303_unseen_classes():
    from fgvr.sources.protocols import _fine_r1_lists

    lists = _fine_r1_lists()
    assert [sum(len(one[side]) for one in lists.values()) for side in ("seen", "unseen")] == [452, 303]
    for kind, sides in lists.items():
        names = [name for side in sides.values() for name in side]
        assert len(fine_r1(kind, {name: (name,) for name in names})) == len(names)
    with pytest.raises(UserError, match=r"\['Dodo'\] is in neither"):
        fine_r1("CUB", {"1": ("Dodo",)})
    with pytest.raises(UserError, match="got Food101"):
        fine_r1("Food101", {"1": ("pho",)})


def test_few_shots_are_drawn_of_each_class():
    photos = [
        Photo(f"{key}{n}", key, split) for key in "ab" for split, count in (("train", 20), ("val", 9), ("test", 5))
        for n in range(count)
    ]  # fmt: skip
    kept = Counter((photo.key, photo.split) for photo in few_shots(photos, 16, 1))
    assert kept == {(key, split): n for key in "ab" for split, n in (("train", 16), ("val", 4), ("test", 5))}
    assert Counter(photo.split for photo in few_shots(photos, 2, 1)) == {"train": 4, "val": 4, "test": 10}
    assert few_shots(photos, 2, 1) == few_shots(photos, 2, 1) != few_shots(photos, 2, 2)


def test_speciarl_draws_3000_of_cub_as_it_does():
    photos = [Photo(str(n), "1", "train") for n in range(5994)] + [Photo("t", "1", "test")]
    kept = speciarl("CUB", photos)
    assert len(kept) == 3001
    assert kept[:3000] == [photos[n] for n in random.Random(42).sample(range(5994), 3000)]
    assert len(speciarl("Food101", photos)) == 501


def test_what_a_protocol_leaves_out_is_said(tmp_path: Path):
    source = CUB(trees.cub(tmp_path), shots=1)
    assert Counter(record.split for record in parted(source)[0].values()) == {"train": 2, "test": 4}
    assert source.remarks() == ["2 photos of cub are left out by shots"]
    with pytest.raises(UserError, match="drop one"):
        CUB(tmp_path, shots=1, train="speciarl")
    with pytest.raises(UserError, match="shots must be at least 1"):
        CUB(tmp_path, shots=0)


def test_a_split_file_of_coop_stands_for_the_official_split(tmp_path: Path):
    root, file = trees.food(tmp_path / "food"), tmp_path / "split_zhou_Food101.json"
    said = {
        "train": [["pho/2.jpg", 2, "pho"]],
        "val": [["pho/1005649.jpg", 2, "pho"]],
        "test": [["pho/3.jpg", 2, "pho"]],
    }
    file.write_text(json.dumps(said))
    source = Food101(root, split_file=file)
    assert {name: record.split for name, record in parted(source)[0].items()} == {
        "images/pho/2.jpg": "train", "images/pho/1005649.jpg": "val", "images/pho/3.jpg": "test",
    }  # fmt: skip
    assert source.remarks() == ["6 photos of food are left out by split_file"]
    file.write_text(json.dumps({**said, "val": [["pho/9.jpg", 2, "pho"]]}))
    with pytest.raises(UserError, match=r"1 of its 3 are not listed, such as 'pho/9.jpg'"):
        list(Food101(root, split_file=file).records())
    file.write_text("[]")
    with pytest.raises(UserError, match="must be JSON with lists"):
        list(Food101(root, split_file=file).records())


def test_of_cars_coop_names_the_folder_too(tmp_path: Path):
    root, file = trees.cars(tmp_path / "cars"), tmp_path / "split.json"
    file.write_text(
        json.dumps({"train": [["cars_train/00001.jpg", 0, "x"]], "val": [], "test": [["cars_test/00001.jpg", 0, "x"]]})
    )
    assert set(parted(StanfordCars(root, split_file=file))[0]) == {"cars_train/00001.jpg", "cars_test/00001.jpg"}
