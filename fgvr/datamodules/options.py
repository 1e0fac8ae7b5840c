"""Questions of choice whose options were mined: laid over shards from a file, so that none is packed anew."""

from __future__ import annotations

import hashlib
import logging
import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, TypeVar

from fgvr.data.tasks import Task
from fgvr.datamodules.base import ShardSource
from fgvr.datamodules.prompts import PromptData
from fgvr.errors import UserError
from fgvr.options.deriving import read_options
from fgvr.shards.loading import Encode
from fgvr.shards.part import PartOfSet
from fgvr.shards.reading import ShardSet
from fgvr.types import Example

T = TypeVar("T")
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class WithOptions(Generic[T]):
    """Gives an example the options of its dataset and uid, if there are any, then encodes it."""

    options: Mapping[tuple[str, str], tuple[str, ...]]
    encode: Encode[T]

    def __call__(self, example: Example, rng: random.Random) -> T:
        names = self.options.get((example.dataset, example.uid))
        if names is not None:
            example = replace(example, extra={**example.extra, "options": list(names)})
        return self.encode(example, rng)


class OptionData(PromptData):
    """Prompts to train on whose options are those of `options`: for each set of `train` a file, or null.

    The files are as `python -m fgvr mine` writes them. A photo that its set's file leaves out is not trained on; a set
    without a file keeps the options that its samples bring. The other options are `PromptData`'s. Raises UserError
    unless there are as many files as sets, for one that belongs to test, and for one of another set: none of its photos
    is there, or one has another label.
    """

    def __init__(
        self,
        train: list[ShardSource],
        task: Task | None = None,
        *,
        options: list[Path | None],
        **others: Any,
    ) -> None:
        super().__init__(train, task, **others)
        if len(options) != len(train):
            raise UserError(
                f"data.options must name a file, or null, for each of {len(train)} sets in train, got {len(options)}"
            )
        self.options = list(options)

    @cached_property
    def laid_over(self) -> dict[tuple[str, str], tuple[str, ...]]:
        """The options of all files, by dataset and uid. Raises UserError where two files have some for one photo."""
        found: dict[tuple[str, str], tuple[str, ...]] = {}
        for file in filter(None, self.options):
            head, choices = read_options(file)
            if head["split"] != "train":
                raise UserError(f"{file} must hold options to train on, but they are of {head['split']} photos")
            own = {(head["dataset"], uid): choice.options for uid, choice in choices.items()}
            if twice := sorted(found.keys() & own.keys()):
                raise UserError(
                    f"a photo must have options in one file, but {twice[0][1]} of {file} has some in another"
                )
            found |= own
        return found

    @cached_property
    def train_sets(self) -> list[ShardSet | PartOfSet]:  # pyright: ignore[reportIncompatibleVariableOverride]
        sets = super().train_sets
        return [one if file is None else self._asked(one, file) for one, file in zip(sets, self.options, strict=True)]

    def train_encode(self) -> Encode[Any]:
        return WithOptions(self.laid_over, super().train_encode())

    def fingerprint(self) -> dict[str, str]:
        files = [file and hashlib.sha256(Path(file).read_bytes()).hexdigest() for file in self.options]
        return {**super().fingerprint(), "options": str(files)}

    def _asked(self, whole: ShardSet | PartOfSet, file: Path) -> PartOfSet:
        choices = read_options(file)[1]
        labels = {entry.key: entry.label for entry in whole.entries()}
        strange = [uid for uid, choice in choices.items() if uid in labels and labels[uid] != choice.label]
        numbers = [number for number, uid in enumerate(labels) if uid in choices]
        if strange or not numbers:
            why = f"{strange[0]} has another label there" if strange else "none of its photos is there"
            raise UserError(
                f"{file} must hold options of the photos of {_folder(whole)}, but {why}: mine from that set"
            )
        log.info("%s: %d of %d photos to train on have options in %s.", _folder(whole), len(numbers), len(labels), file)
        if isinstance(whole, PartOfSet):
            return PartOfSet(whole.whole, [whole.numbers[number] for number in numbers])
        return PartOfSet(whole, numbers)


def _folder(whole: ShardSet | PartOfSet) -> Path:
    return whole.whole.folder if isinstance(whole, PartOfSet) else whole.folder
