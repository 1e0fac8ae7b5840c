"""The runs of a report with all that was read for it: photos, groups, the rows of two steps."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from fgvr.data.tasks import Task
from fgvr.datamodules.asked import task_of, wording
from fgvr.errors import SampleError, UserError
from fgvr.metrics.two_step_reading import Rows, read_rows, refuse_others
from fgvr.report.groups import Group, Kept, groups_of
from fgvr.report.photos import Photos
from fgvr.report.ran import Ran
from fgvr.taxonomy.tree import Taxonomy
from fgvr.types import Example

STEPS = re.compile(r"step-(\d+)\.jsonl")


@dataclass
class Subject:
    """A run, its shard sets, and at most `most` of its rollouts."""

    ran: Ran
    photos: Photos
    most: int
    remarks: list[str] = field(default_factory=list[str])

    @property
    def name(self) -> str:
        return self.ran.name

    @cached_property
    def taxonomy(self) -> Taxonomy | None:
        return self.photos.taxonomy

    @cached_property
    def kept(self) -> Kept:
        """The groups that are shown."""
        return groups_of(self.ran.sampled, self.most, self.taxonomy)

    @cached_property
    def two_steps(self) -> dict[str, Rows]:
        """The rows of two-step inference by what they are of: the first and the last weights, and a test."""
        files = sorted((self.ran.folder / "two_step").glob("step-*.jsonl"))
        files = [file for file in files if STEPS.fullmatch(file.name)]
        named = {f"step {int(file.stem.removeprefix('step-'))}": file for file in [*files[:1], *files[-1:]]}
        test = self.ran.folder / "two_step/test.jsonl"
        named |= {"test": test} if test.is_file() else {}
        found: dict[str, Rows] = {}
        for name, file in named.items():
            try:
                found[name] = read_rows(file)
            except UserError as error:
                self.remarks.append(f"{error}.")
        return found

    def before_and_after(self) -> tuple[Rows, Rows | None] | None:
        """The rows of validations at the beginning and the end, the second None where they cannot be compared."""
        of_steps = {name: rows for name, rows in self.two_steps.items() if name != "test"}
        if not of_steps:
            return None
        (first_name, first), *rest = of_steps.items()
        if not rest:
            return first, None
        last_name, last = rest[-1]
        try:
            refuse_others(Path(first_name), first, Path(last_name), last)
        except UserError as error:
            self.remarks.append(f"{error}.")
            return last, None
        return first, last

    @cached_property
    def practised(self) -> Task | None:
        """What the run was asked while it trained; None where its config does not say, or this version cannot tell."""
        settings = self.ran.data.get("train_task") or self.ran.data.get("task")
        try:
            task = task_of({"data": {"init_args": {"task": settings}}})
            return None if task is None or self.taxonomy is None else task.bind(self.taxonomy)
        except (UserError, ValueError):
            return None

    def asked(self) -> str:
        """The text beside a photo, without what is particular to one."""
        return wording(self.practised) if self.practised is not None else ""

    def asked_of(self, group: Group) -> str:
        """The text beside the photo of this group, its options in their order; empty where it is not known."""
        if self.practised is None:
            return ""
        extra: dict[str, Any] = {"shown": group.options} if group.options else {}
        example = Example(group.uid, (b"",), group.label, (), "train", "", "", extra)
        import random

        try:
            (message,) = self.practised.messages(example, random.Random(0))
            return "\n".join(part["text"] for part in message["content"] if part["type"] == "text")
        except (UserError, SampleError, ValueError, KeyError, TypeError):
            return ""


def subjects_of(runs: Sequence[Ran], data: Sequence[Path], most: int) -> list[Subject]:
    """Each run with its photos; the rollouts are shared out among the runs that have any."""
    having = max(1, sum(bool(ran.sampled) for ran in runs))
    return [Subject(ran, Photos.of(ran, data), max(1, most // having)) for ran in runs]
