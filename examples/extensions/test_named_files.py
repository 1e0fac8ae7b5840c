from pathlib import Path

import pytest
from named_files import NamedFiles

from fgvr.errors import UserError
from fgvr.sources.base import Record, Refusal


def test_names_are_labels_and_strangers_are_refused(tmp_path: Path):
    (tmp_path / "families.csv").write_text("Ruby Finch,Finches\nLittle Owl,Owls\n")
    for name in ("Ruby_Finch__0002.jpg", "Ruby_Finch__0001.jpg", "Grey_Heron__0001.jpg"):
        (tmp_path / name).write_bytes(b"a photo")
    refused, first, second = NamedFiles(tmp_path).records()
    assert refused == Refusal("Grey_Heron__0001.jpg", "Grey_Heron__0001.jpg", "families.csv has no 'Grey Heron'")
    assert isinstance(first, Record)
    assert isinstance(second, Record)
    assert (first.name, first.label, first.path) == ("Ruby_Finch__0001.jpg", "Ruby Finch", ("Finches", "Ruby Finch"))
    assert second.load() == b"a photo"
    assert NamedFiles(tmp_path).taxonomy().ranks == ("family", "species")


def test_families_are_needed(tmp_path: Path):
    with pytest.raises(UserError, match="write it"):
        list(NamedFiles(tmp_path / "nowhere").taxonomy().paths)
