"""Which picture goes into which split, cohort and shard: decided from names and the seed before any picture is read."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from fgvr.errors import UserError
from fgvr.shards.manifest import FORMAT, SHOWN, canonical_json
from fgvr.shards.shelf import Item, Shelf, draw
from fgvr.shards.texts import control_complaint, refuse_names
from fgvr.sources.base import COHORTS, HELD_OUT_COHORTS, SPLITS, Record, Refusal, Source
from fgvr.taxonomy.reserved import refuse_figure_as_dataset
from fgvr.taxonomy.tree import Taxonomy

ClassSplit = Literal["seen-unseen", "base-novel"]


@dataclass(frozen=True)
class PackOptions:
    """What decides the contents of a shard set, besides its source. Raises UserError for a value out of range.

    `seed` draws the class split, the picture split, the few-shot subset and the order. `unseen` holds out a share of
    the classes (0.2) or a number of them (16); `class_split` base-novel takes the second half of the sorted labels
    instead. `k_shot` keeps that many training pictures of each class. `val` and `test` are shares of each class, for
    pictures to which the source gives no split. `samples_per_shard` are the pictures in one tar.
    """

    seed: int = 0
    unseen: int | float = 0
    class_split: ClassSplit = "seen-unseen"
    k_shot: int | None = None
    val: float = 0.1
    test: float = 0.1
    samples_per_shard: int = 1000

    def __post_init__(self) -> None:
        if self.unseen < 0 or (isinstance(self.unseen, float) and not self.unseen < 1):
            raise UserError(
                f"unseen must be a share of the classes below 1.0 or a whole number of them, got {self.unseen}"
            )
        if self.class_split not in ("seen-unseen", "base-novel"):
            raise UserError(f"class_split must be seen-unseen or base-novel, got {self.class_split!r}")
        if self.class_split == "base-novel" and self.unseen:
            raise UserError(
                f"unseen belongs to class_split seen-unseen (base-novel always halves), got {self.unseen}: drop it"
            )
        if self.k_shot is not None and self.k_shot < 1:
            raise UserError(f"k_shot must be at least 1 training picture per class, got {self.k_shot}")
        if not (0 <= self.val < 1 and 0 <= self.test < 1 and self.val + self.test < 1):
            raise UserError(f"val and test must be shares that leave some for training, got {self.val} and {self.test}")
        if not 1 <= self.samples_per_shard <= 100_000:
            raise UserError(f"samples_per_shard must be between 1 and 100,000, got {self.samples_per_shard}")


@dataclass(frozen=True)
class PlannedShard:
    """The samples of one shard in the order of the tar; some may still be refused when they are read.

    Each is made anew when it is reached: with a million of them, none is kept.
    """

    file: str
    split: str
    cohort: str
    items: Collection[Item]


@dataclass(frozen=True)
class Plan:
    """A whole packing, decided. `hash` covers every name, label, place and option: equal for equal packings only.

    `triplets` says by what measure partners were chosen, None where the source's own are kept or there are none.
    """

    hash: str
    taxonomy: Taxonomy
    cohorts: Mapping[str, str]
    shards: tuple[PlannedShard, ...]
    refused: tuple[Refusal, ...]
    notes: Mapping[str, int]
    triplets: Mapping[str, Any] | None = None

    @property
    def pictures(self) -> int:
        return sum(len(shard.items) for shard in self.shards)

    def items(self) -> Iterator[Item]:
        """All that is planned, in the order of the shards."""
        return (item for shard in self.shards for item in shard.items)

    def records(self, split: str) -> Iterator[Record]:
        """The pictures of one split, in the order of its shards."""
        return (item.record for shard in self.shards if shard.split == split for item in shard.items)


def make_plan(source: Source, options: PackOptions) -> Plan:
    """Raises UserError when the source has no usable record or a single class, when its cohorts and options disagree,
    when it is called like a figure, or when no task could be taught one of its names."""
    refuse_figure_as_dataset(source.dataset)
    taxonomy = source.taxonomy()
    refuse_names(taxonomy)
    shelf = Shelf(taxonomy.paths, options.seed)
    refused = fill(shelf, source, taxonomy)
    if not shelf:
        raise UserError(
            f"{source.dataset} must hold at least one labelled picture, but {len(refused)} were "
            f"refused{first_of_each_folder(refused)}"
        )
    if len(taxonomy.paths) == 1:
        beside = f", and {len(refused)} refused{first_of_each_folder(refused)}: mend these, or" if refused else ":"
        raise UserError(
            f"{source.dataset} must have at least two classes to tell apart, but it has {next(iter(taxonomy.paths))!r} "
            f"alone{beside} name the folder or the table that holds all classes, or list all of them in a "
            "taxonomy.yaml"
        )
    cohorts = class_cohorts(shelf, options)
    give_splits(shelf, cohorts, options)
    left_out = shelf.arrange(cohorts, options.k_shot)
    notes = {f"left out by k_shot {options.k_shot}": left_out} if left_out else {}
    shards = cut_into_shards(shelf, options)
    digest = _plan_hash(source, taxonomy, options, shards, refused)
    return Plan(digest, taxonomy, cohorts, shards, refused, notes)


def first_of_each_folder(refused: Sequence[Refusal]) -> str:
    """In brackets, the first refusal in each folder, as a folder may have been meant as a class."""
    firsts: dict[str, Refusal] = {}
    for refusal in refused:
        firsts.setdefault(refusal.sample.rpartition("/")[0], refusal)
    named = "; ".join(str(refusal) for refusal in list(firsts.values())[:SHOWN])
    more = f"; and {len(firsts) - SHOWN:,} more folders" if len(firsts) > SHOWN else ""
    return f" ({named}{more})" if named else ""


def sample_key(name: str) -> str:
    """A key of [a-z0-9_-] made of a record's name alone: its readable end and 12 digits of its hash."""
    stem = name.rsplit(".", 1)[0] if "." in name.rsplit("/", 1)[-1] else name
    slug = re.sub(r"[^a-z0-9_]+", "-", stem.lower())[-48:].strip("-_")
    return "-".join(part for part in (slug, hashlib.sha256(name.encode()).hexdigest()[:12]) if part)


