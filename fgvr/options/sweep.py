"""How often the right name is among the first m of K replies, for every K and m, out of replies that are there."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

from fgvr.options.store import Made, Sampled
from fgvr.options.votes import by_votes, canonical

DRAWS = 20  # subsets of the replies of each photo
RESAMPLES = 1000  # of the photos
COVERAGE = 0.95


@dataclass(frozen=True)
class Cell:
    """K replies a photo, of which the m most named become options.

    `recall` is the share of all photos whose label is an option, within `low` and `high`, a percentile interval of
    bootstrap samples of the photos, of the exact binomial width where it is 0 or 1. `guessed` is how many one would get
    right by choosing blindly among the options, `recall` what one would who always chose right: step 2 lies between.
    `options` are there on average, at a cost of `tokens` sampled tokens a photo.
    """

    k: int
    m: int
    recall: float
    low: float
    high: float
    guessed: float
    options: float
    tokens: float


@dataclass(frozen=True)
class _Cast:
    """The replies of one photo that may become votes: (name or None, log-prob, tokens) of each."""

    uid: str
    label: str
    replies: tuple[tuple[str | None, float, int], ...]

    def place(self, k: int, draw: int, seed: int) -> tuple[int, int, int]:
        """The label's place among the names that k replies give (-1: nowhere), how many, at what tokens."""
        chosen = self.replies
        if k < len(chosen):
            chosen = random.Random(f"{seed} {k} of {self.uid} {draw}").sample(chosen, k)
        found: dict[str, list[float]] = defaultdict(list)
        for name, logprob, _ in chosen:
            if name is not None:
                found[name].append(logprob)
        names = [one.name for one in by_votes(found)]
        tokens = sum(length for _, _, length in chosen)
        return (names.index(self.label) if self.label in names else -1), len(names), tokens


def sweep(
    made: Made,
    photos: Sequence[Sampled],
    ms: Sequence[int],
    scope: Collection[str] | None = None,
    seed: int = 0,
    ks: Sequence[int] = (),
) -> list[Cell]:
    """A cell for each K and m, by K. K is 1, 2, 4, ... and all replies, unless `ks` says otherwise.

    Fewer replies than there are stand for a shorter mining: DRAWS subsets of each photo's, whose mean is taken. A photo
    that was refused counts as missed. Raises ValueError without photos.
    """
    if not photos:
        raise ValueError("a sweep needs photos, got none")
    most = max(len(photo.replies) for photo in photos)
    ks = ks or sorted({most} | {2**power for power in range(most.bit_length()) if 2**power < most})
    casts = [_cast(made, photo, scope) for photo in photos]
    return [cell for k in ks for cell in _cells(casts, k, ms, 1 if k >= most else DRAWS, seed)]


def _cast(made: Made, photo: Sampled, scope: Collection[str] | None) -> _Cast:
    named = [None if reply.answer is None else canonical(reply.answer, made.names) for reply in photo.replies]
    kept = [name if scope is None or name in scope else None for name in named]
    replies = zip(kept, photo.replies, strict=True)
    return _Cast(photo.uid, photo.label, tuple((name, reply.logprob, reply.tokens) for name, reply in replies))


def _cells(casts: Sequence[_Cast], k: int, ms: Sequence[int], draws: int, seed: int) -> list[Cell]:
    places = np.array([[cast.place(k, draw, seed) for draw in range(draws)] for cast in casts])  # photos, draws, 3
    at, names, tokens = places[..., 0], places[..., 1], places[..., 2]
    weights = np.random.default_rng([seed, k]).multinomial(len(casts), np.full(len(casts), 1 / len(casts)), RESAMPLES)
    cells: list[Cell] = []
    for m in ms:
        hit: Bool[ndarray, "P D"] = (at >= 0) & (at < m)
        shown = np.minimum(names, m)
        each: Float[ndarray, " P"] = hit.mean(1)
        low, high = np.quantile(weights @ each / len(casts), ((1 - COVERAGE) / 2, (1 + COVERAGE) / 2))
        seldom = 1 - ((1 - COVERAGE) / 2) ** (1 / len(casts))  # what may well happen never in so many photos
        low, high = min(low, 1 - seldom if (each == 1).all() else 1.0), max(high, seldom if (each == 0).all() else 0.0)
        guessed = np.where(hit, 1 / np.maximum(shown, 1), 0.0).mean()
        figures = (each.mean(), low, high, guessed, shown.mean(), tokens.mean())
        cells.append(Cell(k, m, *(round(float(figure), 6) for figure in figures)))
    return cells
