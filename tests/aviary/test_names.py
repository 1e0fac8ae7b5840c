"""The catalogue's names and colours."""

from collections import Counter

import numpy as np
import pytest

from fgvr.aviary.names import (
    MARK_COLOURS,
    MARK_PLACES,
    RANKS,
    ROOT,
    Colour,
    Genus,
    catalogue,
    genera,
    ground,
)
from fgvr.taxonomy.spelling import normalise
from fgvr.taxonomy.tree import Taxonomy

BIRDS = [bird for members in catalogue().values() for bird in members]


def contrast(one: Colour, other: Colour) -> float:
    """How far apart two colours look, 0 to about 760 ("redmean" weights)."""
    red = (one[0] + other[0]) / 2
    weights = np.array([2 + red / 256, 4, 2 + (255 - red) / 256])
    return float(np.sqrt((weights * np.subtract(one, other) ** 2).sum()))


def test_no_name_is_part_of_another_and_each_has_one_parent() -> None:
    taxonomy = Taxonomy({bird.name: bird.path for bird in BIRDS}, RANKS, ROOT)
    names = [normalise(name) for name in taxonomy.lineage]
    assert len(set(names)) == len(names) == 1 + 3 + 8 + 24 + 120
    clashes = [(one, other) for one in names for other in names if one != other and one in other]
    assert clashes == []


def test_species_names_say_colour_place_and_genus() -> None:
    for bird in BIRDS:
        assert bird.name == f"{bird.mark_colour}-{MARK_PLACES[bird.mark_place]} {bird.genus.noun}"
        assert 2 <= len(normalise(bird.name).split()) <= 3


def test_neither_colour_nor_place_alone_tells_a_genus_apart() -> None:
    for members in catalogue().values():
        assert len({(bird.mark_colour, bird.mark_place) for bird in members}) == 5
        assert len({bird.mark_colour for bird in members}) == len({bird.mark_place for bird in members}) == 3
        # the smallest worlds use the first three of a genus: there too
        assert len({bird.mark_colour for bird in members[:3]}) == len({bird.mark_place for bird in members[:3]}) == 2


def test_colours_and_places_come_round_equally_often() -> None:
    for counts in (Counter(bird.mark_colour for bird in BIRDS), Counter(bird.mark_place for bird in BIRDS)):
        assert len(counts) == 8
        assert max(counts.values()) - min(counts.values()) <= 5


@pytest.mark.parametrize("depth", [3, 4, 5])
def test_no_mark_gives_the_family_away(depth: int) -> None:
    wearers: dict[tuple[str, str], set[str]] = {}
    for genus in genera():
        for bird in catalogue()[genus.name][:depth]:
            wearers.setdefault((bird.mark_colour, bird.mark_place), set()).add(genus.family)
    assert len(wearers) == 16
    assert min(len(families) for families in wearers.values()) >= 3


@pytest.mark.parametrize("genus", genera(), ids=lambda genus: genus.noun)
def test_every_mark_stands_out_from_what_it_lies_on(genus: Genus) -> None:
    for bird in catalogue()[genus.name]:
        assert contrast(MARK_COLOURS[bird.mark_colour], ground(genus.plumage, bird.mark_place)) > 200


def test_genera_of_one_family_differ_in_colour() -> None:
    for one in genera():
        for other in genera():
            if one.family == other.family and one.name < other.name:
                assert contrast(one.plumage.back, other.plumage.back) > 120
