"""Fingerprints of pictures, and which of many are near one another."""

from __future__ import annotations

import io
import random
import re

import pytest
from hostile import photo
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageOps

from fgvr.errors import UserError
from fgvr.shards.alike import BITS, apart, fingerprint, nearest, nearest_reference

FINGERPRINTS = st.lists(st.integers(0, 2**BITS - 1), max_size=6)


def test_bits_apart_by_hand() -> None:
    assert apart(0b1011, 0b0110) == 3  # 1011 ^ 0110 = 1101


def test_nearest_by_hand() -> None:
    # of 0b111: 0b110 is one bit away, 0b000 three; of the last the nearest is three bits away
    assert nearest([0b111, 1 << 63 | 1 << 40 | 1 << 20], [0b000, 0b110, 0b110], 2) == {0: (1, 1)}
    assert nearest([5], [5], 0) == {0: (0, 0)}
    assert nearest([5], [], 3) == {}


@given(
    known=FINGERPRINTS, flips=st.lists(st.integers(0, BITS - 1), max_size=7), distance=st.integers(0, 6), data=st.data()
)
def test_nearest_is_what_looking_at_every_pair_finds(known: list[int], flips: list[int], distance: int, data) -> None:
    asked = data.draw(FINGERPRINTS)
    for value in known:  # some that are near
        for flip in flips:
            value ^= 1 << flip
        asked.append(value)
    assert nearest(asked, known, distance) == nearest_reference(asked, known, distance)


def test_nearest_is_what_looking_at_every_pair_finds_of_many() -> None:
    """So many that pieces are few and may differ, and that pairs are compared in several parts."""
    draw = random.Random(0)
    known = [draw.getrandbits(64) & draw.getrandbits(64) for _ in range(3000)]
    asked = [value ^ 1 << draw.randrange(64) ^ 1 << draw.randrange(64) for value in known[:20]] + known[:2]
    for distance in (1, 9, 20):
        assert nearest(asked, known, distance) == nearest_reference(asked, known, distance)


def test_a_picture_encoded_anew_scaled_or_lightened_is_alike_and_another_is_not() -> None:
    one = Image.linear_gradient("L").rotate(30).convert("RGB")
    one.paste((200, 30, 40), (60, 60, 140, 200))
    stream = io.BytesIO()
    one.save(stream, "JPEG", quality=40)
    changed = [Image.open(stream), one.resize((97, 120)), ImageEnhance.Brightness(one).enhance(1.1)]
    assert all(apart(fingerprint(one), fingerprint(other)) <= 4 for other in changed)
    assert all(apart(fingerprint(one), fingerprint(other)) > 12 for other in (photo(3), ImageOps.flip(one)))


@pytest.mark.parametrize("distance", [-1, 64])
def test_a_distance_that_means_nothing_is_refused(distance: int) -> None:
    with pytest.raises(UserError, match=re.escape("audit.distance must be")):
        nearest([1], [1], distance)
