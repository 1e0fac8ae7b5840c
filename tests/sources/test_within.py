from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from toy_birds import BIRDS, PATHS

from fgvr.errors import UserError
from fgvr.sources import PartnerRecord, Record, Refusal, Source, Within
from fgvr.taxonomy.tree import Taxonomy


def load() -> bytes:
    return b""


class Birds(Source):
    dataset = "birds"

    def taxonomy(self) -> Taxonomy:
        return BIRDS

    def records(self) -> Iterator[Record | Refusal]:
        for label, path in PATHS.items():
            options = ["Plain Wren", "rubra", "Made-up"] if label != "Ash Finch" else ["Plain Wren"]
            negative = PartnerRecord("n", "Plain Wren" if label == "Red Finch" else "Ash Finch", lambda: (b"",))
            yield Record(label, label, path, None, None, load, {"options": options, "place": 1}, negative=negative)
        yield Refusal("torn", "torn", "it is torn")

    def describe(self) -> dict[str, Any]:
        return {"kind": "Birds"}


def test_pictures_options_and_negatives_of_other_classes_are_left_out_and_counted():
    source = Within(Birds(), "finches")
    found = list(source.records())
    records = {one.label: one for one in found if isinstance(one, Record)}
    assert {*records} == {label for label, path in PATHS.items() if path[0] == "Finches"} == {*source.taxonomy().paths}
    assert sum(isinstance(one, Refusal) for one in found) == 1
    assert records["Blue Finch"].extra == {"options": ["rubra"], "place": 1}
    assert records["Ash Finch"].extra == {"place": 1}  # its relatives may be options
    assert records["Red Finch"].negative is None
    assert records["Blue Finch"].negative is not None
    assert source.describe() == {"kind": "Birds", "within": "Finches", "left_out": 2}
    assert source.remarks() == ["within Finches: 4 of 6 classes, 4 pictures; 2 of other classes are left out"]
    with pytest.raises(UserError, match="has 1: take a name above it"):
        Within(Birds(), "Longbill").taxonomy()
