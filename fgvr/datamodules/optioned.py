"""The photos of a shard set that options were mined for, each with its own."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from fgvr.datamodules.shard_source import ShardSource
from fgvr.errors import SampleError, UserError
from fgvr.options.deriving import Choice, read_options
from fgvr.shards.manifest import MANIFEST, load_manifest
from fgvr.shards.part import PartOfSet
from fgvr.shards.reading import ShardSet
from fgvr.sources.base import TRAINED_COHORTS, Record, Source
from fgvr.types import Example

NAMED = 3
log = logging.getLogger(__name__)


class Optioned(PartOfSet):
    """The samples with these numbers, whose options, best first, come along as `extra["options"]`."""

    def __init__(self, whole: ShardSet, numbers: Sequence[int], choices: Mapping[str, Choice]) -> None:
        super().__init__(whole, numbers)
        self.choices = [choices[self.uid(number)] for number in range(len(self))]

    @property
    def options(self) -> list[tuple[str, ...]]:
        """Those of each sample, the best first."""
        return [choice.options for choice in self.choices]

    @property
    def fingerprint(self) -> str:
        """That of the part, and of which options each of its samples has."""
        return hashlib.sha256(f"{super().fingerprint}|{self.options}".encode()).hexdigest()

    def read(self, number: int) -> Example:
        example = super().read(number)
        return replace(example, extra=example.extra | {"options": list(self.choices[number].options)})

    def renewed(self, choices: Mapping[str, Choice]) -> Optioned:
        """Those of these samples that have options among the `choices`, with these. Raises RuntimeError for a leak."""
        if leaked := held_out_names(self.whole, choices):
            raise RuntimeError(f"the held-out name {leaked[0]!r} must not enter training")
        return Optioned(self.whole, [number for number in self.numbers if self.whole.uid(number) in choices], choices)


def with_options(part: ShardSet | PartOfSet, file: Path) -> Optioned:
    """As `options_of`; says in the log how many samples these are."""
    found = options_of(part, file)
    log.info("%s: %d of %d photos to train on have options in %s.", found.whole.folder, len(found), len(part), file)
    return found


def options_of(part: ShardSet | PartOfSet, file: Path) -> Optioned:
    """The samples of a set, or of a part of it, that have options in a file of `python -m fgvr mine`.

    Raises UserError for options of test photos or of another set, where no sample
    has any, and where a name is among them whose class is held out of training.
    """
    head, choices = read_options(file)
    if head["split"] != "train":
        raise UserError(
            f"{file} must hold options to train on, but they are of {head['split']} photos: mine train ones"
        )
    whole, numbers = (part.whole, part.numbers) if isinstance(part, PartOfSet) else (part, range(len(part)))
    labels = whole.labels()
    of_set = {whole.uid(number): labels[number] for number in range(len(whole))}
    if strange := [uid for uid, choice in choices.items() if of_set.get(uid) != choice.label]:
        raise UserError(
            f"{file} must have options for the train split of {whole.folder}, but {len(strange)} of {len(choices)} "
            f"photos are not in it under their label, such as {strange[0]!r}: mine the options of this set"
        )
    _refuse_held_out(file, whole, choices)
    chosen = [number for number in numbers if whole.uid(number) in choices]
    if not chosen:
        raise UserError(f"{file} must have options for photos to train on, but it has none for these of {whole.folder}")
    return Optioned(whole, chosen, choices)


def check_options(
    train: Sequence[ShardSource], part: Callable[[ShardSource], ShardSet | PartOfSet], needed: bool
) -> None:
    """Raises UserError for options that cannot be trained on, and, where they are `needed`, for a set without any.

    `part` gives what is trained on of a packed set. Of one that is still to be packed the source is looked at.
    """
    for entry in train:
        packed = (Path(entry.path) / MANIFEST).is_file()
        if entry.options is not None:
            read_options(entry.options)
            if packed:
                options_of(part(entry), entry.options)
        elif needed and not (_brought(part(entry)) if packed else _told(entry.source)):
            raise UserError(
                f"choices are practised among options of each photo, but {entry.path} has none: mine them with `python "
                "-m fgvr mine`, and name its options.jsonl as the `options` of that set in data.train"
            )


def _brought(part: ShardSet | PartOfSet) -> bool:
    """Whether options were packed with the photos, as ChoiceJSON has them."""
    for number in range(len(part)):
        with suppress(SampleError):  # training itself names it
            if "options" in part.read(number).extra:
                return True
    return False


def _told(source: Source | None) -> bool:
    """Whether the source of a set that is still to be packed tells options."""
    records = source.records() if source is not None else ()
    return source is None or any(isinstance(one, Record) and "options" in one.extra for one in records)


def _refuse_held_out(file: Path, whole: ShardSet, choices: Mapping[str, Choice]) -> None:
    if leaked := held_out_names(whole, choices):
        raise UserError(
            f"no class that is held out of training may be an option there, but {file} has {', '.join(leaked[:NAMED])}"
            f"{', …' if len(leaked) > NAMED else ''}: derive the options with the scope base"
        )


def held_out_names(whole: ShardSet, choices: Mapping[str, Choice]) -> list[str]:
    """The names among the options whose classes are held out of training."""
    cohorts = load_manifest(whole.folder).cohorts
    held_out = {name for name, cohort in cohorts.items() if cohort not in TRAINED_COHORTS}
    return sorted({name for choice in choices.values() for name in choice.options} & held_out)
