"""Photos in one folder whose names say what they show."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from fgvr.errors import UserError
from fgvr.sources.base import PictureAt, Record, Refusal, Source, stamp_of
from fgvr.taxonomy.tree import Taxonomy


class NamedFiles(Source):
    """root/Ruby_Finch__0001.jpg beside root/families.csv, which has a line `Ruby Finch,Finches` for each class.

    Raises UserError when families.csv is missing. A photo of a class that it lacks is refused, by its name.
    """

    def __init__(self, root: Path, dataset: str = "named files") -> None:
        self.root, self.dataset = Path(root), dataset

    @cached_property
    def _families(self) -> dict[str, str]:
        file = self.root / "families.csv"
        if not file.is_file():
            raise UserError(f"the families of all classes must stand in {file}, but it is not there: write it")
        with file.open(encoding="utf-8", newline="") as lines:
            return dict(csv.reader(lines))

    def taxonomy(self) -> Taxonomy:
        return Taxonomy({name: (family, name) for name, family in self._families.items()}, ("family", "species"))

    def records(self) -> Iterator[Record | Refusal]:
        for photo in sorted(self.root.glob("*.jpg")):
            label = photo.name.partition("__")[0].replace("_", " ")
            if label not in self._families:
                yield Refusal(photo.name, photo.name, f"families.csv has no {label!r}")
                continue
            path, load = (self._families[label], label), PictureAt(str(photo), photo.name)
            yield Record(photo.name, label, path, split=None, cohort=None, load=load, stamp=stamp_of(photo))

    def describe(self) -> dict[str, Any]:
        return {"kind": "NamedFiles", "dataset": self.dataset}
