"""Which visual concepts of a class one photo shows, by mutual information (SelfSynthX, as Fine-R1 cites it)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
from jaxtyping import Float

from fgvr.models.text_encoder import TextEncoder

Encoder = Callable[[Sequence[str]], Float[np.ndarray, "n d"]]
WORDS = 4096  # places of the vectors that `count_words` makes
OTHERS = 256  # descriptions of other photos that a concept is held against, evenly from all


def scores(
    concepts: Float[np.ndarray, "z d"],
    descriptions: Float[np.ndarray, "n d"],
    others: Float[np.ndarray, "m d"],
    temperature: float = 0.1,
) -> Float[np.ndarray, " z"]:
    """How much each concept tells of a photo: sum over its descriptions d of
    log( exp(s(d, z) / t) / (exp(s(d, z) / t) + sum over descriptions d' of other photos of exp(s(z, d') / t)) ),
    a bound on the mutual information (InfoNCE). Rows are of length 1, so that s is the cosine; without others it is 0.
    """
    own = descriptions @ concepts.T / temperature
    against = others @ concepts.T / temperature
    rivals = np.logaddexp.reduce(against, axis=0) if len(others) else np.full(len(concepts), -np.inf)
    return (own - np.logaddexp(own, rivals)).sum(axis=0)


def rivals(described: Sequence[Float[np.ndarray, "n d"]], place: int) -> Float[np.ndarray, "m d"]:
    """Descriptions of all photos but the one at `place`, at most OTHERS of them, evenly from all; picked without a copy
    of the rest, as each of thousands of photos is held against the others."""
    sizes = np.array([0 if number == place else len(one) for number, one in enumerate(described)])
    ends = sizes.cumsum()
    count = int(ends[-1])
    picked = range(count) if count <= OTHERS else [number * count // OTHERS for number in range(OTHERS)]
    rows: list[np.ndarray] = []
    for number in picked:
        photo = int(np.searchsorted(ends, number, side="right"))
        rows.append(described[photo][number - ends[photo] + sizes[photo]])
    return np.stack(rows) if rows else np.zeros((0, described[place].shape[1]))


def select(found: Float[np.ndarray, " z"], width: float = 0.4, least: int = 3) -> list[int]:
    """Places of the concepts above mean + `width` standard deviations, best first; the `least` best if fewer are."""
    if not len(found):
        return []
    order = np.argsort(-found, kind="stable")
    above = int((found > found.mean() + width * found.std()).sum())
    return [int(place) for place in order[: max(above, min(least, len(found)))]]


def count_words(texts: Sequence[str]) -> Float[np.ndarray, "n d"]:
    """Vectors of length 1 that count words and pairs of words: no model is needed, and no synonym is known."""
    vectors = np.zeros((len(texts), WORDS))
    for row, text in enumerate(texts):
        words = re.findall(r"\w+", text.lower())
        for term in (*words, *map(" ".join, pairwise(words))):
            digest = hashlib.sha256(term.encode()).digest()
            vectors[row, int.from_bytes(digest[:4], "big") % WORDS] += 1
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(lengths > 0, lengths, 1)


def unit_rows(encode: TextEncoder) -> Encoder:
    """The same encoder with vectors of length 1; text by text, so that none has a say in another's by its length."""

    def encoded(texts: Sequence[str]) -> Float[np.ndarray, "n d"]:
        rows = np.concatenate([encode([text]).double().numpy() for text in texts])
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        return rows / np.where(lengths > 0, lengths, 1)

    return encoded
