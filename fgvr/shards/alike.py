"""Pictures that look alike, by fingerprints of 64 bits: copies that were scaled, encoded anew or lightly retouched."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from PIL import Image

from fgvr.errors import UserError, refuse_below

BITS = 64


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

    Fingerprints are cut into distance + 1 pieces, of which two so alike must share one (pigeonhole), so that few pairs
    are looked at. Raises UserError unless 0 <= distance < 64.
    """
    refuse_below(0, "audit", distance=distance)
    if distance >= BITS:
        raise UserError(f"audit.distance must be below the {BITS} bits of a fingerprint, got {distance}")
    first = {value: place for place, value in reversed(list(enumerate(known)))}
    pieces = [_pieces_of(first, cut) for cut in _cuts(distance + 1)]
    answers: dict[int, tuple[int, int]] = {}  # by fingerprint
    found: dict[int, tuple[int, int]] = {}
    for place, value in enumerate(asked):
        if value not in answers:
            near = [
                (bits, first[other])
                for other in _candidates(value, pieces)
                if (bits := apart(value, other)) <= distance
            ]
            bits, best = min(near, default=(-1, -1))
            answers[value] = (best, bits)
        if answers[value][1] >= 0:
            found[place] = answers[value]
    return found


def apart(one: int, other: int) -> int:
    """In how many of their bits two fingerprints differ (Hamming)."""
    return (one ^ other).bit_count()


Cut = tuple[int, int]  # how far to shift, and which bits to keep then
Pieces = tuple[Cut, Mapping[int, Sequence[int]]]


def _cuts(count: int) -> list[Cut]:
    edges = [number * BITS // count for number in range(count + 1)]
    return [(start, (1 << (end - start)) - 1) for start, end in pairwise(edges)]


def _pieces_of(values: Mapping[int, int], cut: Cut) -> Pieces:
    shift, mask = cut
    by_piece: dict[int, list[int]] = defaultdict(list)
    for value in values:
        by_piece[value >> shift & mask].append(value)
    return cut, by_piece


def _candidates(value: int, pieces: Sequence[Pieces]) -> Iterator[int]:
    """Fingerprints that share a piece with the value; some more than once."""
    if all(value in by_piece.get(value >> shift & mask, ()) for (shift, mask), by_piece in pieces[:1]):
        yield value
        return
    for (shift, mask), by_piece in pieces:
        yield from by_piece.get(value >> shift & mask, ())
