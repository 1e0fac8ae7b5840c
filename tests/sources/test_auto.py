from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import benchmark_trees as trees
import pytest
from hostile import write_folder

from fgvr.__main__ import main
from fgvr.errors import UserError
from fgvr.shards.manifest import load_manifest
from fgvr.sources import Auto, ImageFolder
from fgvr.sources.known_layouts import look_for

ITEMS = {
    "ChoiceJSON": {"image_path": "a", "problem": "p", "solution": "<answer>x</answer>"},
    "MessagesJSON": {"messages": [], "images": ["a"]},
    "ClosedWorldJSON": {"image_path": "a", "question": "q", "options": ["a", "b"], "ground_truth": "a"},
}


@pytest.mark.parametrize("kind", ITEMS)
@pytest.mark.parametrize("by_line", [False, True])
def test_a_file_of_items_is_known_by_their_keys(tmp_path: Path, kind: str, by_line: bool):
    file = tmp_path / ("x.jsonl" if by_line else "x.json")
    items = [ITEMS[kind]] * 3
    file.write_text("\n".join(map(json.dumps, items)) if by_line else json.dumps(items, indent=1))
    assert Auto(file).seen.kind == kind


@pytest.mark.parametrize(
    ("text", "why"), [("", "it is not"), ("[]", "it is not"), ("[1]", "of no item"), ('{"a": 1}', "keys a")]
)
def test_any_other_file_is_a_sentence(tmp_path: Path, text: str, why: str):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(UserError, match=why):
        Auto(tmp_path / "x.json")


def test_class_folders_are_an_image_folder(tmp_path: Path):
    root = write_folder(tmp_path / "in", 2, 2)
    assert Auto(root).describe() == ImageFolder(root).describe()
    with pytest.raises(UserError, match="shots must be asked of a benchmark"):
        Auto(root, shots=2)
    with pytest.raises(UserError, match="has no folders in it"):
        Auto(root / "class 0")
    with pytest.raises(UserError, match=r"but .*none is neither"):
        Auto(tmp_path / "none")
    (tmp_path / "x.csv").write_text("file,label\n")
    assert look_for(tmp_path / "x.csv").kind == "CSV"


@pytest.mark.parametrize("said", [["--source", "auto"], ["--source=auto"], ["--source", "Auto"]])
def test_from_the_command_line(tmp_path: Path, said: list[str], capsys: Any):
    root, out = trees.cub(tmp_path / "CUB_200_2011"), tmp_path / "out"
    line = ["shards", *said, str(root), "--source.classes", "base-novel", "--out", str(out), "--val", "0"]
    assert main(line) == 0
    printed = capsys.readouterr().out
    assert f"{root} is read as CUB: it has images.txt and image_class_labels.txt and train_test_split.txt" in printed
    manifest = load_manifest(out)
    assert manifest.cohorts == {"Black footed Albatross": "base", "Brandt's Cormorant": "novel"}
    assert manifest.source == {"kind": "CUB", "dataset": "cub", "classes": "base-novel"}


def test_what_is_missing_on_the_command_line_is_a_sentence(tmp_path: Path, capsys: Any):
    assert main(["shards", "--source", "auto", "--out", str(tmp_path / "out")]) == 2
    assert "root" in capsys.readouterr().err


def test_folders_named_like_splits_are_no_classes(tmp_path: Path):
    trees.photos(tmp_path, "cars_TRAIN_1/1.jpg", "cars_test_1/2.jpg")
    with pytest.raises(UserError, match="are called like splits, cars_TRAIN_1, cars_test_1"):
        ImageFolder(tmp_path).taxonomy()
    assert len(ImageFolder(tmp_path, splits=False).taxonomy().paths) == 2
