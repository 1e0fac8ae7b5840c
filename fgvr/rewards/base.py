"""What a reward is, and the group of replies that it scores."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

from fgvr.taxonomy.tree import Taxonomy
from fgvr.types import Answer, Example, Verdict


@dataclass(frozen=True)
class AnsweredGroup:
    """The G completions of one example, as text and as the task parsed them; each list has G entries.

    `answers` are None where a reply broke the grammar. `lengths` are in tokens, the end token included. `truncated`
    says that the length limit ended a completion, `epoch` which showing of the example it is. A reward that judges
    leaves its `verdicts` here, for people to see: one per completion, None for one without an answer. Raises ValueError
    when the lists differ in length.
    """

    example: Example
    texts: list[str]
    answers: list[Answer | None]
    lengths: list[int]
    truncated: list[bool]
    epoch: int = 0
    verdicts: list[Verdict | None] = field(default_factory=list["Verdict | None"])

    def __post_init__(self) -> None:
        sizes = [len(self.texts), len(self.answers), len(self.lengths), len(self.truncated)]
        if len(set(sizes)) > 1:
            raise ValueError(
                f"{self.example.uid}: texts, answers, lengths and truncated must have one entry per completion, "
                f"got {sizes}"
            )

    def __len__(self) -> int:
        return len(self.texts)


class Reward(ABC):
    """Scores whole groups, so that a completion may be compared with its siblings.

    None is for a completion that the reward has no opinion of, or could not have one; a failure is never scored.
    """

    remote = False  # True: it spends its time waiting, so that threads may ask it side by side, while others compute

    def bind(self, taxonomy: Taxonomy) -> Self:
        """A reward for the classes of this taxonomy; the reward itself where it needs none."""
        return self

    @abstractmethod
    def score(self, groups: Sequence[AnsweredGroup]) -> list[list[float | None]]:
        """One list per group, one entry per completion, in order."""

    def own_advantages(self, groups: Sequence[AnsweredGroup]) -> list[list[float]]:
        """Advantages of the reward's own, added to those that come of comparing scores within the group; here zeros."""
        return [[0.0] * len(group) for group in groups]

    def check(self) -> None:
        """Raises UserError when the reward cannot work as it is set up. Called once before training."""
        return

    def tally(self) -> dict[str, int]:
        """What was done since this was last asked, as counts by name; see `rollouts.figures` for how they are shown."""
        return {}

    def release(self) -> None:
        """Lets go of connections and threads; the next call opens them again."""
        return
