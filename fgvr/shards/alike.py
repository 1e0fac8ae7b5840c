"""Pictures that look alike, by fingerprints of 64 bits: copies that were scaled, encoded anew or lightly retouched."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fgvr.errors import UserError, refuse_below

BITS = 64
LOOK_UP = 10.0  # what a look-up of a piece costs, in comparisons of two fingerprints
AT_ONCE = 1 << 17  # pairs that are compared together
SHIFT = 40  # the place stands in so many bits, the bits apart above them
PLACE, NONE = np.uint64((1 << SHIFT) - 1), np.uint64(2**64 - 1)


def fingerprint(photo: Image.Image) -> int:
    """A perceptual hash of 64 bits: the signs of a photo's lowest frequencies about their median.

    Raises UserError where imagehash is not installed.
    """
    try:
        from imagehash import phash
    except ImportError as error:
        raise UserError(
            "imagehash must be installed to find pictures that look alike: pip install 'fgvr[audit]', or leave them "
            "out with --distance null"
        ) from error
    return int(str(phash(photo)), 16)


def nearest(asked: Sequence[int], known: Sequence[int], distance: int) -> dict[int, tuple[int, int]]:
    """For each place of `asked` that has one: the place in `known` of the fingerprint that differs in fewest bits, and
    in how many, at most `distance`; of several the first.

    Multi-index hashing (Norouzi, Punjani and Fleet, "Fast search in Hamming space with multi-index hashing", 2012,
    proposition 1): of fingerprints cut into m pieces, two that differ in d bits have a piece in which they differ in at
    most d / m. There are as many pieces as make the search shortest. Raises UserError unless 0 <= distance < 64.
    """
    refuse_below(0, "audit", distance=distance)
    if distance >= BITS:
        raise UserError(f"audit.distance must be below the {BITS} bits of a fingerprint, got {distance}")
    values, places = np.unique(np.array(known, dtype=np.uint64), return_index=True)
    wanted, of = np.unique(np.array(asked, dtype=np.uint64), return_inverse=True)
    best = np.full(len(wanted), NONE)
    if len(values):
        for cut in _cuts(_pieces(distance, len(values))):
            _search(wanted, values, places, cut, distance, best)
    found = best[of]
    return {int(at): (int(found[at] & PLACE), int(found[at] >> SHIFT)) for at in np.flatnonzero(found < NONE)}


def nearest_reference(asked: Sequence[int], known: Sequence[int], distance: int) -> dict[int, tuple[int, int]]:
    """The same by looking at every pair: the slow twin."""
    found: dict[int, tuple[int, int]] = {}
    for place, value in enumerate(asked):
        bits, at = min(((apart(value, other), at) for at, other in enumerate(known)), default=(BITS + 1, -1))
        if bits <= distance:
            found[place] = at, bits
    return found


def apart(one: int, other: int) -> int:
    """In how many of their bits two fingerprints differ (Hamming)."""
    return (one ^ other).bit_count()


Words = NDArray[np.uint64]


@dataclass(frozen=True)
class Cut:
    """A piece of every fingerprint, `width` bits from bit `start` on; `radius` are the bits that may differ in it."""

    start: int
    width: int
    radius: int

    def of(self, values: Words) -> Words:
        return values >> np.uint64(self.start) & np.uint64((1 << self.width) - 1)

    def masks(self) -> Iterator[int]:
        """Every way in which two pieces may differ."""
        for bits in range(self.radius + 1):
            for places in combinations(range(self.width), bits):
                yield sum(1 << place for place in places)


def _cuts(radii: Sequence[int]) -> list[Cut]:
    edges = [number * BITS // len(radii) for number in range(len(radii) + 1)]
    return [Cut(start, end - start, radius) for radius, (start, end) in zip(radii, pairwise(edges), strict=True)]


def _pieces(distance: int, known: int) -> list[int]:
    """The radius of each piece, as many pieces as cost least by a count of look-ups and of fingerprints to compare."""

    def cost(count: int) -> float:
        width = BITS // count
        looked = count * sum(math.comb(width, bits) for bits in range(distance // count + 1))
        return looked * (LOOK_UP + known / 2**width)

    best = min(range(1, distance + 2), key=cost)
    return [distance // best] * best


def _search(asked: Words, known: Words, places: NDArray[np.int64], cut: Cut, distance: int, best: Words) -> None:
    """Lowers `best`, bits apart and place as one number, where a nearer fingerprint has nearly the same piece."""
    order = np.argsort(cut.of(known), kind="stable")
    pieces, own = cut.of(known)[order], cut.of(asked)
    for mask in cut.masks():
        keys = own ^ np.uint64(mask)
        firsts = np.searchsorted(pieces, keys)
        counts = np.searchsorted(pieces, keys, side="right") - firsts
        for part in _parts(counts):
            who = np.repeat(np.arange(part.start, part.stop), counts[part])
            begun = np.repeat(firsts[part] - (np.cumsum(counts[part]) - counts[part]), counts[part])
            other = order[begun + np.arange(len(who))]
            bits = np.bitwise_count(asked[who] ^ known[other]).astype(np.uint64)
            near = bits <= distance
            np.minimum.at(best, who[near], bits[near] << np.uint64(SHIFT) | places[other[near]].astype(np.uint64))


def _parts(counts: NDArray[np.int64]) -> Iterator[slice]:
    """Cuts what is compared into parts that fit into the cache."""
    ends = np.cumsum(counts)
    start = 0
    while start < len(counts):
        before = int(ends[start - 1]) if start else 0
        end = max(start + 1, int(np.searchsorted(ends, before + AT_ONCE, side="right")))
        yield slice(start, end)
        start = end
