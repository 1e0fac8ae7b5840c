"""The order in which samples are seen: a pure function of (seed, epoch), so any place in it can be reached at once.

No rank, worker count or world size enters it. Sorting by hashed keys stands in for a library's random permutation,
whose stream may change from one version to the next and would break a run resumed after an upgrade.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fgvr.errors import UserError

WINDOW = 4096

Ints = NDArray[np.int64]


class Order(Protocol):
    """Says which sample stands at each position of an epoch."""

    def __len__(self) -> int: ...

    def epoch(self, epoch: int) -> tuple[Ints, Ints]:
        """The set and the sample within it at every position, two arrays of len(self)."""
        ...

    @property
    def fingerprint(self) -> str:
        """Equal for equal orders only."""
        ...


def key_of(*parts: int | str) -> int:
    """A 64-bit key that depends on every part; the same on every machine and in every version."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def hashed(key: int, count: int) -> NDArray[np.uint64]:
    """`count` pseudo-random 64-bit numbers that belong to a key (splitmix64, so each can be had on its own)."""
    state = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(key)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


def permutation(key: int, count: int) -> Ints:
    """0 … count-1 in an order that belongs to the key."""
    return _ascending(hashed(key, count))


def _ascending(keys: NDArray[np.uint64]) -> Ints:
    """Where the keys stand in ascending order, equal ones as they came: a stable argsort along the last axis.

    numpy's other sort is several times as fast, and no two keys of 64 bits are ever equal; if they are, the stable one.
    """
    places = np.argsort(keys, axis=-1)
    ordered = np.take_along_axis(keys, places, axis=-1)
    if (ordered[..., 1:] == ordered[..., :-1]).any():
        return np.argsort(keys, axis=-1, kind="stable")
    return places


def shuffled(key: int, shards: Sequence[int], window: int) -> Ints:
    """All samples of a set once: shards in random order, then samples in random order within windows of that.

    `shards` are samples per shard, `window` is in samples. Reading stays within a few shards at a time, so that a set
    on a network disk is read nearly in sequence; a set no larger than the window is permuted as a whole.
    """
    count = sum(shards)
    if count <= window:
        return permutation(key, count)
    samples, keys = _shards_shuffled(key, shards), hashed(key, count)
    whole = count // window * window
    windows = _ascending(keys[:whole].reshape(-1, window)) + np.arange(0, whole, window)[:, None]
    return samples[np.concatenate([windows.ravel(), _ascending(keys[whole:]) + whole])]


