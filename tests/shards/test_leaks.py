import random
from pathlib import Path

from hostile import jpeg
from sourced import touch

from fgvr.shards.leaks import Part, shared_pictures, told
from fgvr.shards.packing import pack
from fgvr.shards.plan import PackOptions
from fgvr.similarity import Siblings
from fgvr.sources import ImageFolder

TRAIN = ("train",), ("seen", "base")
EVALUATED = ("val", "test"), ("seen", "unseen", "base", "novel")


def packed(folder: Path, numbers: dict[str, list[int]]) -> Path:
    """A set whose splits hold these pictures, half of each in one class."""
    for split, chosen in numbers.items():
        for place, number in enumerate(chosen):
            file = folder / "in" / split / f"class {place % 2}" / f"{number}.jpg"
            touch(folder / "in", str(file.relative_to(folder / "in")))
            file.write_bytes(jpeg(number, (24 + number, 20)))
    pack(ImageFolder(folder / "in"), folder / "out", PackOptions(val=0))
    return folder / "out"


def test_what_one_set_trains_on_and_another_evaluates_is_found(tmp_path):
    first = packed(tmp_path / "a", {"train": [0, 1, 2, 3, 4, 5], "test": [6, 7]})
    second = packed(tmp_path / "b", {"train": [10, 11], "test": [3, 12, 4], "val": [5, 13]})
    shared = shared_pictures([Part(first, *TRAIN)], [Part(first, *EVALUATED), Part(second, *EVALUATED)])
    assert sorted(one.evaluated.split("/")[0] for one in shared) == ["test", "test", "val"]
    assert {one.trained.split("/")[0] for one in shared} == {"train"}
    assert {(one.trained_in, one.evaluated_in) for one in shared} == {(first, second)}
    assert shared_pictures([Part(second, *TRAIN)], [Part(first, *EVALUATED)]) == []


def test_one_folder_is_not_compared_with_itself(tmp_path):
    out = packed(tmp_path, {"train": [0, 1, 2], "test": [2, 3]})
    (tmp_path / "link").symlink_to(out)
    assert shared_pictures([Part(out, *TRAIN)], [Part(tmp_path / "link", *EVALUATED)]) == []


def test_only_the_examples_that_are_learned_from_count(tmp_path):
    first = packed(tmp_path / "a", {"train": list(range(20))})
    second = packed(tmp_path / "b", {"train": [30, 31], "test": list(range(20))})
    evaluated = [Part(second, *EVALUATED)]
    assert len(shared_pictures([Part(first, *TRAIN)], evaluated)) == 20
    assert len(shared_pictures([Part(first, *TRAIN, examples=4, seed=3)], evaluated)) == 4


def test_an_index_that_cannot_be_read_is_named(tmp_path, caplog):
    first = packed(tmp_path / "a", {"train": [0, 1, 2, 3]})
    second = packed(tmp_path / "b", {"train": [30, 31], "test": [0, 1]})
    index = first / "train-seen-000000.index.json"
    data = bytearray(index.read_bytes())
    data[random.Random(0).randrange(len(data))] ^= 1
    index.write_bytes(data)
    assert shared_pictures([Part(first, *TRAIN, examples=2)], [Part(second, *EVALUATED)]) == []
    (record,) = caplog.records
    assert record.getMessage().startswith("the pictures of train-seen-000000.tar are not compared with those of other")


def test_where_columns_show_that_nothing_is_shared_no_index_is_read(tmp_path, caplog):
    first = packed(tmp_path / "a", {"train": [0, 1, 2, 3]})
    second = packed(tmp_path / "b", {"train": [30, 31], "test": [4, 5]})
    compared = [Part(first, *TRAIN)], [Part(first, *EVALUATED), Part(second, *EVALUATED)]
    assert shared_pictures(*compared) == []
    for folder in (first, second):
        for index in folder.glob("*.index.json"):
            index.unlink()
    assert shared_pictures([Part(first, *TRAIN)], [Part(first, *EVALUATED), Part(second, *EVALUATED)]) == []
    assert not caplog.records
    (second / "columns.json").unlink()
    assert shared_pictures([Part(first, *TRAIN)], [Part(second, *EVALUATED)]) == []
    assert "are not compared" in caplog.text


def test_with_and_without_columns_the_same_is_shared(tmp_path):
    first = packed(tmp_path / "a", {"train": [0, 1, 2, 3, 4, 5], "test": [6, 7]})
    second = packed(tmp_path / "b", {"train": [10, 11], "test": [3, 12, 4], "val": [5, 13]})

    def shared():
        return shared_pictures([Part(first, *TRAIN)], [Part(second, *EVALUATED)])

    before = shared()
    assert len(before) == 3
    (first / "columns.json").unlink()
    assert shared() == before
    (second / "columns.json").unlink()
    assert shared() == before


def test_a_few_are_named_and_all_counted(tmp_path):
    first = packed(tmp_path / "a", {"train": list(range(8))})
    second = packed(tmp_path / "b", {"train": [30, 31], "test": list(range(8))})
    said = told(shared_pictures([Part(first, *TRAIN)], [Part(second, *EVALUATED)]))
    assert said.startswith("8 are, byte for byte: test/")
    assert said.count(f"of {first}") == 5
    assert said.endswith("; and 3 more")


def test_a_frozen_partner_is_compared_in_its_own_set_too(tmp_path):
    root = tmp_path / "in"
    for split, label, number in [
        ("train", "a", 0),
        ("train", "a", 1),
        ("train", "b", 2),
        ("train", "b", 3),
        ("test", "a", 9),
    ]:
        touch(root, f"{split}/family/{label}/{number}.jpg")
        (root / f"{split}/family/{label}/{number}.jpg").write_bytes(jpeg(number))
    (root / "test/family/b").mkdir()
    (root / "test/family/b/8.jpg").write_bytes(jpeg(1))  # stands in train too, as somebody's positive
    pack(ImageFolder(root), tmp_path / "out", PackOptions(val=0), triplets=Siblings())
    out, evaluated = tmp_path / "out", Part(tmp_path / "out", *EVALUATED)
    shared = shared_pictures([Part(out, *TRAIN)], [evaluated])
    assert {one.trained.rpartition(".")[2] for one in shared} <= {"pos", "neg"}
    assert any(one.trained.endswith(".pos") for one in shared)
    assert {one.evaluated.split("/")[0] for one in shared} == {"test"}
    assert ".pos of" in told(shared)
