"""A shard set as a data module is given it, and what it must not share with those that are evaluated on."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fgvr.errors import UserError, refuse_below
from fgvr.shards.leaks import Part, shared_pictures, told
from fgvr.shards.manifest import load_manifest
from fgvr.shards.plan import PackOptions
from fgvr.sources.base import COHORTS, TRAINED_COHORTS, Source

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ShardSource:
    """A shard set to train on, its weight in the mixture, and how to pack it when the folder holds none yet.

    `path` is the set's folder; `weight` is in proportion to its size, 1 for each sample once an epoch. A set that is
    there must be the one that `source` and `pack` ask for. Without `pack` any options will do for it; a new set is
    packed with the default ones and the data module's seed. `examples` are to be learned from, spread over the classes;
    None takes all. `options` is a file of `python -m fgvr mine`: only photos that have options there are trained on,
    and a `ClosedWorld` task shows these. Raises UserError for a weight or a number of examples that takes none.
    """

    path: Path
    weight: float = 1.0
    source: Source | None = None
    pack: PackOptions | None = None
    examples: int | None = None
    options: Path | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.weight) and self.weight > 0):
            raise UserError(f"data.train.weight must be above 0, got {self.weight}: leave {self.path} out instead")
        refuse_below(1, "data.train", examples=self.examples)


def held_out_classes(train: Sequence[ShardSource], folders: Sequence[Path]) -> frozenset[str]:
    """The classes of these sets that none of `train` has photos of to train on."""
    known = {name for folder in folders for name in load_manifest(folder).cohorts}
    trained = [load_manifest(Path(entry.path)).cohorts for entry in train]
    return frozenset(known - {name for of in trained for name, cohort in of.items() if cohort in TRAINED_COHORTS})


def refuse_leaks(train: Sequence[ShardSource], evaluated: Sequence[Path], seed: int, allow: bool) -> None:
    """Raises UserError when a set trains on pictures that another one has in val or test; only says so with `allow`.

    The partners that are frozen beside pictures to train on must not be in val or test of their own set either.
    """
    trained = [Part(Path(entry.path), ("train",), TRAINED_COHORTS, entry.examples, seed) for entry in train]
    shared = shared_pictures(trained, [Part(folder, ("val", "test"), COHORTS) for folder in evaluated])
    if shared and not allow:
        raise UserError(
            f"no picture of val or test may be trained on, but {told(shared)}. Take them out of one of the sets and "
            "pack it again, or set data.init_args.allow_leaks to true to evaluate on them all the same"
        )
    if shared:
        log.warning("of the pictures of val and test in other sets' train split: %s", told(shared))
