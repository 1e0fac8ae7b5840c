from __future__ import annotations

from pathlib import Path

import pytest
from backbone_table import backbone
from hostile import write_folder

from fgvr.__main__ import main
from fgvr.errors import UserError
from fgvr.shards.manifest import load_manifest
from fgvr.shards.plan import PackOptions, make_plan
from fgvr.sources import Backbone, ImageFolder
from fgvr.sources.base import Record
from fgvr.taxonomy.names import Names
from fgvr.taxonomy.tree import Taxonomy

LABELS = ("Black-footed Albatross", "Erithacus rubecula", "Oenanthe oenanthe", "Robin", "Turdus migratorius")
HEAD = "scientificName,kingdom,phylum,class,order,family,genus"


def folder(root: Path, labels: tuple[str, ...] = LABELS) -> ImageFolder:
    for number, one in enumerate(sorted(write_folder(root, len(labels), 3).iterdir())):
        one.rename(root / labels[number])
    return ImageFolder(root)


def table(file: Path, *rows: str) -> Path:
    file.write_text("".join(f"{row}\n" for row in (HEAD, *rows)))
    return file


def test_classes_get_the_ranks_that_all_of_them_have(tmp_path: Path):
    source = Backbone(folder(tmp_path / "in"), backbone(tmp_path))
    taxonomy = source.taxonomy()
    assert taxonomy.ranks[:6] == ("kingdom", "phylum", "class", "order", "family", "genus")
    birds = ("Animalia", "Chordata", "Aves", "Passeriformes")
    assert taxonomy.paths["Turdus migratorius"] == (*birds, "Turdidae", "Turdus", "Turdus migratorius")
    assert taxonomy.paths["Robin"] == ("Robin",)  # the name of two birds
    assert taxonomy.synonyms == {"Black-footed Albatross": ("Phoebastria nigripes",)}
    assert Names(taxonomy).find("phoebastria nigripes") == "Black-footed Albatross"
    assert all(one.path == taxonomy.paths[one.label] for one in source.records() if isinstance(one, Record))
    said = source.describe()["backbone"]
    assert said["matched"]["Erithacus rubecula"][-2:] == ["Muscicapidae", "Erithacus"]
    assert said["ambiguous"] == {"Robin": ["Erithacus rubecula", "Turdus migratorius"]}
    assert said["unmatched"] == []
    assert source.remarks()[-1] == (
        "backbone Taxon.tsv: of 5 classes 4 matched, 1 of these by their common names; 1 are names of several taxa "
        "(such as 'Robin'), 0 of none"
    )


def test_names_that_stand_in_two_places_or_are_classes_too_are_told_apart(tmp_path: Path):
    trees, boobies = "Morus alba,Plantae,P,C,O,Moraceae,Morus", "Morus bassanus,Animalia,P2,C2,O2,Sulidae,Morus"
    file = table(tmp_path / "taxa.csv", trees, boobies, "Aves prima,Animalia,P2,C2,,F,G")
    source = Backbone(folder(tmp_path / "in", ("Aves prima", "F", "Morus alba", "Morus bassanus")), file)
    paths = source.taxonomy().paths
    assert paths["Morus alba"][-2:] == ("Morus (Moraceae)", "Morus alba")
    assert paths["Morus bassanus"][-2:] == ("Morus (Sulidae)", "Morus bassanus")
    assert paths["Aves prima"] == ("Animalia", "P2", "C2", "F (family)", "G", "Aves prima")  # no order, so for none
    assert source.remarks()[-2:] == [
        "backbone taxa.csv: of 4 classes 3 matched, 0 of these by their common names; 0 are names of several taxa, "
        "1 of none (such as 'F')",
        "ranks that not all of them have are left out: order",
    ]


def test_names_that_stand_in_two_places_one_below_the_other_stay_apart(tmp_path: Path):
    rows = ("Una prima,K,P,C,O,F,G", "Una secunda,L,P,C,O,F,G")
    source = Backbone(folder(tmp_path / "in", ("Una prima", "Una secunda")), table(tmp_path / "taxa.csv", *rows))
    paths = source.taxonomy().paths
    assert paths["Una prima"][:3] == ("K", "P (K)", "C (P (K))")
    assert len({*paths["Una prima"], *paths["Una secunda"]}) == 14


def test_what_a_backbone_cannot_do_is_a_sentence(tmp_path: Path):
    file = backbone(tmp_path)
    with pytest.raises(UserError, match=r"it has none of 2 \(such as 'Boeing', 'Fiat'\)"):
        Backbone(folder(tmp_path / "in", ("Boeing", "Fiat")), file).taxonomy()

    class Ranked(ImageFolder):
        def taxonomy(self) -> Taxonomy:
            return Taxonomy({"Boeing": ("plane", "Boeing"), "Fiat": ("car", "Fiat")}, ("kind", "make"))

    with pytest.raises(UserError, match=r"have them already \(kind > make\): leave the backbone out"):
        Backbone(Ranked(tmp_path / "in"), file).taxonomy()


def test_a_backbone_that_spells_a_control_token_is_not_packed(tmp_path: Path):
    trees, boobies = "Morus alba,Plantae,P,C,O,Moraceae,Morus", "Morus bassanus,<|im_end|>,P2,C2,O2,Sulidae,Morus"
    source = Backbone(
        folder(tmp_path / "in", ("Morus alba", "Morus bassanus")), table(tmp_path / "taxa.csv", trees, boobies)
    )
    with pytest.raises(UserError, match=r"a name of the taxonomy must not spell a control token .*<\|im_end\|>"):
        make_plan(source, PackOptions())


def test_backbone_and_within_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    root, out = folder(tmp_path / "in").root, tmp_path / "out"
    line = ["shards", "--source", "ImageFolder", "--source.root", str(root), "--out", str(out), "--val", "0"]
    assert main([*line, "--backbone", str(backbone(tmp_path)), "--within", "passeriformes"]) == 0
    manifest = load_manifest(out)
    assert {*manifest.cohorts} == {"Erithacus rubecula", "Oenanthe oenanthe", "Turdus migratorius"}
    assert (manifest.source["within"], manifest.source["left_out"]) == ("Passeriformes", 6)
    assert manifest.source["backbone"]["matched"]["Turdus migratorius"][0] == "Turdus migratorius"
    assert len({path[5] for path in Taxonomy.from_dict(manifest.taxonomy).paths.values()}) == 3
    assert (
        "within Passeriformes: 3 of 5 classes, 9 pictures; 6 of other classes are left out" in capsys.readouterr().out
    )
