"""Whole checkpoints as lightning's strategies save and load them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from lightning.fabric.plugins import CheckpointIO

from fgvr.checkpoints.format import (
    DamagedCheckpoint,
    Saving,
    checkpoints_in,
    hidden_name,
    read_checkpoint,
    read_manifest,
    remove_checkpoint,
    write_checkpoint,
)
from fgvr.checkpoints.plain_data import plain
from fgvr.checkpoints.sharded import Part
from fgvr.errors import UserError
from fgvr.ranks import of_all_ranks
from fgvr.strategies.saving import Background

log = logging.getLogger(__name__)


class WholeCheckpointIO(CheckpointIO):
    """Gives lightning the functions of `fgvr.checkpoints`; loading falls back to an earlier one of the folder.

    A save whose `storage_options` are a `Background` goes on there, and is to be finished there.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        path = Path(path)
        if not isinstance(storage_options, Background):
            write_checkpoint(checkpoint, path)
            return
        saving = Saving(path, hidden_name(path, "new"), Part(plain(checkpoint)))
        saving.begin()
        storage_options.begin(saving)

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Always to the CPU and always tensors and plain data only, whatever the two options say. A collective call."""
        return load_together(Path(path), read_checkpoint)

    def remove_checkpoint(self, path: str | Path) -> None:
        remove_checkpoint(Path(path))


def load_together(path: Path, read: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
    """The checkpoint as `read` has it, or the latest before it that all processes can read. A collective call.

    Raises UserError when there is none.
    """
    checkpoint, said = _read_together(path, read)
    if checkpoint is not None:
        return checkpoint
    for earlier in of_all_ranks([list(_earlier(path))])[0]:
        checkpoint, other = _read_together(earlier, read)
        if checkpoint is not None:
            log.warning("%s The checkpoint before it is used instead: %s.", said, earlier)
            return checkpoint
        log.warning("%s", other)
    raise UserError(f"{said} No earlier checkpoint in {path.parent} is whole either.")


def _read_together(path: Path, read: Callable[[Path], dict[str, Any]]) -> tuple[dict[str, Any] | None, str]:
    """A checkpoint, or None and what the first process says that cannot read it."""
    checkpoint, own = None, []
    try:
        checkpoint = read(path)
    except DamagedCheckpoint as damage:
        own = [str(damage)]
    told = of_all_ranks(own)
    return (None, told[0]) if told else (checkpoint, "")


def _earlier(path: Path) -> Iterator[Path]:
    """Other checkpoints of the folder, newest first, none later than `path` if its step can still be told."""
    others = [other for other in reversed(checkpoints_in(path.parent)) if other != path]
    try:
        step = read_manifest(path).step
    except UserError:
        return iter(others)
    return (other for other in others if read_manifest(other).step <= step)
