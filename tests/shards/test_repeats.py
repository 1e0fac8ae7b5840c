from hostile import write_folder

from fgvr.shards.packing import pack
from fgvr.shards.plan import PackOptions
from fgvr.sources import ImageFolder

ALL = PackOptions(val=0, test=0)


def sentences(root, out) -> list[str]:
    said: list[str] = []
    pack(ImageFolder(root), out, ALL, say=said.append)
    return [sentence for sentence in said if "byte for byte" in sentence]


def test_a_picture_under_two_labels_is_named_with_both_files_and_both_labels(tmp_path):
    root = write_folder(tmp_path / "birds", 3, 2)
    assert sentences(root, tmp_path / "whole") == []
    (root / "class 0/twin.jpg").write_bytes((root / "class 0/0.jpg").read_bytes())  # no contradiction
    (root / "class 1/copy.jpg").write_bytes((root / "class 0/0.jpg").read_bytes())
    assert sentences(root, tmp_path / "two") == [
        "pictures that stand under more than one label, byte for byte: 1: class 0/0.jpg as 'class 0' and class "
        "0/twin.jpg as 'class 0' and class 1/copy.jpg as 'class 1'. Keep the right label: delete the other file, or "
        "give both the same label, and pack again, with overwrite"
    ]


def test_ten_are_named_and_the_others_counted(tmp_path):
    root = write_folder(tmp_path / "birds", 2, 12)
    for number in range(12):
        (root / f"class 1/copy {number:02}.jpg").write_bytes((root / f"class 0/{number}.jpg").read_bytes())
    (sentence,) = sentences(root, tmp_path / "out")
    assert "byte for byte: 12: class 0/0.jpg as 'class 0' and class 1/copy 00.jpg as 'class 1'; " in sentence
    assert sentence.count(" as ") == 20
    assert "; and 2 more. Keep the right label" in sentence
