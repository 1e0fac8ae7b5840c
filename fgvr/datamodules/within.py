"""What a stream reads of its shard sets when it is to stay within a branch of the taxonomy."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from fgvr.datamodules.shard_source import ShardSource
from fgvr.errors import UserError
from fgvr.shards.manifest import load_manifest
from fgvr.shards.order import FixedOrder, key_of, spread_over_classes
from fgvr.shards.part import PartOfSet, part_numbers, part_of
from fgvr.shards.reading import ShardSet
from fgvr.sources.base import TRAINED_COHORTS
from fgvr.taxonomy.branch import Branch, branch_of, inside
from fgvr.taxonomy.tree import Taxonomy

log = logging.getLogger(__name__)


def branch_for(taxonomy: Taxonomy, within: str | None) -> Branch | None:
    """The branch that a setting names, None for none; says in the log how many classes are left."""
    if within is None:
        return None
    branch = branch_of(taxonomy, within)
    log.info("Within %s: %d of %d classes.", branch.node, len(branch.classes), len(taxonomy.paths))
    return branch


def trained_part(entry: ShardSource, branch: Branch | None, max_bad_share: float, seed: int) -> ShardSet | PartOfSet:
    """What is trained on of a packed set: the `examples` asked for, of the branch alone.

    Raises UserError where the set has none, or too few.
    """
    whole = ShardSet(Path(entry.path), "train", TRAINED_COHORTS, max_bad_share)
    if branch is None:
        return whole if entry.examples is None else part_of(whole, entry.examples, seed)
    labels = whole.labels()
    numbers = inside(labels, branch)
    if len(numbers) < (entry.examples or 1):
        raise UserError(
            f"{whole.folder} must have {entry.examples or 1} photos to train on within {branch.node!r}, it has "
            f"{len(numbers)}: take a name above it, or another shard set"
        )
    log.info("%s: %d of %d photos to train on are within %s.", whole.folder, len(numbers), len(labels), branch.node)
    if entry.examples is not None:
        chosen = part_numbers([labels[number] for number in numbers], entry.examples, seed)
        numbers = [numbers[place] for place in chosen]
    return PartOfSet(whole, numbers)


def evaluated(folder: Path, split: str, cohort: str, branch: Branch | None) -> int:
    """How many photos of a set are evaluated; the manifest knows it where nothing is left out."""
    count = load_manifest(folder).samples(split, (cohort,))
    return count if branch is None or not count else len(inside(ShardSet(folder, split, (cohort,)).labels(), branch))


def order_within(
    sets: Sequence[ShardSet], branch: Branch | None, most: int | None, split: str, cohort: str, seed: int
) -> FixedOrder:
    """Which samples of the sets are evaluated: of the branch, at most so many, evenly over the classes."""
    places = [(n, sample) for n, shard_set in enumerate(sets) for sample in range(len(shard_set))]
    labels = [label for shard_set in sets for label in shard_set.labels()]
    kept = inside(labels, branch)
    if branch is not None:
        log.info("Within %s: %d of %d photos of %s %s.", branch.node, len(kept), len(labels), split, cohort)
    chosen = spread_over_classes([labels[place] for place in kept], most, key_of(seed, split, cohort))
    return FixedOrder(tuple(places[kept[index]] for index in chosen))
