"""What a picture shows: the mark in sight and in its colour, and difficulty doing what it says."""

import numpy as np
import pytest

from fgvr.aviary.builds import BUILDS
from fgvr.aviary.names import MARK_COLOURS, MARK_PLACES, Species, catalogue, genera
from fgvr.aviary.scene import Scene


def picture(species: Species, difficulty: float, number: int = 0, size: int = 84) -> np.ndarray:
    generator = np.random.default_rng(number)
    return np.asarray(Scene(species, size, difficulty, generator).draw(), dtype=np.float64)


def mark_pixels(species: Species, difficulty: float, number: int) -> int:
    """Pixels that change clearly when nothing but the colour of the mark does."""
    others = [name for name in MARK_COLOURS if name != species.mark_colour]
    drawn = picture(species, difficulty, number)
    change = np.zeros(drawn.shape[:2])
    for name in others[:2]:
        other = Species(species.name, species.genus, name, species.mark_place)
        change = np.maximum(change, np.abs(drawn - picture(other, difficulty, number)).max(axis=-1))
    # by the water a mark shows in the mirror too: count what is above it alone
    above = 84 if BUILDS[species.genus.family].perch == "branch" else 58
    return int((change[:above] > 40).sum())


@pytest.mark.parametrize("place", MARK_PLACES)
@pytest.mark.parametrize("family", BUILDS)
def test_every_mark_is_in_sight_on_every_build(family: str, place: str) -> None:
    genus = next(genus for genus in genera() if genus.family == family)
    species = Species("a bird", genus, "Violet", place)
    sizes = [mark_pixels(species, 0.5, number) for number in range(3)]
    assert min(sizes) >= 12, sizes


def test_a_harder_picture_shows_a_smaller_mark() -> None:
    birds = [members[0] for members in catalogue().values()][::3]
    easy, hard = (sum(mark_pixels(bird, difficulty, 1) for bird in birds) for difficulty in (0.0, 1.0))
    assert hard < 0.7 * easy


def test_a_harder_picture_is_noisier() -> None:
    bird = catalogue()["Solispiza"][0]

    def roughness(difficulty: float) -> float:
        return float(np.abs(np.diff(picture(bird, difficulty)[:10], axis=1)).mean())

    assert roughness(1.0) > 2 * roughness(0.0)