def class_cohorts(shelf: Shelf, options: PackOptions) -> dict[str, str]:
    """On which side of the class split each label stands: as the source says, or halved, or held out by the seed.

    Halving follows CoOp: of the sorted labels the first half is base, the middle one of an odd number too.
    """
    labels = shelf.labels()
    given = _given_cohorts(shelf)
    if given:
        if options.unseen or options.class_split == "base-novel":
            raise UserError(
                "the source says itself which classes are held out: leave unseen and class_split as they are"
            )
        rest = "base" if set(given.values()) & {"base", "novel"} else "seen"
        return {label: given.get(label, rest) for label in labels}
    if options.class_split == "base-novel":
        base = math.ceil(len(labels) / 2)
        return {label: "base" if place < base else "novel" for place, label in enumerate(labels)}
    count = options.unseen if isinstance(options.unseen, int) else max(1, _share(options.unseen, len(labels)))
    count = int(count) if options.unseen else 0
    if count >= len(labels):
        raise UserError(
            f"unseen must leave at least one class to train on, got {options.unseen} of {len(labels)} classes"
        )
    held_out = set(sorted(labels, key=lambda label: draw(options.seed, "class", label))[:count])
    return {label: "unseen" if label in held_out else "seen" for label in labels}


def give_splits(shelf: Shelf, cohorts: Mapping[str, str], options: PackOptions) -> None:
    """Puts every record into a split.

    A record without a split gets one class by class, in an order drawn by the seed: the first `val` of the class to
    val, the next `test` to test, the rest to train; from three pictures on at least one to each. Held-out classes are
    divided among val and test alone. Where the source names splits but no val, `val` is taken out of its train, save
    records with partners: these are trained on, since the same photos stand among the partners of others.
    """
    named = shelf.given_splits()
    for label, free, train in shelf.classes():
        if cohorts[label] in HELD_OUT_COHORTS:
            both = options.val + options.test
            val = _at_least_one(options.val / both if both else 0.0, len(free))
            test = len(free) - val
        else:
            val = min(_at_least_one(options.val, len(free)), len(free) - 1)
            test = min(_at_least_one(options.test, len(free)), len(free) - 1 - val)
        shelf.give("val", free[:val])
        shelf.give("test", free[val : val + test])
        if named and "val" not in named:
            shelf.give("val", train[: min(_at_least_one(options.val, len(train)), len(train) - 1)])


