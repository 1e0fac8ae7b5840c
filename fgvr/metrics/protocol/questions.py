"""Closed-world questions for evaluation: which distractors, in which order, with or without the photo."""

from __future__ import annotations

import io
import random
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

from PIL import Image

from fgvr.data.closed_world import ClosedWorld
from fgvr.data.images import open_image
from fgvr.errors import SampleError
from fgvr.similarity import Ranking
from fgvr.similarity.base import differ
from fgvr.types import Example

Strength = Literal["random", "siblings", "hardest", "stored"]
STRENGTHS: tuple[str, ...] = get_args(Strength)
GREY = (128, 128, 128)


@dataclass(frozen=True)
class Questions:
    """Questions about photos, each a function of uid, strength and seed alone: never of a batch or its order.

    `task` is bound to the taxonomy, `classes` are those of each data set, `rankings` say of each data set's classes
    which are most like them. Distractors are the same under each seed, which decides their order only. No two options
    mean one class and none is an ancestor or a descendant of the label, so exactly one is right.

    - random: any classes of the photo's data set
    - siblings: those of one parent with the label, drawn; then its next nearest relatives
    - hardest: those that the ranking has first; then as siblings
    - stored: those that the example brings, as `ClosedWorld` takes them; of a label that stands there twice one is
      kept, one that is lacking takes the last place; without any, as siblings

    What had to be done about a list is counted in `notes`, per photo and strength.
    """

    task: ClosedWorld
    classes: Mapping[str, Collection[str]]
    rankings: Mapping[str, Ranking] = field(default_factory=dict[str, Ranking])

    def distractors(self, example: Example, strength: str, notes: Counter[str]) -> list[str]:
        """The names beside the label, at most one fewer than options. Raises SampleError where there are none."""
        most = int(self.task.options) - 1
        rng = random.Random(f"{strength} distractors of {example.uid}")
        found = self._first(example, strength, rng, notes)[:most]
        if len(found) < most:
            own = self.task.relatives(example, rng, len(self._taxonomy.paths))
            more = [name for name in own if name in self._pool(example) and name not in found]
            if found or strength != "siblings":
                notes[f"{strength}: filled up with relatives"] += bool(more)
            found = [*found, *more][:most]
        if not found:
            raise SampleError(f"{example.uid}: a choice needs a second class beside {example.label!r}, there is none")
        if len(found) < most:
            notes[f"{strength}: fewer options than asked for"] += 1
        return found

    def asked(self, example: Example, strength: str, seed: int | None, notes: Counter[str]) -> Example:
        """The example with the options `shown`: shuffled by seed and uid, or with None the label first, as released."""
        shown = [example.label, *self.distractors(example, strength, notes)]
        if seed is not None:
            random.Random(f"{seed} order of {example.uid}").shuffle(shown)
        return replace(example, extra=example.extra | {"shown": shown})

    @property
    def _taxonomy(self) -> Any:
        assert self.task.names is not None, "the task must be bound to the taxonomy"
        return self.task.names.taxonomy

    def _pool(self, example: Example) -> Collection[str]:
        return self.classes.get(example.dataset, self._taxonomy.paths)

    def _first(self, example: Example, strength: str, rng: random.Random, notes: Counter[str]) -> list[str]:
        taxonomy, label = self._taxonomy, example.label
        others = [name for name in sorted(self._pool(example)) if differ(taxonomy, label, name)]
        if strength == "random":
            rng.shuffle(others)
            return others
        if strength == "hardest":
            return [name for name, _ in self.rankings.get(example.dataset, {}).get(label, ()) if name in others]
        if strength == "stored" and "options" in example.extra:
            found = self.task.given(example)  # refuses what is no list of names
            times = sum(self.task.same(option, label) for option in example.extra["options"])
            notes["stored: the label was not among the options"] += times == 0
            notes["stored: the label was among the options more than once"] += times > 1
            notes["stored: an option was left out"] += len(found) < len(example.extra["options"]) - times
            return found
        if strength == "stored":
            notes["stored: no options were stored"] += 1
        parent = (taxonomy.root, *taxonomy.lineage[label])[-2]
        siblings = [name for name in others if (taxonomy.root, *taxonomy.lineage[name])[-2] == parent]
        if not siblings:
            notes[f"{strength}: a class without siblings"] += 1
        rng.shuffle(siblings)
        return siblings


def without_photo(example: Example) -> Example:
    """The example with a grey picture of the photo's size in its place. Raises SampleError for one that is broken."""
    data = io.BytesIO()
    Image.new("RGB", open_image(example.images[0], example.uid).size, GREY).save(data, "PNG")
    return replace(example, images=(data.getvalue(), *example.images[1:]))
