"""Pictures that one shard set trains on and another is evaluated with: found by their hashes, no picture is read."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fgvr.errors import UserError
from fgvr.shards.columns import all_pictures
from fgvr.shards.manifest import Manifest, SampleEntry, ShardInfo, has_partners, load_index, load_manifest
from fgvr.shards.part import part_numbers

NAMED = 5
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SharedPicture:
    """One picture, byte for byte, in two sets: SPLIT/KEY of the sample trained on and of the one evaluated."""

    trained_in: Path
    trained: str
    evaluated_in: Path
    evaluated: str


@dataclass(frozen=True)
class Part:
    """Some splits and cohorts of the shard set in `folder`; `examples` of them as `part_of` takes them, or all."""

    folder: Path
    splits: tuple[str, ...]
    cohorts: tuple[str, ...]
    examples: int | None = None
    seed: int = 0

    def pictures(self) -> list[tuple[str, str]]:
        """SPLIT/KEY and the picture's hash of each sample; the log names a shard whose index cannot be read."""
        return [(f"{split}/{entry.key}", entry.picture) for split, entry in self._entries if entry.picture]

    @cached_property
    def hashes(self) -> NDArray[np.uint64] | None:
        """The beginnings of all pictures' hashes, sorted, of a part the others too; None where no columns tell them."""
        manifest = load_manifest(self.folder)
        return all_pictures(self.folder, manifest, self._shards(manifest))

    def partners(self) -> list[tuple[str, str]]:
        """As `pictures`, of the frozen positives (SPLIT/KEY.pos) and negatives."""
        if not has_partners(load_manifest(self.folder)):
            return []
        frozen = [(split, entry.key, one) for split, entry in self._entries for one in entry.partners]
        return [(f"{split}/{key}.{one.view}", one.picture) for split, key, one in frozen if one.picture]

    @cached_property
    def _entries(self) -> list[tuple[str, SampleEntry]]:
        manifest, entries, whole = load_manifest(self.folder), list[tuple[str, SampleEntry]](), True
        for shard in self._shards(manifest):
            try:
                entries += [(shard.split, entry) for entry in load_index(self.folder, shard)]
            except UserError as error:
                whole = False
                log.warning("the pictures of %s are not compared with those of other sets: %s", shard.file, error)
        if self.examples is not None and whole:
            numbers = part_numbers([entry.label for _, entry in entries], self.examples, self.seed)
            entries = [entries[number] for number in numbers]
        return entries

    def _shards(self, manifest: Manifest) -> list[ShardInfo]:
        return [shard for split in self.splits for shard in manifest.select(split, self.cohorts)]


def shared_pictures(trained: Sequence[Part], evaluated: Collection[Part]) -> list[SharedPicture]:
    """What two different folders share, sorted; within one folder packing has looked, and its manifest names it.

    Not so the frozen partners of what is trained on: these are compared within their folder too.
    """
    folders = {part.folder.resolve() for part in (*trained, *evaluated)}
    places: dict[str, list[tuple[Part, str]]] = {}
    partners: dict[str, list[tuple[Part, str]]] = {}
    for part in trained:
        for name, picture in part.pictures() if len(folders) > 1 and _may_share(part, evaluated) else ():
            places.setdefault(picture, []).append((part, name))
        for name, picture in part.partners():
            partners.setdefault(picture, []).append((part, name))
    if not places and not partners:
        return []
    found = [
        SharedPicture(other.folder, place, part.folder, name)
        for part in evaluated
        for name, picture in part.pictures()
        for other, place in places.get(picture, ())
        if other.folder.resolve() != part.folder.resolve()
    ] + [
        SharedPicture(other.folder, place, part.folder, name)
        for part in evaluated
        for name, picture in part.pictures()
        for other, place in partners.get(picture, ())
    ]
    return sorted(found, key=lambda one: (str(one.evaluated_in), one.evaluated, str(one.trained_in), one.trained))


def _may_share(part: Part, evaluated: Collection[Part]) -> bool:
    """False only where the columns alone show that no picture of the part is in another folder's."""
    own = part.hashes
    if own is None:
        return True
    others = [other.hashes for other in evaluated if other.folder.resolve() != part.folder.resolve()]
    return any(theirs is None or _meet(own, theirs) for theirs in others)


def _meet(one: NDArray[np.uint64], other: NDArray[np.uint64]) -> bool:
    """Whether two sorted arrays have a number in common."""
    few, many = sorted((one, other), key=len)
    places = np.searchsorted(many, few)
    within = places < len(many)
    return bool((many[places[within]] == few[within]).any())


def told(shared: Sequence[SharedPicture]) -> str:
    """How many pictures are in two sets, and the first of them by name."""
    named = [f"{one.evaluated} of {one.evaluated_in} is {one.trained} of {one.trained_in}" for one in shared[:NAMED]]
    more = f"; and {len(shared) - NAMED:,} more" if len(shared) > NAMED else ""
    count = len({(one.evaluated_in, one.evaluated) for one in shared})
    return f"{count:,} {'is' if count == 1 else 'are'}, byte for byte: {'; '.join(named)}{more}"
