from __future__ import annotations

from pathlib import Path

import benchmark_trees as trees
import pytest
from sourced import parted

from fgvr.errors import UserError
from fgvr.sources import MetadataFolder, SourceGone


@pytest.mark.parametrize("jsonl", [False, True])
def test_labels_stay_texts_and_columns_go_into_the_samples(tmp_path: Path, jsonl: bool):
    source = MetadataFolder(trees.hugging_face(tmp_path, jsonl))
    good, refused = parted(source)
    assert refused == {}
    assert sorted(source.taxonomy().paths) == ["1e5", "NA", "None", "Wren."]
    assert good["test/2.jpg"].label == "1e5"
    assert good["test/2.jpg"].split == "test"
    assert good["test/2.jpg"].extra == {"photographer": "M"}


def test_one_table_for_all_and_folders_as_labels(tmp_path: Path):
    trees.photos(tmp_path, "train/wren/1.jpg", "test/crow/1.jpg", "train/2.jpg")
    trees.lines(tmp_path / "metadata.csv", "file_name,text", "train/wren/1.jpg,a", "test/crow/1.jpg,b", "train/2.jpg,c")
    good, refused = parted(MetadataFolder(tmp_path))
    assert {name: (one.label, one.split, one.extra["text"]) for name, one in good.items()} == {
        "train/wren/1.jpg": ("wren", "train", "a"),
        "test/crow/1.jpg": ("crow", "test", "b"),
    }
    assert refused == {"train/2.jpg": "metadata.csv line 4: a label must have 1 to 200 characters, but it has 0"}


def test_a_column_is_named_and_a_taxonomy_reads_numbers(tmp_path: Path):
    trees.photos(tmp_path, "1.jpg", "2.jpg")
    trees.lines(tmp_path / "metadata.csv", "file_name,label,bird", "1.jpg,0,wren", "2.jpg,1,crow")
    with pytest.raises(UserError, match=r"are numbers, such as '0': name the column of names with label"):
        MetadataFolder(tmp_path).taxonomy()
    assert sorted(MetadataFolder(tmp_path, label="bird").taxonomy().paths) == ["crow", "wren"]
    trees.lines(tmp_path / "t.yaml", "paths: {wren: [wren], crow: [crow]}", 'synonyms: {wren: ["0"], crow: ["1"]}')
    good, _ = parted(MetadataFolder(tmp_path, taxonomy=tmp_path / "t.yaml"))
    assert {name: one.label for name, one in good.items()} == {"1.jpg": "wren", "2.jpg": "crow"}


def test_what_cannot_be_used_is_refused_by_its_line(tmp_path: Path):
    trees.photos(tmp_path, "1.jpg")
    table = tmp_path / "metadata.csv"
    trees.lines(table, "file_name,label", "1.jpg,wren", "../2.jpg,wren", ",wren", "3.jpg,wren,more", '4.jpg,"a\nb"')
    good, refused = parted(MetadataFolder(tmp_path))
    assert set(good) == {"1.jpg"}
    assert "climbs out" in refused["../2.jpg"]
    assert [reason.split(":")[0] for reason in refused.values()] == [
        "metadata.csv line 3", "metadata.csv line 7", "metadata.csv line 4", "metadata.csv line 5",
    ]  # fmt: skip
    for text, why in (
        ('file_name,label\n1.jpg,"x', "proper csv"),
        ("a,b\n1,2\n", "column file_name"),
        ("", "holds none"),
    ):
        table.write_text(text)
        with pytest.raises(UserError, match=why):
            list(MetadataFolder(tmp_path).records())
    trees.lines(table, "file_name,text", "1.jpg,a")
    with pytest.raises(UserError, match="must have a column of labels"):
        MetadataFolder(tmp_path).taxonomy()
    with pytest.raises(UserError, match="label must be a column"):
        MetadataFolder(tmp_path, label="bird").taxonomy()
    table.unlink()
    (tmp_path / "metadata.jsonl").write_text("[" * 100_000)
    with pytest.raises(UserError, match="must hold a JSON object a line"):
        list(MetadataFolder(tmp_path).records())
    (tmp_path / "metadata.jsonl").unlink()
    with pytest.raises(SourceGone, match=r"must hold metadata.csv"):
        list(MetadataFolder(tmp_path).records())
