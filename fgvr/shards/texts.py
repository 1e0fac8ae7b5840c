"""What training will find in the texts of a source, said before a picture is packed."""

from __future__ import annotations

from collections.abc import Iterable

from fgvr.data.control_tokens import known_control_tokens_in, refuse_control_tokens
from fgvr.data.tasks import OpenWorld
from fgvr.errors import SampleError
from fgvr.sources.base import Record
from fgvr.taxonomy.tree import Taxonomy
from fgvr.types import Example

RESPONSES = "with a response to train on"  # in a manifest's notes


def refuse_names(taxonomy: Taxonomy) -> None:
    """Raises UserError for a name or a rank that no task could write, or that spells a control token."""
    refuse_control_tokens("a rank of the taxonomy", taxonomy.ranks)
    refuse_control_tokens("a name of the taxonomy", taxonomy.lineage)
    OpenWorld().bind(taxonomy)


def control_complaint(record: Record) -> str | None:
    """Why the text that a record brings for a task cannot be used, or None: it spells a control token."""
    for name in ("response", "options", "question", "system"):
        if spelt := known_control_tokens_in(str(record.extra.get(name, ""))):
            return f"its {name} must not spell a control token of the model's tokenizer, got {', '.join(spelt)}"
    return None


def has_response(record: Record) -> bool:
    return record.extra.get("response") is not None


def told_of_responses(training: Iterable[Record], taxonomy: Taxonomy) -> list[str]:
    """Sentences on the responses of the pictures to train on: how many, what teaches them, which cannot be taught."""
    task: OpenWorld | None = None
    first: tuple[str, str] | None = None  # by name
    pictures = responses = complaints = 0
    for pictures, record in enumerate(training, 1):  # noqa: B007  (the last one counts)
        if not has_response(record):
            continue
        responses += 1
        task = task or OpenWorld(think=True).bind(taxonomy)
        if (complaint := _complaint(record, task)) is not None:
            complaints += 1
            first = min(first or (record.name, complaint), (record.name, complaint))
    if not responses:
        return []
    told = f"{responses:,} of {pictures:,} pictures to train on have a response"
    said = [f"{told}: a task with think true teaches them (data.init_args.task.init_args.think), any other does not"]
    if first is not None:
        said.append(f"such a task cannot use {complaints:,} of these responses, the first: {first[1]}: mend them")
    return said


def _complaint(record: Record, task: OpenWorld) -> str | None:
    example = Example(record.name, (), record.label, record.path, "", "", "", {"response": record.extra["response"]})
    try:
        task.response(example)
    except SampleError as error:
        return str(error)
    return None
