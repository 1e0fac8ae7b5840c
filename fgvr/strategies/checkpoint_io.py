"""Whole checkpoints as lightning's strategies save and load them."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from lightning.fabric.plugins import CheckpointIO

from fgvr.checkpoints.format import (
    DamagedCheckpoint,
    checkpoints_in,
    read_checkpoint,
    read_manifest,
    remove_checkpoint,
    write_checkpoint,
)
from fgvr.errors import UserError

log = logging.getLogger(__name__)


class WholeCheckpointIO(CheckpointIO):
    """Gives lightning the functions of `fgvr.checkpoints`; loading falls back to an earlier one of the folder."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        write_checkpoint(checkpoint, Path(path))

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Always to the CPU and always tensors and plain data only, whatever the two options say."""
        path = Path(path)
        try:
            return read_checkpoint(path)
        except DamagedCheckpoint as damage:
            for earlier in _earlier(path):
                try:
                    checkpoint = read_checkpoint(earlier)
                except DamagedCheckpoint as other:
                    log.warning("%s", other)
                    continue
                log.warning("%s The checkpoint before it is used instead: %s.", damage, earlier)
                return checkpoint
            raise UserError(f"{damage} No earlier checkpoint in {path.parent} is whole either.") from damage

    def remove_checkpoint(self, path: str | Path) -> None:
        remove_checkpoint(Path(path))


def _earlier(path: Path) -> list[Path]:
    """Other checkpoints of the folder, newest first, none later than `path` if its step can still be told."""
    others = [other for other in reversed(checkpoints_in(path.parent)) if other != path]
    try:
        step = read_manifest(path).step
    except UserError:
        return others
    return [other for other in others if read_manifest(other).step <= step]