def told_of_shares(plan: Plan, options: PackOptions) -> list[str]:
    """Which of the shares `val` and `test` have no say, as the source itself splits; not one left at its default that
    the source makes up for."""
    counts = {
        split: sum(len(shard.items) for shard in plan.shards if shard.split == split) for split in ("val", "test")
    }
    named: set[str | None] = set()
    divisible = False
    for record in (item.record for item in plan.items()):
        named.add(record.split)
        divisible |= record.split == "train" and not record.partners
    used = {"val": None in named or ("val" not in named and divisible), "test": None in named}
    told: list[str] = []
    for split, share, usual in (("val", options.val, PackOptions.val), ("test", options.test, PackOptions.test)):
        count = counts[split]
        if share and not used[split] and (share != usual or not count):
            told.append(
                f"the share {split} of {share} has no say: the source itself says what each picture is for, and "
                f"{f'{count:,} are' if count else 'none is'} for {split}"
            )
    return told


def cut_into_shards(shelf: Shelf, options: PackOptions) -> tuple[PlannedShard, ...]:
    """Shards by split and cohort, each a mixture of classes: the samples are ordered by a hash of seed and name."""
    return tuple(
        PlannedShard(f"{split}-{cohort}-{number:06d}.tar", split, cohort, part)
        for split, cohort, items in shelf.groups()
        for number, part in enumerate(items.cut(options.samples_per_shard))
    )


def fill(shelf: Shelf, source: Source, taxonomy: Taxonomy) -> tuple[Refusal, ...]:
    """Puts every usable record of a source on a shelf; the others, sorted."""
    refused: list[Refusal] = []
    for found in source.records():
        if isinstance(found, Refusal):
            refused.append(found)
            continue
        complaint, key = _complaint(found, taxonomy), sample_key(found.name)
        clash = shelf.put(found, key) if complaint is None else shelf.bar(found.name, key)
        if (reason := clash or complaint) is not None:
            refused.append(Refusal(found.name, found.name, reason))
    return tuple(sorted(refused, key=lambda refusal: (refusal.file, refusal.sample, refusal.reason)))


def _complaint(record: Record, taxonomy: Taxonomy) -> str | None:
    path = taxonomy.paths.get(record.label)
    if path is None:
        return f"its label {record.label!r} is not a class of the taxonomy"
    if path != tuple(record.path):
        return f"its path {list(record.path)} is not that of {record.label!r} in the taxonomy"
    if record.split not in (None, *SPLITS.values()):
        return f"split must be train, val or test, got {record.split!r}"
    if record.cohort not in (None, *COHORTS):
        return f"cohort must be one of {list(COHORTS)}, got {record.cohort!r}"
    if record.negative is not None and record.negative.label == record.label:
        return f"its negative must be of another class, but {record.negative.name} is of its own, {record.label!r}"
    if record.positive is not None and record.positive.label not in ("", record.label):
        return f"its positive must be of its own class, but {record.positive.name} is of {record.positive.label!r}"
    return control_complaint(record)


def _given_cohorts(shelf: Shelf) -> dict[str, str]:
    given: dict[str, str] = {}
    for name, label, cohort in shelf.given_cohorts():
        if given.setdefault(label, cohort) != cohort:
            raise UserError(
                f"a class must stand in one cohort, but {label!r} is {given[label]} and, at {name}, {cohort}: mend "
                "the source"
            )
    if {"seen", "base"} <= set(given.values()):
        raise UserError(
            f"what is trained on is called either seen or base, got {sorted(set(given.values()))}: use one of the names"
        )
    return given


def _share(share: float, count: int) -> int:
    return math.floor(share * count + 0.5)


def _at_least_one(share: float, count: int) -> int:
    return max(_share(share, count), int(share > 0 and count >= 3))


def _plan_hash(
    source: Source,
    taxonomy: Taxonomy,
    options: PackOptions,
    shards: Sequence[PlannedShard],
    refused: Sequence[Refusal],
) -> str:
    head: list[Any] = [FORMAT, source.dataset, source.describe(), taxonomy.to_dict(), asdict(options)]
    digest = hashlib.sha256(canonical_json(head))
    for refusal in refused:
        digest.update(canonical_json([refusal.file, refusal.sample, refusal.reason]))
    for shard in shards:
        digest.update(canonical_json([shard.file, len(shard.items)]))
        for item in shard.items:
            record = item.record
            partners = [[view, one.name, one.label] for view, one in record.partners.items()]
            told = [record.name, record.label, record.path, dict(record.extra), record.stamp]
            digest.update(canonical_json([*told, partners] if partners else told))
    return digest.hexdigest()
