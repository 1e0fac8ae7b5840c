"""FGVC-Aircraft as its archive unpacks."""

from __future__ import annotations

from pathlib import Path

from fgvr.errors import UserError
from fgvr.sources.benchmark import Benchmark, Listing, read_columns, read_lines
from fgvr.sources.protocols import Photo
from fgvr.taxonomy.spelling import normalise

LEVELS = ("manufacturer", "family", "variant")


class Aircraft(Benchmark):
    """FGVC-Aircraft (2013b): the folder fgvc-aircraft-2013b, or data/ in it. The classes are the 100 variants.

    The taxonomy is manufacturer > family > variant, as the lists of each level say of the photos. A variant that is
    called like its family stands in the family's place.
    """

    KIND, NAME, ROOT = "Aircraft", "aircraft", "aircraft"

    def listing(self) -> Listing:
        data = self.root / "data" if (self.root / "data/variants.txt").is_file() else self.root
        said: dict[str, dict[str, str]] = {level: {} for level in LEVELS}
        photos: list[Photo] = []
        for split in ("train", "val", "test"):
            for level in LEVELS:
                rows = read_columns(data / f"images_{level}_{split}.txt", 2)
                said[level].update(dict(rows))
                if level == "variant":
                    at = f"{data.relative_to(self.root).as_posix()}/images".removeprefix("./")
                    photos += [Photo(f"{at}/{image}.jpg", name, split) for image, name in rows]
        above = {level: self._parents(data, said[level], said["variant"]) for level in LEVELS[:-1]}
        paths = {
            variant: _path(above["manufacturer"].get(variant, ""), above["family"].get(variant, ""), variant)
            for variant in read_lines(data / "variants.txt")
        }
        return Listing(paths, photos, LEVELS)

    def _parents(self, data: Path, names: dict[str, str], variants: dict[str, str]) -> dict[str, str]:
        parents: dict[str, str] = {}
        for image, variant in variants.items():
            if image not in names or parents.setdefault(variant, names[image]) != names[image]:
                raise UserError(
                    f"all photos of a variant must be of one family and manufacturer, but of {variant!r} photo {image} "
                    f"in {data} is {names.get(image)!r} and others are {parents.get(variant)!r}: unpack it again"
                )
        return parents


def _path(manufacturer: str, family: str, variant: str) -> tuple[str, ...]:
    """The names from the top, each once: Spitfire is family and variant in one."""
    path: list[str] = []
    for name in (manufacturer, family, variant):
        if name and path and normalise(path[-1]) == normalise(name):
            path[-1] = name
        elif name:
            path.append(name)
    return tuple(path)
