"""What a packing did, added up shard by shard: the manifest, and the same splits as timm reads them."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from itertools import accumulate, groupby

from fgvr.shards.manifest import FORMAT, Leak, Manifest, ShardIndex, ShardInfo, dump_index, index_name
from fgvr.shards.plan import PackOptions, Plan, PlannedShard
from fgvr.shards.temporary import Temporary
from fgvr.sources.base import Refusal, Source

PICTURES = """
    CREATE TABLE pictures (hash BLOB, split TEXT, key TEXT, label TEXT);
    CREATE INDEX hashes ON pictures (hash);
"""
REPEATED = """
    SELECT hash, split, key, label FROM pictures
    WHERE hash IN (SELECT hash FROM pictures GROUP BY hash HAVING count(*) > 1) ORDER BY hash
"""


class Accounts:
    """Sums over the shards added so far; each picture's hash and key stand in a temporary file."""

    def __init__(self) -> None:
        self._shards: list[ShardInfo] = []
        self._refused: list[Refusal] = []
        self._notes: Counter[str] = Counter()
        self._counts: dict[str, Counter[str]] = defaultdict(Counter)
        self._widths: Counter[int] = Counter()
        self._heights: Counter[int] = Counter()
        self._pictures = Temporary(PICTURES)

    def add(self, shard: PlannedShard, index: ShardIndex) -> None:
        """Takes in one shard that is on the disk with its index."""
        self._shards.append(
            ShardInfo(
                file=shard.file,
                index_file=index_name(shard.file),
                split=shard.split,
                cohort=shard.cohort,
                samples=len(index.samples),
                size=index.size,
                sha256=index.sha256,
                index_sha256=hashlib.sha256(dump_index(index)).hexdigest(),
            )
        )
        self._refused.extend(index.refused)
        self._notes.update(index.notes)
        self._counts[shard.split].update(sample.label for sample in index.samples)
        for sample in index.samples:
            self._widths[sample.width] += 1
            self._heights[sample.height] += 1
            row = (bytes.fromhex(sample.picture), shard.split, sample.key, sample.label)
            self._pictures.ask("INSERT INTO pictures VALUES (?, ?, ?, ?)", row)

    def manifest(self, source: Source, options: PackOptions, plan: Plan, max_bad_share: float) -> Manifest:
        """The manifest of all that was added; accepted when the refused share is at most `max_bad_share`."""
        refused = sorted((*plan.refused, *self._refused), key=lambda one: (one.file, one.sample, one.reason))
        kept = sum(shard.samples for shard in self._shards)
        leaks, repeats = self._repeated_pictures()
        return Manifest(
            format=FORMAT,
            dataset=source.dataset,
            source=source.describe(),
            seed=options.seed,
            options={
                **asdict(options),
                "max_bad_share": max_bad_share,
                **({"triplets": dict(plan.triplets)} if plan.triplets is not None else {}),
            },
            taxonomy=plan.taxonomy.to_dict(),
            cohorts=plan.cohorts,
            counts={split: dict(sorted(found.items())) for split, found in self._counts.items()},
            shards=tuple(self._shards),
            refused=tuple(refused),
            notes=dict(self._notes + Counter(plan.notes) + Counter(repeats)),
            image_pixels={"width": _range(self._widths), "height": _range(self._heights)},
            accepted=kept > 0 and len(refused) <= max_bad_share * (kept + len(refused)),
            leaks=leaks,
            plan=plan.hash,
        )

    def contradictions(self) -> list[dict[str, str]]:
        """For each picture that stands under more than one label, byte for byte, the label of every key that has it."""
        labels = [{key: label for _, key, label in places} for _, places in self._repeated()]
        return [of_keys for of_keys in labels if len(set(of_keys.values())) > 1]

    def _repeated(self) -> Iterator[tuple[bytes, list[tuple[str, str, str]]]]:
        """The hash of each picture whose bytes occur more than once, with the split, key and label of each time."""
        for picture, rows in groupby(self._pictures.ask(REPEATED), key=lambda row: row[0]):
            yield picture, [(split, key, label) for _, split, key, label in rows]

    def _repeated_pictures(self) -> tuple[tuple[Leak, ...], Mapping[str, int]]:
        """Pictures whose bytes occur more than once: named where they stand in two splits, else only counted."""
        leaks: list[Leak] = []
        notes: Counter[str] = Counter()
        for picture, found in self._repeated():
            splits = {split for split, _, _ in found}
            if len(splits) > 1:
                leaks.append(Leak(picture.hex(), tuple(sorted(f"{split}/{key}" for split, key, _ in found))))
            notes["same picture again in its split"] += len(found) - len(splits)
        notes["same picture under two labels"] = len(self.contradictions())
        return tuple(sorted(leaks, key=lambda leak: leak.samples)), +notes


def timm_info(manifest: Manifest) -> dict[str, dict[str, dict[str, object]]]:
    """The splits, named SPLIT-COHORT, in the shape of timm's _info.json."""
    splits: dict[str, dict[str, object]] = {}
    for name in dict.fromkeys(f"{shard.split}-{shard.cohort}" for shard in manifest.shards):
        shards = [shard for shard in manifest.shards if f"{shard.split}-{shard.cohort}" == name]
        splits[name] = {
            "name": name,
            "filenames": [shard.file for shard in shards],
            "shard_lengths": [shard.samples for shard in shards],
            "num_samples": sum(shard.samples for shard in shards),
        }
    return {"splits": splits}


def _range(counts: Counter[int]) -> list[int]:
    """Least, median and greatest of what is counted; empty for nothing."""
    ordered = sorted(counts)
    ends = list(accumulate(counts[value] for value in ordered))
    return [ordered[0], ordered[bisect_right(ends, ends[-1] // 2)], ordered[-1]] if ordered else []
