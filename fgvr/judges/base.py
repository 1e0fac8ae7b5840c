"""What a judge is, and the one way in which replies are parsed and judged, in training and in evaluation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from fgvr.data.tasks import Task
from fgvr.taxonomy.tree import Taxonomy
from fgvr.types import Answer, Example, Verdict

J = TypeVar("J", bound="Judge")


@dataclass(frozen=True)
class Judgement:
    """A verdict; `node` is the taxonomy's name for what the answer was understood as, None where it was not.

    `distribution` holds the probabilities of the verdicts (they sum to 1), where a judge has them. `several` says that
    the answer gave more names than one, which is WRONG whatever they are.
    """

    verdict: Verdict
    node: str | None = None
    distribution: Mapping[Verdict, float] | None = None
    several: bool = False


@dataclass(frozen=True)
class Unjudged:
    """Stands where no verdict could be had, with the reason, for the log. It is no verdict and must not become one.

    `outage` is the number of the outage of the judge's server that is to blame, 0 where it is something else.
    """

    reason: str
    outage: int = 0


class Judge(ABC):
    """Says of (label, answer) pairs how the answer relates to the label. It never sees the photo.

    Where it cannot say, it returns `Unjudged` or raises; it never gives a verdict in place of a failure.
    """

    remote = False  # True: it spends its time waiting, so that threads may ask it side by side, while others compute

    def bind(self: J, taxonomy: Taxonomy) -> J:
        """A judge for the classes of this taxonomy; the judge itself where it needs none."""
        return self

    def check(self) -> None:
        """Raises UserError when the judge cannot work as it is set up. Called once before a long piece of work."""
        return

    @abstractmethod
    def verdicts(self, pairs: Sequence[tuple[str, str]]) -> Sequence[Judgement | Unjudged]:
        """One entry per pair of (label, answer as written), in order."""

    def tally(self) -> dict[str, int]:
        """What was done since this was last asked, as counts by name ("judge/requests"); empty for a local judge."""
        return {}

    def release(self) -> None:
        """Lets go of connections and threads; the next call opens them again."""
        return


@dataclass(frozen=True)
class Judged:
    """One reply and what was made of it.

    `answer` is None when the reply did not parse, `judgement` then too, and also where the judge could not say:
    `unjudged` is the reason of that.
    """

    example: Example
    completion: str
    answer: Answer | None
    judgement: Judgement | None
    unjudged: str | None = None


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
    found = iter(judge.verdicts(pairs))
    return [
        _judged(task, example, text, answer, next(found) if answer else None)
        for example, text, answer in zip(examples, completions, answers, strict=True)
    ]


def _judged(
    task: Task, example: Example, text: str, answer: Answer | None, found: Judgement | Unjudged | None
) -> Judged:
    """A judge without a taxonomy says no node: it is then the label, or what the task's taxonomy has by that name."""
    if isinstance(found, Unjudged):
        return Judged(example, text, answer, None, found.reason)
    if answer is not None and found is not None and found.node is None:
        named = task.names.find(answer.text) if task.names else None
        found = replace(found, node=example.label if found.verdict == Verdict.SPECIFIC else named)
    return Judged(example, text, answer, found)
