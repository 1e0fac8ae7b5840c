"""Some samples of a shard set, as a set of their own: to learn from fewer photos than there are."""

from __future__ import annotations

import bisect
import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import accumulate, compress

from fgvr.errors import UserError
from fgvr.shards.manifest import SampleEntry
from fgvr.shards.order import key_of, spread_over_classes
from fgvr.shards.reading import ShardSet
from fgvr.types import Example


class PartOfSet:
    """The samples of `whole` with these numbers, numbered anew in their order. Raises UserError when there is none."""

    def __init__(self, whole: ShardSet, numbers: Sequence[int]) -> None:
        if not numbers:
            raise UserError(f"a part of {whole.folder} must have at least one sample, got none")
        self.whole, self.numbers = whole, tuple(sorted(numbers))

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def shard_sizes(self) -> tuple[int, ...]:
        """Samples per shard that has any, in the order of the numbers."""
        starts = [0, *accumulate(self.whole.shard_sizes)]
        counts = Counter(bisect.bisect_right(starts, number) for number in self.numbers)
        return tuple(counts[shard] for shard in sorted(counts))

    @property
    def fingerprint(self) -> str:
        """That of the whole set and of what was chosen."""
        return hashlib.sha256(f"{self.whole.fingerprint}|{self.numbers}".encode()).hexdigest()

    @property
    def dataset(self) -> str:
        return self.whole.dataset

    def entries(self) -> Iterator[SampleEntry]:
        """As `ShardSet.entries`."""
        chosen = set(self.numbers)
        return compress(self.whole.entries(), (number in chosen for number in range(len(self.whole))))

    def labels(self) -> list[str]:
        """As `ShardSet.labels`."""
        labels = self.whole.labels()
        return [labels[number] for number in self.numbers]

    def uid(self, number: int) -> str:
        return self.whole.uid(self.numbers[number])

    def read(self, number: int) -> Example:
        """As `ShardSet.read`."""
        return self.whole.read(self.numbers[number])

    def close(self) -> None:
        self.whole.close()


def part_of(whole: ShardSet, examples: int, seed: int) -> PartOfSet:
    """So many samples, spread over the classes as evenly as can be; which ones belongs to the seed.

    A smaller part is contained in a larger one of the same seed. Raises UserError when the set has fewer.
    """
    if not 1 <= examples <= len(whole):
        raise UserError(
            f"{whole.folder} has {len(whole)} {whole.split} samples, so examples must lie between 1 and that, got "
            f"{examples}"
        )
    return PartOfSet(whole, part_numbers(whole.labels(), examples, seed))


def part_numbers(labels: Sequence[str], examples: int, seed: int) -> list[int]:
    """The numbers of the samples that `part_of` takes, by the labels of all."""
    return spread_over_classes(labels, examples, key_of(seed, "part"))
