"""One checkpoint written by several processes: the parts of all are whole, or none of it is there."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fgvr.checkpoints.background import BackgroundWriter
from fgvr.checkpoints.format import Saving, hidden_name
from fgvr.checkpoints.manifest import FileRecord
from fgvr.checkpoints.plain_data import plain
from fgvr.checkpoints.sharded import part_of
from fgvr.ranks import Ranks

log = logging.getLogger(__name__)


def begin_together(checkpoint: dict[str, Any], path: Path, ranks: Ranks, rank: int) -> Saving:
    """This process's share of saving a checkpoint, of whose tensors each holds some rows. A collective call.

    All see one folder, which process 0 makes. Raises UserError on all of them.
    """
    part = ranks.agree(lambda: part_of(plain(checkpoint), rank))
    names = ranks.gather([hidden_name(path, "new").name] if rank == 0 else [])
    saving = Saving(path, path.with_name(names[0]), part)
    ranks.agree(lambda: saving.begin() if saving.leads else None)
    return saving


def complete_together(saving: Saving | None, write: Callable[[], dict[str, FileRecord]], ranks: Ranks) -> None:
    """Has each process `write` its files, and gives the checkpoint its name when all have. A collective call.

    None is the share of a process that writes nothing. A UserError of one is raised on all, and nothing is left then.
    """
    leads = saving is not None and saving.leads
    try:
        written = ranks.agree(write)
        files = dict(ranks.gather(list(written.items())))
        ranks.agree(lambda: saving.complete(files) if saving is not None and leads else None)
    except BaseException:
        if saving is not None and leads:
            saving.give_up()
        raise


class Background:
    """Has a run's checkpoints written while the training goes on, one at a time, by a process of its own for each.

    A save that was begun counts when `finish` has returned.
    """

    def __init__(self) -> None:
        self._writer: BackgroundWriter | None = None
        self._saving: Saving | None = None

    def prepare(self, room: int) -> None:
        """Starts the process, which takes seconds, and makes `room` bytes ready, so that the first save need not."""
        self._writer = self._writer or BackgroundWriter(room)

    def begin(self, saving: Saving) -> None:
        """Takes a copy of what is to be written, and returns."""
        self._saving = saving
        if self._writer is not None and self._writer.ended:  # it had nothing to do, so nothing is lost
            log.warning("The process that writes checkpoints has ended by itself; another takes its place.")
            self._writer.close()
            self._writer = None
        if not saving.part.is_empty:
            self.prepare(0)
            assert self._writer is not None
            self._writer.begin(saving)

    @property
    def done(self) -> bool:
        """Whether this process's part is on the disk, or refused by it."""
        return self._saving is None or self._saving.part.is_empty or (self._writer is not None and self._writer.done)

    def finish(self, ranks: Ranks) -> None:
        """Waits for the parts of all, then gives the checkpoint its name. A collective call.

        Raises UserError on all processes when the disk of one refused, with the sentence of a save at once.
        """
        saving, self._saving = self._saving, None
        writer = None if saving is None or saving.part.is_empty else self._writer
        complete_together(saving, lambda: {} if writer is None else writer.result(), ranks)

    def close(self) -> None:
        """Ends the process, in the middle of a save that was not finished."""
        if self._writer is not None:
            self._writer.close()
        if self._saving is not None and self._saving.leads:
            self._saving.give_up()
        self._writer = self._saving = None
