"""Several questions about the same photos, so that a model learns to answer each of them."""

from __future__ import annotations

import copy
import random
from dataclasses import replace
from typing import Any

from fgvr.data.tasks import Task
from fgvr.errors import UserError
from fgvr.taxonomy.tree import Taxonomy
from fgvr.types import Answer, Example

ASKED = "asked"  # which of the tasks was drawn, in an example's extra


class Several(Task):
    """One of `tasks` for each showing of a photo, all as likely: a model that was taught one question may fail others.

    Meant for training, as a data module's `train_task`. An example that was not prepared is asked the first. Raises
    UserError for fewer than two tasks.
    """

    def __init__(self, tasks: list[Task]) -> None:
        if len(tasks) < 2:
            raise UserError(f"several tasks are two or more, got {len(tasks)}: give the one task itself")
        self.tasks = list(tasks)
        self.question, self.think = tasks[0].question, any(task.think for task in tasks)
        self.needs_label = any(task.needs_label for task in tasks)

    @property
    def questions(self) -> list[str]:
        return [question for task in self.tasks for question in task.questions]

    def bind(self, taxonomy: Taxonomy) -> Several:
        bound = super().bind(taxonomy)
        bound.tasks = [task.bind(taxonomy) for task in self.tasks]
        return bound

    def opened(self, opening: str) -> Several:
        copied = copy.copy(self)
        copied.tasks = [task.opened(opening) for task in self.tasks]
        return copied

    def prepare(self, example: Example, rng: random.Random) -> Example:
        number = rng.randrange(len(self.tasks))
        prepared = self.tasks[number].prepare(example, rng)
        return replace(prepared, extra=prepared.extra | {ASKED: number})

    def images(self, example: Example) -> tuple[bytes, ...]:
        return self._of(example).images(example)

    def messages(self, example: Example, rng: random.Random) -> list[dict[str, Any]]:
        return self._of(example).messages(example, rng)

    def what_to_answer(self) -> str:
        return self.tasks[0].what_to_answer()

    def target(self, example: Example, rng: random.Random) -> str:
        return self._of(example).target(example, rng)

    def parse(self, text: str, example: Example | None = None) -> Answer | None:
        return (self.tasks[0] if example is None else self._of(example)).parse(text, example)

    def _of(self, example: Example) -> Task:
        return self.tasks[example.extra.get(ASKED, 0)]
