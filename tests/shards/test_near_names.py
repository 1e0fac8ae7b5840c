from pathlib import Path

from sourced import touch

from fgvr.shards.packing import pack
from fgvr.shards.plan import PackOptions
from fgvr.shards.reading import ShardSet
from fgvr.sources import ImageFolder

ALL = PackOptions(val=0, test=0)


def near(said: list[str]) -> list[str]:
    return [sentence for sentence in said if "nearly one" in sentence]


def test_classes_of_nearly_one_name_are_named_with_their_photos_and_stay_two(tmp_path: Path):
    albatross = [f"Black-footed Albatross/{number}.jpg" for number in range(3)]
    root = touch(tmp_path / "in", *albatross, "Black footed Albatros/0.jpg", "Laysan Albatross/0.jpg", "Crow/0.jpg")
    said: list[str] = []
    pack(ImageFolder(root), tmp_path / "out", ALL, say=said.append)
    (sentence,) = near(said)
    assert sentence.startswith(
        "pairs of classes whose names are nearly one, with their pictures: 1: 'Black footed Albatros' (1) and "
        "'Black-footed Albatross' (3). Each is a class of its own"
    )
    labels = ShardSet(tmp_path / "out", "train", ("seen",)).labels()
    assert labels.count("Black-footed Albatross") == 3
    assert labels.count("Black footed Albatros") == 1


def test_ten_pairs_are_named_and_all_are_counted(tmp_path: Path):
    letters = "abcdefghijkl"
    root = touch(tmp_path / "in", *(f"Passerine {x * 6}{end}/0.jpg" for x in letters for end in ("", "z")))
    said: list[str] = []
    pack(ImageFolder(root), tmp_path / "out", ALL, say=said.append)
    (sentence,) = near(said)
    assert "pictures: 12: 'Passerine aaaaaa' (1) and 'Passerine aaaaaaz' (1); " in sentence
    assert "; and 2 more. Each" in sentence


def test_of_other_names_nothing_is_said(tmp_path: Path):
    root = touch(tmp_path / "in", "Laysan Albatross/0.jpg", "Sooty Albatross/0.jpg", "Crow/0.jpg")
    said: list[str] = []
    pack(ImageFolder(root), tmp_path / "out", ALL, say=said.append)
    assert not near(said)
