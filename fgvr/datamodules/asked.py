"""What a run asks of its photos, out of its settings; and whether two runs ask alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser, Namespace

from fgvr.data.tasks import Task
from fgvr.errors import UserError


def task_settings(settings: Mapping[str, Any]) -> Namespace | None:
    """The task as a whole run's settings name it (`data`, `init_args`, `task`, as in its yaml), for another config.

    None where they name none. Raises UserError for one that this version does not have.
    """
    task = ((settings.get("data") or {}).get("init_args") or {}).get("task")
    return _parsed(task) if task else None


def task_of(settings: Mapping[str, Any]) -> Task | None:
    """The task itself that `task_settings` finds."""
    found = task_settings(settings)
    return None if found is None else _made(found)


def read_task(settings: Any) -> Task:
    """The task that a yaml's `class_path` and `init_args` say. Raises UserError for one that this version has not."""
    return _made(_parsed(settings))


def _parsed(task: Any) -> Namespace:
    try:
        return _parser().parse_object({"task": task}).task
    except (ArgumentError, TypeError, ValueError) as error:
        raise UserError(f"the run's task must be one of this version's, but {task} cannot be read: {error}") from error


def _made(task: Namespace) -> Task:
    return _parser().instantiate(Namespace(task=task)).task


def _parser() -> ArgumentParser:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--task", type=Task)
    return parser


def wording(task: Task) -> str:
    """The text beside a photo, without what is particular to one example: the question and the form of the reply."""
    return f"{task.question} {task.instruction()}"
