"""The Aviary: a synthetic world of birds, drawn on demand, that is fine-grained in the way real ones are.

A bird's family shows in its shape, its genus in its colours, and its species only in the colour of one small mark and
in where that mark sits. Unseen species are new combinations: a genus with a mark that seen species of others wear.
"""

from __future__ import annotations

import difflib
import hashlib
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from fgvr.aviary.names import RANKS, ROOT, Genus, Species, catalogue, genera
from fgvr.aviary.scene import Scene
from fgvr.errors import UserError
from fgvr.sources.base import Record, Refusal, Source
from fgvr.taxonomy.spelling import normalise
from fgvr.taxonomy.tree import Taxonomy

DRAWING = 1  # goes up whenever the same settings would give other pictures
FEWEST, MOST = 48, 120
SPLITS = ("train", "val", "test")
# each split counts its pictures from its own start, so that one split's size never moves another's pictures
STRIDE = 1_000_000


class Aviary(Source):
    """Drawn birds with a taxonomy of order, family, genus and species.

    `species` (48 to 120) are in use, three to five to a genus; `unseen` of them, spread over the families, are held out
    and have val and test pictures only. So have `novel` others, drawn from the rest: held out of a later stage of
    training, while an earlier one, on the same birds without them, knew them. `train`, `val` and `test` count pictures
    a species. `size` is the side in pixels, 56 to 512. `difficulty`, 0 to 1, sets the size of the mark, how near its
    colour is to what it lies on, and how much pose, light, cover and noise vary. `seed` decides what is drawn. Raises
    UserError when a setting is out of range.
    """

    dataset = "aviary"

    def __init__(
        self,
        species: int = 96,
        unseen: int = 16,
        train: int = 60,
        val: int = 8,
        test: int = 8,
        size: int = 84,
        difficulty: float = 0.5,
        seed: int = 0,
        novel: int = 0,
    ) -> None:
        _check("species", species, FEWEST, MOST, "the number of species in use")
        _check("size", size, 56, 512, "the side of a picture in pixels")
        _check("difficulty", difficulty, 0, 1, "from plain to hard")
        for split, count in zip(SPLITS, (train, val, test), strict=True):
            _check(split, count, 0, STRIDE, "pictures a species")
        self.counts = {"train": train, "val": val, "test": test}
        self.size, self.difficulty, self.seed = size, float(difficulty), seed
        self._species = {bird.name: bird for bird in _in_use(species)}
        self.unseen = _held_out(list(self._species.values()), unseen, seed)
        taught = sorted(set(self._species) - self.unseen)
        _check("novel", novel, 0, len(taught) - 1, "species held out of the seen ones")
        order = np.random.default_rng(list(hashlib.sha256(f"novel|{seed}".encode()).digest())).permutation(len(taught))
        self.novel = frozenset(taught[place] for place in order[:novel])

    @property
    def species(self) -> tuple[str, ...]:
        """The names in use, family by family."""
        return tuple(self._species)

    def taxonomy(self) -> Taxonomy:
        return Taxonomy({name: bird.path for name, bird in self._species.items()}, RANKS, ROOT)

    def describe(self) -> dict[str, Any]:
        return {
            "kind": "Aviary",
            "drawing": DRAWING,
            "species": len(self._species),
            "unseen": len(self.unseen),
            **self.counts,
            "size": self.size,
            "difficulty": self.difficulty,
            "seed": self.seed,
            **({"novel": len(self.novel)} if self.novel else {}),
        }

    def records(self) -> Iterator[Record | Refusal]:
        stamp = f"{DRAWING}-{self.seed}-{self.size}-{self.difficulty}"
        for name in sorted(self._species):
            bird = self._species[name]
            cohort = "unseen" if name in self.unseen else "novel" if name in self.novel else "seen"
            for number, split in enumerate(SPLITS):
                if split == "train" and cohort != "seen":
                    continue
                for count in range(self.counts[split]):
                    index = number * STRIDE + count
                    yield Record(
                        name=f"{normalise(name).replace(' ', '-')}-{split}-{count:06d}",
                        label=name,
                        path=bird.path,
                        split=split,
                        cohort=cohort,
                        load=partial(self.encode, name, index),
                        extra={"mark_colour": bird.mark_colour, "mark_place": bird.mark_place},
                        stamp=stamp,
                    )

    def draw(self, species: str, index: int) -> Image.Image:
        """One picture, RGB, `size` pixels square; the same for the same seed, species and index (at least 0)."""
        return self._draw(species, index, self.size)

    def encode(self, species: str, index: int) -> bytes:
        """`draw` as a JPEG of quality 92, colours not subsampled: a mark is only a few pixels wide."""
        file = io.BytesIO()
        self.draw(species, index).save(file, "JPEG", quality=92, subsampling=0)
        return file.getvalue()

    def _draw(self, species: str, index: int, size: int) -> Image.Image:
        if species not in self._species:
            near = difflib.get_close_matches(species, self._species, n=1) or self.species[:1]
            raise UserError(f"species must be one in use, got {species!r}: did you mean {near[0]!r}?")
        if index < 0:
            raise UserError(f"index must be at least 0, got {index}: give a picture's number")
        key = hashlib.sha256(f"{self.seed}|{species}|{index}".encode()).digest()
        return Scene(self._species[species], size, self.difficulty, np.random.default_rng(list(key))).draw()

    def contact_sheet(
        self, species: Sequence[str] | None = None, columns: int = 8, size: int = 168, index: int = 0
    ) -> Image.Image:
        """Pictures with their names, row by row; by default one species of each genus, a column to a family."""
        names = list(species) if species is not None else _one_of_each_genus(list(self._species.values()))
        gap, caption = round(size * 0.09), round(size * 0.27)
        rows = -(-len(names) // columns)
        page = Image.new(
            "RGB", (gap + columns * (size + gap), gap + rows * (size + caption + gap // 2)), (250, 248, 243)
        )
        pen = ImageDraw.Draw(page)
        large, small = (ImageFont.load_default(size * share) for share in (0.072, 0.06))
        corners = Image.new("L", (size * 4, size * 4))
        ImageDraw.Draw(corners).rounded_rectangle((0, 0, size * 4 - 1, size * 4 - 1), size * 0.28, fill=255)
        corners = corners.resize((size, size), Image.Resampling.LANCZOS)
        for number, name in enumerate(names):
            x = gap + number % columns * (size + gap)
            y = gap + number // columns * (size + caption + gap // 2)
            page.paste(self._draw(name, index, size), (x, y), corners)
            genus = self._species[name].genus
            middle = x + size / 2
            pen.text((middle, y + size * 1.04), name, (44, 42, 40), large, anchor="ma")
            pen.text((middle, y + size * 1.135), f"{genus.name} · {genus.family}", (132, 126, 118), small, anchor="ma")
        return page


def _check(name: str, value: float, low: int, high: int, meaning: str) -> None:
    if not low <= value <= high:
        raise UserError(f"{name} ({meaning}) must be from {low} to {high}, got {value}: change {name}")


def _in_use(count: int) -> list[Species]:
    """The first three to five species of each genus; below 72 in all, of two genera a family instead of three."""
    by_family: dict[str, list[Genus]] = {}
    for genus in genera():
        by_family.setdefault(genus.family, []).append(genus)
    depth = 3 if count >= 72 else 2
    # one genus of every family before the next of any: a remainder spreads over the families
    turn = [members[place].name for place in range(depth) for members in by_family.values()]
    shares = {name: count // len(turn) + (place < count % len(turn)) for place, name in enumerate(turn)}
    return [bird for genus in genera() for bird in catalogue()[genus.name][: shares.get(genus.name, 0)]]


def _held_out(birds: list[Species], count: int, seed: int) -> frozenset[str]:
    """`count` species, family after family; each leaves two seen species in its genus and its mark on a seen one."""
    families = list(dict.fromkeys(bird.genus.family for bird in birds))
    seen = {bird.name: bird for bird in birds}
    most = len(birds) - 2 * len({bird.genus.name for bird in birds})
    _check("unseen", count, 0, most, f"species held out of {len(birds)}, two of each genus staying seen")
    rng = np.random.default_rng(list(hashlib.sha256(f"unseen|{seed}".encode()).digest()))
    order = [birds[place] for place in rng.permutation(len(birds))]
    families = [families[place] for place in rng.permutation(len(families))]
    held: list[str] = []
    while len(held) < count:
        before = len(held)
        for family in families:
            candidates = [bird for bird in order if bird.genus.family == family and _can_spare(bird, seen)]
            if candidates and len(held) < count:
                # the genus with the most seen species gives first; ties go by the shuffled order
                sizes = Counter(bird.genus.name for bird in seen.values())
                chosen = max(candidates, key=lambda bird: sizes[bird.genus.name])
                held.append(seen.pop(chosen.name).name)
        if len(held) == before:
            raise UserError(
                f"unseen species must each leave their mark on a seen one of another genus, which allows {before} of "
                f"{len(birds)} species, got {count}: lower unseen or raise species"
            )
    return frozenset(held)


def _can_spare(bird: Species, seen: dict[str, Species]) -> bool:
    others = [other for other in seen.values() if other is not bird]
    return (
        bird.name in seen
        and sum(other.genus is bird.genus for other in others) >= 2
        and any((other.mark_colour, other.mark_place) == (bird.mark_colour, bird.mark_place) for other in others)
    )


def _one_of_each_genus(birds: list[Species]) -> list[str]:
    """Row by row: the first genus of every family, then the second; marks of all kinds."""
    by_family: dict[str, dict[str, list[str]]] = {}
    for bird in birds:
        by_family.setdefault(bird.genus.family, {}).setdefault(bird.genus.name, []).append(bird.name)
    columns = [list(members.values()) for members in by_family.values()]
    return [
        names[(row + place) % len(names)]
        for row in range(len(columns[0]))
        for place, names in enumerate(column[row] for column in columns)
    ]
