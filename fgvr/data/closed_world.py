"""Choosing among names that are shown."""

from __future__ import annotations

import copy
import random
from collections.abc import Collection, Sequence
from dataclasses import replace
from itertools import repeat
from typing import Any, Literal

from fgvr.data.choosing import CONTRADICTION, LETTERS, NONE, chosen_option
from fgvr.data.control_tokens import refuse_control_tokens
from fgvr.data.tasks import Task, format_answer, parse_completion
from fgvr.errors import SampleError, UserError, refuse_no_share
from fgvr.taxonomy.names import Names
from fgvr.taxonomy.spelling import spelling
from fgvr.taxonomy.tree import Taxonomy
from fgvr.types import Answer, Example


class ClosedWorld(Task):
    """A choice among `options` names, one of them the label; answered by the name, or by a letter with `letters`.

    `question` is asked of each photo; with `think` the reply reasons before it answers, as a sample's stored
    response does where there is one.
    With `options` "all" every class of the taxonomy is an option, so that a photo without a label can be asked about.

    Distractors are `extra["options"]`, best first, where the example has them: the label takes the place of the last
    one that would be shown, unless it is among them itself. Without any they are classes drawn from the label's nearest
    relatives outward, so that siblings come first. Fewer are shown where there are no more. No two options mean the
    same class, and none is an ancestor or a descendant of the label, so exactly one is right. The order shown is what
    `prepare` drew, anew in each epoch and with the label as often in each place; on an example that was not prepared it
    is a function of `seed` and the uid alone. In split "train" no class is shown that `holding_out` was told of,
    wherever the options come from; "all" are then all others, and `extra["held_out"]` says how many of those given were
    left out. `within` a branch of the taxonomy no class outside it is shown; where none is left of
    those given, relatives are.

    With `told` false the prompt is that of `OpenWorld`: for a model that can answer no other. The options bound the
    answer all the same, for only one of them is a choice.

    With `none_of_these` above 0 that is the last option of every question, and right in that share of the questions of
    split "train", from which the label is left out; `options` does not count it.

    `parse` turns a letter or a synonym into the option's name, by the rules of `chosen_option`. A reply that names no
    single option ("A, B", "A or B", a name not shown) is returned as it was written, for the judge to find wrong; one
    whose letter stands with the name of another option, though either might be taken for right, is no answer.
    """

    def __init__(
        self,
        options: int | Literal["all"] = 4,
        letters: bool = False,
        question: str = "Which of these is shown in this photo?",
        think: bool = False,
        seed: int = 0,
        none_of_these: float = 0.0,
        told: bool = True,
    ) -> None:
        whole = isinstance(options, int) and not isinstance(options, bool)
        if options != "all" and not (whole and 2 <= options <= len(LETTERS)):
            raise UserError(f"options must lie between 2 and {len(LETTERS)} or be all, got {options}")
        refuse_no_share("task", none_of_these=none_of_these)
        if none_of_these and (options == "all" or (letters and options == len(LETTERS))):
            raise UserError(
                f"{NONE!r} needs an option that may be left out, and a letter of its own, got options {options}: show "
                "fewer, or set none_of_these to 0"
            )
        if not told and (letters or none_of_these):
            raise UserError("who is not told the options can answer neither by letter nor that it is none of these")
        refuse_control_tokens("the task's question", [question])
        self.options, self.letters, self.question, self.think, self.seed = options, letters, question, think, seed
        self.none_of_these, self.told = none_of_these, told
        self.needs_label = options != "all"
        self.members: dict[str, list[str]] = {}  # node to the classes at or below it
        self.held_out: frozenset[str] = frozenset()

    def bind(self, taxonomy: Taxonomy) -> ClosedWorld:
        classes = len(self.branch.classes if self.branch else taxonomy.paths)
        if self.options == "all" and self.letters and classes > len(LETTERS):
            raise UserError(
                f"letters go as far as {len(LETTERS)} options, but there are {classes} classes: leave them out"
            )
        bound = super().bind(taxonomy)
        bound.members = {node: [] for node in taxonomy.lineage}
        for label in sorted(taxonomy.paths):
            for node in (taxonomy.root, *taxonomy.lineage[label]):
                bound.members[node].append(label)
        return bound

    def holding_out(self, names: Collection[str]) -> ClosedWorld:
        copied = copy.copy(self)
        copied.held_out = frozenset(names)
        return copied

    def prepare(self, example: Example, rng: random.Random) -> Example:
        drawn: dict[str, Any] = {"shown": list(self._draw(example, rng))}
        if hidden := self._held_out_beside(example):
            given = () if self.options == "all" else example.extra.get("options", ())
            drawn["held_out"] = sum(self._class_of(option) in hidden for option in given)
        return replace(example, extra=example.extra | drawn)

    def shown(self, example: Example) -> tuple[str, ...]:
        """The options in the order in which the prompt lists them."""
        prepared = example.extra.get("shown")
        return tuple(prepared) if prepared else self._draw(example, random.Random(f"{self.seed}:{example.uid}"))

    def choices(self, example: Example) -> str:
        if not self.told:
            return ""
        marks = (f"{letter})" for letter in LETTERS) if self.letters else repeat("-")
        return "".join(f"{mark} {option}\n" for mark, option in zip(marks, self.shown(example), strict=False))

    def marks(self, shown: Sequence[str]) -> tuple[str, ...]:
        """What stands in the answer tag for each of the options."""
        return tuple(LETTERS[: len(shown)]) if self.letters else tuple(shown)

    def what_to_answer(self) -> str:
        if not self.told:
            return "the name"
        return "the letter of one option" if self.letters else "the name of one option"

    def target(self, example: Example, rng: random.Random) -> str:
        shown = self.shown(example)
        answer = self.marks(shown)[shown.index(right_option(shown, example.label))]
        return format_answer(answer, self.thought(example, example.label))

    def parse(self, text: str, example: Example | None = None) -> Answer | None:
        answer = parse_completion(text)
        if answer is None:
            return None
        if example is None:
            raise ValueError("a closed-world reply can only be read beside the options: pass the example")
        shown = self.shown(example)
        place = chosen_option(answer.text, shown, self.letters, self.same)
        if place == CONTRADICTION:
            return None
        return answer if place is None else Answer(shown[place], answer.thought)

    def same(self, text: str, option: str) -> bool:
        """Whether the two are names of one class."""
        return self._class_of(text) == self._class_of(option)

    def _class_of(self, text: str) -> str | tuple[str, ...]:
        """The class that a name means, or its spelling where the taxonomy has no such class."""
        node = self.names.find(text) if self.names else None
        return spelling(text) if node is None else node

    def _draw(self, example: Example, rng: random.Random) -> tuple[str, ...]:
        if self.options == "all":
            classes = sorted(self._bound().taxonomy.paths.keys() - self._not_beside(example))
            return tuple(rng.sample(classes, len(classes)))
        missing = bool(self.none_of_these) and example.split == "train" and rng.random() < self.none_of_these
        right = [] if missing else [example.label]
        most = int(self.options) - len(right)
        distractors = self.given(example) if "options" in example.extra else []
        if not distractors and ("options" not in example.extra or self.branch):
            distractors = self.relatives(example, rng, most)
        if not distractors:
            raise SampleError(f"{example.uid}: a choice needs a second class beside {example.label!r}, there is none")
        drawn = [*right, *distractors[:most]]
        rng.shuffle(drawn)
        return (*drawn, NONE) if self.none_of_these else tuple(drawn)

    def given(self, example: Example) -> list[str]:
        """The distractors among `extra["options"]`, one a class, the best first. SampleError unless they are names."""
        options = example.extra["options"]
        if not isinstance(options, (list, tuple)) or not all(isinstance(option, str) for option in options):
            raise SampleError(f"{example.uid}: options must be a list of names, got {options!r}")
        distinct: dict[str | tuple[str, ...], str] = {}
        hidden = self._not_beside(example)
        for option in options:
            named = spelling(option) and spelling(option) != spelling(NONE)
            apart = self._among(option, example.path) is None and not self._finer(option, example.label)
            if named and apart and self._class_of(option) not in hidden and self._stands_within(option):
                distinct.setdefault(self._class_of(option), option)
        return list(distinct.values())

    def _finer(self, option: str, label: str) -> bool:
        node = self.names.find(option) if self.names else None
        return self.names is not None and node is not None and self.names.taxonomy.is_ancestor(label, node)

    def _stands_within(self, option: str) -> bool:
        return self.branch is None or self._class_of(option) in self.branch.nodes

    def _not_beside(self, example: Example) -> frozenset[str]:
        """The classes that must not be shown: those outside the branch, and held-out ones in training."""
        return self._held_out_beside(example) | (self.branch.outside if self.branch else frozenset())

    def _held_out_beside(self, example: Example) -> frozenset[str]:
        """The held-out classes, which training must not show; an example's own label always may be shown."""
        return self.held_out - {example.label} if example.split == "train" else frozenset()

    def relatives(self, example: Example, rng: random.Random, most: int) -> list[str]:
        """Up to `most` classes from the label's nearest relatives outward, drawn among those of one distance."""
        taxonomy, label, hidden = self._bound().taxonomy, example.label, self._not_beside(example)
        relatives: list[str] = []
        for ancestor in (*reversed(taxonomy.lineage[label][:-1]), taxonomy.root):
            ring = [
                other
                for other in self.members[ancestor]
                if other not in relatives
                and other != label
                and other not in hidden
                and not taxonomy.is_ancestor(other, label)
                and not taxonomy.is_ancestor(label, other)
            ]
            rng.shuffle(ring)
            relatives += ring
            if len(relatives) >= most:
                break
        return relatives[:most]

    def _bound(self) -> Names:
        if self.names is None:
            raise ValueError("a choice draws its options from the taxonomy: call bind(taxonomy), use what it returns")
        return self.names


def right_option(shown: tuple[str, ...], label: str) -> str:
    """The option that is right: the label, or `NONE` where it is not among those shown."""
    return label if label in shown else NONE
