from __future__ import annotations

from pathlib import Path

import pytest
from backbone_table import COLUMNS, backbone

from fgvr.errors import UserError
from fgvr.taxonomy.backbone import ask_backbone


def test_exact_names_are_found_and_nothing_is_guessed(tmp_path: Path):
    names = [
        "Black footed Albatross",  # CUB's spelling of a common name
        "diomedea nigripes",  # a synonym's classification is that of its accepted name
        "Oenanthe oenanthe",  # whose row holds a quotation mark that opens nothing
        "Turdus migratorius",  # a scientific name, whatever is called so besides
        "Morus alba",  # of the two the accepted one
        "Robin",
        "Turdus",  # a genus is no class
        "Phoebastria nigripe",  # one letter short
        "Black-footed Albatros",
    ]
    answers = ask_backbone(backbone(tmp_path), names)
    assert {name: (taxon.name, taxon.lineage[-1]) for name, taxon in answers.matched.items()} == {
        "Black footed Albatross": ("Phoebastria nigripes", "Phoebastria"),
        "diomedea nigripes": ("Diomedea nigripes", "Phoebastria"),
        "Oenanthe oenanthe": ("Oenanthe oenanthe", "Oenanthe"),
        "Turdus migratorius": ("Turdus migratorius", "Turdus"),
        "Morus alba": ("Morus alba", "Morus"),
    }
    assert answers.matched["Morus alba"].lineage[0] == "Plantae"
    assert answers.common == {"Black footed Albatross"}
    assert [one.name for one in answers.ambiguous["Robin"]] == ["Erithacus rubecula", "Turdus migratorius"]
    assert answers.unmatched == ("Black-footed Albatros", "Phoebastria nigripe", "Turdus")
    assert len(answers.matched) + len(answers.ambiguous) + len(answers.unmatched) == len(names)


def test_a_table_of_ones_own_may_be_quoted_and_hold_the_common_names_itself(tmp_path: Path):
    file = tmp_path / "birds.csv"
    file.write_text(
        "dwc:scientificName,vernacularName,kingdom,phylum,class,order,family,genus\n"
        '"Corvus corax","Raven, Common",Animalia,Chordata,Aves,,Corvidae,Corvus\n'
    )
    answers = ask_backbone(file, ["raven common", "Corvus corax"])
    assert answers.matched["raven common"] == answers.matched["Corvus corax"]
    assert answers.matched["raven common"].lineage == ("Animalia", "Chordata", "Aves", "", "Corvidae", "Corvus")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"taxonID\tkingdom\n", "has no column phylum, class, order, family, genus, canonicalName or scientificName"),
        (b"", "has no column kingdom"),
        ("\t".join(COLUMNS).encode() + b"\n1\t2\n", "line 2 must have 11 fields, but it has 2"),
        ("\t".join(COLUMNS).encode() + b"\n" + b"\t" * 10 + b"\xff\n", "must be a table in UTF-8"),
    ],
)
def test_what_is_no_such_table_is_a_sentence(tmp_path: Path, content: bytes, words: str):
    (tmp_path / "Taxon.tsv").write_bytes(content)
    with pytest.raises(UserError, match=words):
        ask_backbone(tmp_path / "Taxon.tsv", ["Robin"])
    with pytest.raises(UserError, match="cannot be read after line 1"):
        ask_backbone(tmp_path / "none.tsv", ["Robin"])
