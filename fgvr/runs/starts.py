"""How often in a row a run began at the same step, so that a job which is queued again and again comes to an end."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from fgvr.checkpoints.format import read_object
from fgvr.errors import AGAIN, Unfinished, UserError
from fgvr.runs.folder import RunFolder, Start
from fgvr.signals import SAID, Stop
from fgvr.whole_files import sealed, write_whole

FILE = "starts.json"
OF_THE_JOB = (AGAIN, SAID[Stop.TERM][1])  # ends that say nothing of whether the run comes forward

log = logging.getLogger(__name__)


@contextmanager
def counted_start(run: RunFolder, start: Start) -> Iterator[None]:
    """Within it a start at a step counts, and is forgotten once the run is ended by its user, or by its own end.

    Raises UserError where `run.restarts` starts have followed a first one at that step, and forgets them: the next
    start is a first one again. Does nothing without `run.restarts`.
    """
    if run.restarts is None:
        yield
        return
    _count(run, start.manifest.step if start.manifest else 0, run.restarts)
    try:
        yield
    except (UserError, KeyboardInterrupt):
        _forget(run)
        raise
    except Unfinished as stop:
        if stop.exit_code not in OF_THE_JOB:
            _forget(run)
        raise
    _forget(run)


def _count(run: RunFolder, step: int, most: int) -> None:
    file = run.dir / FILE
    earlier = 0
    if file.exists() and not run.fresh:
        known = read_object(file, "step", int, "remove it, and the count begins anew")
        earlier = known["starts"] if known["step"] == step else 0
    if earlier > most:
        _forget(run)
        raise UserError(
            f"A run that is started again must come forward, but {run.dir} was started again {most} times at step "
            f"{step} (run.restarts) and never came to a later checkpoint: the log says what ended it. Mend that, give "
            "the job more time or lower run.save_every, then start it again."
        )
    write_whole(file, sealed({"step": step, "starts": earlier + 1}, indent=1))
    if earlier:
        log.info("Start %d at step %d: after %d the run is not started again.", earlier + 1, step, most + 1)


def _forget(run: RunFolder) -> None:
    (run.dir / FILE).unlink(missing_ok=True)
