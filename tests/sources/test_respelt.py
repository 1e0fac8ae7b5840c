"""Labels that misspell a class are read as it; what could be another class is refused as before."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from PIL import Image
from toy_birds import BIRDS

from fgvr.__main__ import main
from fgvr.shards.reading import ShardSet
from fgvr.sources import CSV, ImageFolder, Record, Refusal, Respelt

LABELS = {
    "Red Finch": "Red Finch",
    "barred-wren": "Barred Wren",  # which any source reads
    "Bared Wren": "Barred Wren",
    "a photo of a plain wren": "Plain Wren",
    "Tall Fnich": "Tall Finch",  # two letters that change places are one slip
    "Tell Finch": None,  # in a word of four letters another letter is another word
    "Ash Finch 2": None,
    "Grebe": None,
    "Wrens": None,  # no class
}


@pytest.fixture
def table(tmp_path: Path) -> Path:
    (tmp_path / "taxonomy.yaml").write_text(yaml.safe_dump(json.loads(json.dumps(BIRDS.to_dict()))))
    rows = ["file,label"]
    for number, label in enumerate(LABELS):
        Image.effect_noise((32, 32), 60 + number).convert("RGB").save(tmp_path / f"{number}.png")
        rows.append(f"{number}.png,{label}")
    (tmp_path / "photos.csv").write_text("\n".join(rows) + "\n")
    return tmp_path / "photos.csv"


def read(source: Respelt | CSV) -> dict[str, str | None]:
    found = {int(one.name.split(".")[0]): one.label for one in source.records() if isinstance(one, Record)}
    return {label: found.get(number) for number, label in enumerate(LABELS)}


def test_a_label_near_one_class_is_read_as_it_and_told(table: Path):
    plain = CSV(table, taxonomy=table.with_name("taxonomy.yaml"))
    assert {label for label, node in read(plain).items() if node} == {"Red Finch", "barred-wren"}
    source = Respelt(CSV(table, taxonomy=table.with_name("taxonomy.yaml")))
    found = read(source)
    assert found == LABELS
    assert sum(isinstance(one, Refusal) for one in source.records()) == sum(node is None for node in LABELS.values())
    assert source.describe()["read_as"] == {
        label: LABELS[label] for label in ("Bared Wren", "Tall Fnich", "a photo of a plain wren")
    }
    assert source.remarks()[-1].startswith(
        "3 labels of 3 pictures are read as another spelling of a class: 'Bared Wren' as 'Barred Wren' (1), "
        "'Tall Fnich' as "
    )


def test_by_one_command_with_all_of_it_in_the_manifest(table: Path, capsys: pytest.CaptureFixture[str]):
    line = ["shards", "--source=CSV", f"--source.file={table}", f"--source.taxonomy={table.parent}/taxonomy.yaml"]
    options = ["--val=0", "--test=0", "--max_bad_share=0.5", f"--out={table.parent / 'out'}"]
    assert main([*line, *options, "--respell=true"]) == 0
    assert "'Bared Wren' as 'Barred Wren'" in capsys.readouterr().out
    manifest = json.loads((table.parent / "out/manifest.json").read_text())
    assert manifest["source"]["read_as"]["Bared Wren"] == "Barred Wren"
    labels = sorted(ShardSet(table.parent / "out", "train", ("seen",)).labels())
    assert labels == ["Barred Wren", "Barred Wren", "Plain Wren", "Red Finch", "Tall Finch"]


def test_pictures_are_counted_not_labels_nor_looks(table: Path):
    with table.open("a") as stream:
        stream.write("0.png,Bared Wren\n3.png,Bared Wren\ngone/../../out.png,Bared Wren\n")
    source = Respelt(CSV(table, taxonomy=table.with_name("taxonomy.yaml")))
    for _ in range(2):
        list(source.records())
        # five labels' pictures, and the row that climbs out of the folder is refused
        assert source.remarks()[-1].startswith("3 labels of 5 pictures are read")
        assert "'Bared Wren' as 'Barred Wren' (3), " in source.remarks()[-1]


def test_folders_too_and_without_a_taxonomy_there_is_nothing_to_read(tmp_path: Path):
    for name in ("Barred Wren", "Bared Wren"):
        (tmp_path / "birds" / name).mkdir(parents=True)
        Image.new("RGB", (32, 32)).save(tmp_path / "birds" / name / "a.png")
    (tmp_path / "taxonomy.yaml").write_text(yaml.safe_dump(json.loads(json.dumps(BIRDS.to_dict()))))

    def labels(**options: Path) -> list[str]:
        return sorted(one.label for one in Respelt(ImageFolder(tmp_path / "birds", **options)).records())  # pyright: ignore

    assert labels(taxonomy=tmp_path / "taxonomy.yaml") == ["Barred Wren", "Barred Wren"]
    assert labels() == ["Bared Wren", "Barred Wren"]
