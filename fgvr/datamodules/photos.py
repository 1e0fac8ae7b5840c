"""Photos to predict, as a data module is asked for them."""

from __future__ import annotations

from pathlib import Path

from fgvr.data.tasks import Task
from fgvr.errors import UserError
from fgvr.sources.photos import Photos, find_photos


def photos_for(task: Task, root: Path | None) -> Photos:
    """What to predict. Raises UserError when nothing was given, or when the task cannot ask without a label."""
    if root is None:
        raise UserError("predicting needs photos: give a folder of them, or one, with --data.init_args.predict PATH")
    if task.needs_label:
        raise UserError(
            f"photos without labels need a task that can ask without one, but {type(task).__name__} draws its options "
            "around the label: give --data.init_args.task fgvr.data.OpenWorld, or let it show all classes with "
            "--data.init_args.task.init_args.options all"
        )
    return find_photos(root)