def shuffled_reference(key: int, shards: Sequence[int], window: int) -> Ints:
    """The same by one sort over everything: the slow twin."""
    count = sum(shards)
    if count <= window:
        return np.argsort(hashed(key, count), kind="stable")
    return _shards_shuffled(key, shards)[np.lexsort((hashed(key, count), np.arange(count) // window))]


def _shards_shuffled(key: int, shards: Sequence[int]) -> Ints:
    """The samples shard after shard, the shards in random order."""
    starts = [0, *itertools.accumulate(shards)]
    by_shard = permutation(key_of(key, "shards"), len(shards)).tolist()
    return np.concatenate([np.arange(starts[shard], starts[shard + 1]) for shard in by_shard])


@dataclass(frozen=True)
class ShuffledOrder:
    """Epochs of training: every set an endless run of permutations, the sets interleaved at random.

    `shards[s]` are the samples per shard of set s. Without `epoch_length` an epoch takes round(weight * size) samples
    of each set, so weight 1 is each sample exactly once; with it, `epoch_length` samples shared out by weight. Each
    epoch goes on where the one before it stopped, so no sample comes a second time before every other of its set came
    once. Raises UserError when a weight is not positive or a set would get no sample.
    """

    seed: int
    shards: tuple[tuple[int, ...], ...]
    weights: tuple[float, ...]
    epoch_length: int | None = None
    window: int = WINDOW

    def __post_init__(self) -> None:
        if self.window < 1:
            raise UserError(f"the shuffle window must be at least 1 sample, got {self.window}: leave it at {WINDOW}")
        if len(self.weights) != len(self.shards) or not self.shards:
            raise UserError(
                f"every shard set needs one weight, got {len(self.shards)} sets, {len(self.weights)} weights"
            )
        for number, (weight, size) in enumerate(zip(self.weights, self.sizes, strict=True)):
            if not 0 < weight < float("inf") or size == 0:
                raise UserError(
                    f"a shard set to train on must have samples and a positive weight, but set {number} has {size} "
                    f"samples and weight {weight}: leave it out"
                )
        if 0 in self.shares:
            raise UserError(
                f"every shard set must give at least one sample to an epoch, but the shares are {self.shares}: "
                "raise its weight or epoch_length"
            )

    @property
    def sizes(self) -> tuple[int, ...]:
        """Samples per set."""
        return tuple(sum(shards) for shards in self.shards)

    @cached_property
    def shares(self) -> tuple[int, ...]:
        """How many samples of each set every epoch takes."""
        if self.epoch_length is None:
            return tuple(round(weight * size) for weight, size in zip(self.weights, self.sizes, strict=True))
        exact = [self.epoch_length * weight / sum(self.weights) for weight in self.weights]
        shares = [int(share) for share in exact]
        by_remainder = sorted(range(len(exact)), key=lambda number: shares[number] - exact[number])
        for number in by_remainder[: self.epoch_length - sum(shares)]:
            shares[number] += 1
        return tuple(shares)

    def __len__(self) -> int:
        return sum(self.shares)

    def epoch(self, epoch: int) -> tuple[Ints, Ints]:
        sets = np.repeat(np.arange(len(self.shares)), self.shares)
        if len(self.shares) > 1:
            sets = sets[permutation(key_of(self.seed, "interleave", epoch), len(sets))]
        samples = np.empty(len(sets), dtype=np.int64)
        for number, share in enumerate(self.shares):
            samples[sets == number] = self._stream(number, epoch * share, share)
        return sets, samples

    def _stream(self, number: int, start: int, count: int) -> Ints:
        size = self.sizes[number]
        cycles = range(start // size, (start + count - 1) // size + 1)
        joined = np.concatenate(
            [_cycle(key_of(self.seed, "set", number, cycle), self.shards[number], self.window) for cycle in cycles]
        )
        offset = start - cycles.start * size
        return joined[offset : offset + count]

    @property
    def fingerprint(self) -> str:
        described = [self.seed, self.shards, self.weights, self.epoch_length, self.window]
        return hashlib.sha256(json.dumps(described).encode()).hexdigest()


@lru_cache(maxsize=4)
def _cycle(key: int, shards: tuple[int, ...], window: int) -> Ints:
    return shuffled(key, shards, window)


def each_once(order: ShuffledOrder, epoch: int = 0) -> bool:
    """Whether an epoch holds every sample of every set exactly once."""
    sets, samples = order.epoch(epoch)
    if len(samples) != sum(order.sizes):
        return False
    places = np.array([0, *itertools.accumulate(order.sizes)])[sets] + samples
    return bool((np.bincount(places, minlength=len(places)) == 1).all())


@dataclass(frozen=True)
class FixedOrder:
    """The same places, in the same order, in every epoch: `places` are (set, sample)."""

    places: tuple[tuple[int, int], ...]

    def __len__(self) -> int:
        return len(self.places)

    def epoch(self, epoch: int) -> tuple[Ints, Ints]:
        table = np.array(self.places, dtype=np.int64).reshape(-1, 2)
        return table[:, 0], table[:, 1]

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(json.dumps(self.places).encode()).hexdigest()


def spread_over_classes(labels: Sequence[str], count: int | None, seed: int) -> list[int]:
    """Which samples to evaluate: one of each class, then a second of each, and so on, until there are `count`.

    Any prefix of the answer is as evenly spread as it can be. None takes all. The choice within a class and the order
    of classes belong to the seed.
    """
    codes: dict[str, int] = {}
    of = np.fromiter((codes.setdefault(label, len(codes)) for label in labels), np.int64, len(labels))
    by_chance = permutation(key_of(seed, "evaluate"), len(labels))
    by_class = by_chance[np.argsort(of[by_chance], kind="stable")]  # within each class as the seed has it
    sizes = np.bincount(of, minlength=len(codes))
    turns = np.empty(len(labels), dtype=np.int64)
    turns[by_class] = np.arange(len(labels)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    own = np.array([key_of(seed, label) for label in codes], dtype=np.uint64)
    ranked = np.lexsort((np.arange(len(labels)), own[of] if len(labels) else own, turns))
    return ranked[:count].tolist()


def spread_over_classes_reference(labels: Sequence[str], count: int | None, seed: int) -> list[int]:
    """The same, sample by sample: the slow twin."""
    keys = hashed(key_of(seed, "evaluate"), len(labels))
    turns: dict[str, int] = {}
    ranked: list[tuple[int, int, int]] = []
    for index in np.argsort(keys, kind="stable").tolist():
        label = labels[int(index)]
        turns[label] = turns.get(label, -1) + 1
        ranked.append((turns[label], key_of(seed, label), int(index)))
    return [index for _, _, index in sorted(ranked)][:count]
