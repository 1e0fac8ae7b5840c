"""What a run takes over from the run whose checkpoint it starts from, and what is said when it asks something else."""

from __future__ import annotations

import logging
import pydoc
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fgvr.checkpoints.format import read_manifest
from fgvr.data.tasks import Task
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


def say_another_task(model: Any, data: Any, evaluated: Path | None = None) -> None:
    """Warns of a run that asks otherwise than what it was taught: of the run whose weights it starts from, or of the
    checkpoint that is `evaluated`.
    """
    if not isinstance(model, PolicyModule) or not isinstance(data, ShardDataModule):
        return
    start = model.policy_config.backbone
    if evaluated is not None:
        taught, by = _task_in(read_manifest(evaluated).fingerprint), evaluated
        instead = f"give {TASK} as that run had it"
    elif isinstance(start, Trained):
        taught, by, instead = task_of(start.settings), start.path, f"leave {TASK} out"
    else:
        return
    if taught is not None and wording(taught) != wording(data.task):
        log.warning(
            "This run asks %r, but %s was taught to answer %r, so its %sreplies may be of no use: %s to ask the same.",
            wording(data.task),
            by,
            wording(taught),
            "" if evaluated else "first ",
            instead,
        )


def _task_in(fingerprint: Mapping[str, Any]) -> Task | None:
    """The task among a checkpoint's settings, which its manifest has under their full keys; None where it is unclear.

    So the weights, which hold the settings as well, are read once and not twice.
    """
    flat = {key: value for key, value in (fingerprint.get("config") or {}).items() if key.startswith(f"{TASK}.")}
    nested = OmegaConf.create()
    try:
        for key, value in flat.items():
            OmegaConf.update(nested, key, value, force_add=True)
        settings: Any = OmegaConf.to_container(nested)
        return task_of(settings)
    except (UserError, OmegaConfBaseException):  # of another version, or with keys that hold dots themselves
        return None
