"""Six birds of two families, and photos of them."""

from __future__ import annotations

from typing import Any

from fgvr.similarity import Classes
from fgvr.taxonomy.tree import Taxonomy
from fgvr.types import Example

PATHS = {
    name: path
    for path in [
        ("Finches", "Roundbill", "Red Finch"),
        ("Finches", "Roundbill", "Blue Finch"),
        ("Finches", "Roundbill", "Ash Finch"),
        ("Finches", "Longbill", "Tall Finch"),
        ("Wrens", "Cocktail", "Barred Wren"),
        ("Wrens", "Cocktail", "Plain Wren"),
    ]
    for name in [path[-1]]
}
BIRDS = Taxonomy(PATHS, ("family", "genus", "species"), "bird", {"Red Finch": ("Rubra",)})


def example(label: str = "Red Finch", uid: str = "x-1", **extra: Any) -> Example:
    return Example(uid, (b"photo", b"positive"), label, PATHS[label], "val", "seen", "birds", extra)


def classes(taxonomy: Taxonomy = BIRDS, seed: int = 0, names: tuple[str, ...] | None = None, **options: Any) -> Classes:
    """The classes of a taxonomy to be compared, without photos unless `options` brings some."""
    return Classes(
        names or tuple(taxonomy.paths), taxonomy, **({"photos": lambda name, count: [], "seed": seed} | options)
    )
