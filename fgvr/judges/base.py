"""What a judge is, and the one way in which replies are parsed and judged, in training and in evaluation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from fgvr.data.tasks import Task
from fgvr.data.taxonomy import Taxonomy
from fgvr.types import Answer, Example, Verdict

J = TypeVar("J", bound="Judge")


@dataclass(frozen=True)
class Judgement:
    """A verdict; `node` is the taxonomy's name for what the answer was understood as, None where it was not.

    `distribution` holds the probabilities of the verdicts (they sum to 1), where a judge has them.
    """

    verdict: Verdict
    node: str | None = None
    distribution: Mapping[Verdict, float] | None = None


class Judge(ABC):
    """Says of (label, answer) pairs how the answer relates to the label. It never sees the photo.

    A judge that cannot say raises; it never returns a verdict in place of a failure.
    """

    def bind(self: J, taxonomy: Taxonomy) -> J:
        """A judge for the classes of this taxonomy; the judge itself where it needs none."""
        return self

    @abstractmethod
    def verdicts(self, pairs: Sequence[tuple[str, str]]) -> list[Judgement]:
        """One judgement per pair of (label, answer as written), in order."""


@dataclass(frozen=True)
class Judged:
    """One reply and what was made of it; `answer` and `judgement` are None together, when the reply did not parse."""

    example: Example
    completion: str
    answer: Answer | None
    judgement: Judgement | None


def judge_completions(
    task: Task, judge: Judge, examples: Sequence[Example], completions: Sequence[str]
) -> list[Judged]:
    """Parses and judges one completion per example, in order. Raises ValueError when their numbers differ."""
    if len(examples) != len(completions):
        raise ValueError(
            f"there must be one completion per example, got {len(completions)} for {len(examples)} examples"
        )
    answers = [task.parse(text, example) for text, example in zip(completions, examples, strict=True)]
    pairs = [(example.label, answer.text) for example, answer in zip(examples, answers, strict=True) if answer]
    judgements = iter(judge.verdicts(pairs))
    return [
        Judged(example, text, answer, next(judgements) if answer else None)
        for example, text, answer in zip(examples, completions, answers, strict=True)
    ]
