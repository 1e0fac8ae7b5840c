"""What shard sets that are used together hold: how many of what, what stands in them twice, and what looks alike."""

from __future__ import annotations

import re
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cache
from itertools import chain
from multiprocessing import get_context
from pathlib import Path

from fgvr.data.images import open_image
from fgvr.errors import SampleError, UserError
from fgvr.shards.alike import fingerprint, nearest
from fgvr.shards.manifest import load_index, load_manifest
from fgvr.shards.reading import ShardSet
from fgvr.sources.base import TRAINED_COHORTS

PART = 64  # pictures that a process reads at a time


@dataclass(frozen=True, slots=True)
class Seen:
    """A picture of a set: its place there, the sha256 of its bytes, and its fingerprint where it was read.

    `number` counts within the split and cohort, as `ShardSet.read` does.
    """

    folder: Path
    split: str
    cohort: str
    number: int
    key: str
    label: str
    picture: str
    width: int
    height: int
    fingerprint: int | None = None

    @property
    def is_trained(self) -> bool:
        return self.split == "train" and self.cohort in TRAINED_COHORTS

    def __str__(self) -> str:
        return f"{self.split}/{self.key} of {self.folder}"


@dataclass(frozen=True)
class Copies:
    """One picture, byte for byte, in several places."""

    places: tuple[Seen, ...]

    @property
    def leaks(self) -> bool:
        """Whether it is trained on and evaluated with."""
        return len({place.is_trained for place in self.places}) > 1

    @property
    def contradicts(self) -> bool:
        """Whether it stands under several labels."""
        return len({place.label for place in self.places}) > 1


@dataclass(frozen=True)
class Likeness:
    """A picture to evaluate with that looks like one that is trained on, `bits` of their fingerprints apart."""

    evaluated: Seen
    trained: Seen
    bits: int


@dataclass(frozen=True)
class Sizes:
    """Least, median and greatest width and height, and the shares that a pixel budget makes smaller and larger."""

    width: tuple[int, float, int]
    height: tuple[int, float, int]
    shrunk: float
    enlarged: float


def pictures_of(folders: Sequence[Path]) -> list[Seen]:
    """Every picture of the sets, from their indexes. Raises UserError for a folder that is none, or named twice."""
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise UserError(f"each shard set must be named once, got {', '.join(map(str, folders))}: leave the other out")
    found: list[Seen] = []
    for folder in folders:
        counts = Counter[tuple[str, str]]()
        for shard in load_manifest(folder).shards:
            place = shard.split, shard.cohort
            for entry in load_index(folder, shard):
                size = entry.width, entry.height
                found.append(Seen(folder, *place, counts[place], entry.key, entry.label, entry.picture, *size))
                counts[place] += 1
    return found


def with_fingerprints(
    pictures: Sequence[Seen], workers: int, progress: Callable[[int, int], None] = lambda done, planned: None
) -> tuple[list[Seen], list[str]]:
    """The pictures with their fingerprints, and a sentence for each that cannot be read, which has none.

    `workers` processes read them, 0 this one alone.
    """
    found, unread = list[Seen](), list[str]()
    parts = [pictures[start : start + PART] for start in range(0, len(pictures), PART)]
    with ExitStack() as stack:
        read: Iterable[list[Seen | str]] = map(_read, parts)
        if workers:
            pool = stack.enter_context(ProcessPoolExecutor(workers, get_context("forkserver")))
            read = pool.map(_read, parts)
        for done, (before, one) in enumerate(zip(pictures, chain.from_iterable(read), strict=True), 1):
            if isinstance(one, str):
                unread.append(one)
            found.append(before if isinstance(one, str) else one)
            progress(done, len(pictures))
    return found, unread


@cache
def _opened(folder: Path, split: str, cohort: str) -> ShardSet:
    return ShardSet(folder, split, (cohort,))


def _read(pictures: Sequence[Seen]) -> list[Seen | str]:
    return [_with_fingerprint(one) for one in pictures]


def _with_fingerprint(one: Seen) -> Seen | str:
    try:
        data = _opened(one.folder, one.split, one.cohort).read(one.number).images[0]
        return replace(one, fingerprint=fingerprint(open_image(data, str(one))))
    except SampleError as error:
        return str(error)


def copies_among(pictures: Iterable[Seen]) -> list[Copies]:
    """Pictures that stand in several places, byte for byte: what leaks first, then what has several labels."""
    places: dict[str, list[Seen]] = defaultdict(list)
    for one in pictures:
        if one.picture:
            places[one.picture].append(one)
    found = [Copies(tuple(group)) for group in places.values() if len(group) > 1]
    return sorted(found, key=lambda one: (not one.leaks, not one.contradicts))


def likenesses_among(pictures: Sequence[Seen], distance: int) -> list[Likeness]:
    """Pictures to evaluate with that look like one trained on and are no copy of it, the nearest first."""
    known = [one for one in pictures if one.is_trained and one.fingerprint is not None]
    copied = {one.picture for one in known}
    asked = [
        one
        for one in pictures
        if not one.is_trained and one.fingerprint is not None and not (one.picture and one.picture in copied)
    ]
    found = nearest([one.fingerprint or 0 for one in asked], [one.fingerprint or 0 for one in known], distance)
    pairs = [Likeness(asked[place], known[other], bits) for place, (other, bits) in found.items()]
    return sorted(pairs, key=lambda pair: pair.bits)


def sizes_of(pictures: Sequence[Seen], least: int, most: int) -> Sizes:
    """Of at least one picture; `least` and `most` are pixels of the budget (width times height)."""
    widths, heights = [one.width for one in pictures], [one.height for one in pictures]
    areas = [one.width * one.height for one in pictures]
    spread = [(min(values), statistics.median(values), max(values)) for values in (widths, heights)]
    shares = (sum(area > most for area in areas), sum(area < least for area in areas))
    return Sizes(spread[0], spread[1], *(count / len(areas) for count in shares))


def counts_of(pictures: Iterable[Seen]) -> Mapping[str, Counter[str]]:
    """Pictures of each label, by split."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for one in pictures:
        counts[one.label][one.split] += 1
    return counts


def named_after_label(pictures: Iterable[Seen]) -> list[Seen]:
    """Pictures whose file is named after their class, as their keys show: whoever sees the name knows the answer.

    A key is made of folders and file, so in a set of class folders the name must stand in it twice.
    """
    folders: dict[Path, int] = {}
    words: dict[str, str] = {}
    found: list[Seen] = []
    for one in pictures:
        if one.folder not in folders:
            folders[one.folder] = 2 if load_manifest(one.folder).source.get("kind") == "ImageFolder" else 1
        if one.label not in words:
            words[one.label] = _plain(one.label)
        if words[one.label] and _plain(one.key).count(words[one.label]) >= folders[one.folder]:
            found.append(one)
    return found


def _plain(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
