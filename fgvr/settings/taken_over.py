"""What a run takes over from the run whose checkpoint it starts from, and what is said when it asks something else."""

from __future__ import annotations

import logging
import pydoc
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from fgvr.datamodules.asked import task_of, task_settings, wording
from fgvr.datamodules.base import ShardDataModule
from fgvr.errors import UserError
from fgvr.models import Trained
from fgvr.modules.base import PolicyModule

TASK, BACKBONE = "data.init_args.task", "model.init_args.policy.backbone"

log = logging.getLogger(__name__)


def take_over_task(config: Namespace, checkpoint: Path | None = None) -> None:
    """Puts the task of the run it starts from into a config that leaves its own out; other configs stay as they are.

    `checkpoint` is one of the run's own, where it has begun already.

    Raises UserError when that run's checkpoint is missing or damaged, or does not say what the run was asked.
    """
    if TASK not in config or config[TASK] is not None or BACKBONE not in config:
        return
    kind = pydoc.locate(config[BACKBONE].class_path)
    if not isinstance(kind, type) or not issubclass(kind, Trained):
        return
    start = kind(**config[BACKBONE].init_args.as_dict())
    start.go_on_from(checkpoint)
    task = task_settings(start.settings)
    if task is None:
        raise UserError(f"{start.path} does not say what its run was asked: give {TASK} in the config.")
    config[TASK] = task


def say_another_task(model: Any, data: Any) -> None:
    """Warns of a run that asks otherwise than the run whose weights it starts from."""
    if not isinstance(model, PolicyModule) or not isinstance(data, ShardDataModule):
        return
    start = model.policy_config.backbone
    taught = task_of(start.settings) if isinstance(start, Trained) else None
    if taught is not None and wording(taught) != wording(data.task):
        log.warning(
            "This run asks %r, but %s was taught to answer %r, so its first replies may be of no use: leave %s out to "
            "ask the same.",
            wording(data.task),
            start.path,  # pyright: ignore[reportAttributeAccessIssue]
            wording(taught),
            TASK,
        )
