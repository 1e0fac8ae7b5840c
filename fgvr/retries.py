"""A shared file system answers with an error now and then, once: what was asked of it is asked again, a few times.

Only what may pass by itself is tried again. No room, no right and a read-only disk are answers, and stand at once.
"""

from __future__ import annotations

import errno
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, wait_exponential

from fgvr.errors import UserError

T = TypeVar("T")

TRANSIENT = frozenset(
    {
        errno.ESTALE,  # the server has forgotten the handle: opening the file again gives a new one
        errno.EIO,
        errno.EAGAIN,
        errno.ETIMEDOUT,
        errno.ENOTCONN,  # a mount whose server is away
        errno.ECONNRESET,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
    }
)
TRIES = 5  # the waits between them are 0.1, 0.4, 1.6 and 6.4 seconds
MOUNT_WAIT = 60.0  # seconds
FSTAB = Path("/etc/fstab")

log = logging.getLogger(__name__)


class Retries:
    """Asks a file system again; `count` says how often this process has had to."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, work: Callable[[], T], what: object) -> T:
        """What `work` returns, after at most TRIES calls; `what`, a path say, is named on the log.

        `work` is called again from its beginning, so it opens its files itself and leaves nothing that a second call
        would add to. Raises its OSError when that is not transient, or was the last.
        """

        try:
            return work()  # as nearly always: what tries again takes longer to set up than a small photo to read
        except OSError as error:
            if not is_transient(error):
                raise
            failed = [error]

        def again() -> T:
            if failed:  # the first of its tries is this one
                raise failed.pop()
            return work()

        def say(state: RetryCallState) -> None:
            self.count += 1
            error = state.outcome.exception() if state.outcome else None
            log.warning(
                "%s: the file system answered %s and is asked again (try %d of %d; %d times so far by this process).",
                what,
                getattr(error, "strerror", None) or error,
                state.attempt_number + 1,
                TRIES,
                self.count,
            )

        return Retrying(
            retry=retry_if_exception(is_transient),
            stop=stop_after_attempt(TRIES),
            wait=wait_exponential(multiplier=0.1, exp_base=4),
            before_sleep=say,
            reraise=True,
        )(again)


def is_transient(error: BaseException) -> bool:
    """Whether the same call may succeed a moment later."""
    return isinstance(error, OSError) and error.errno in TRANSIENT


def await_mount(folder: Path, table: Path = FSTAB, seconds: float = MOUNT_WAIT) -> None:
    """Waits until the disk is mounted that a folder is to lie on, where the machine's table names one that is not yet.

    Without it, a job that starts before its node's mounts would find nothing, or write below a mount point. Raises
    UserError when the wait is over.
    """
    end = time.monotonic() + seconds
    said = False
    while (point := _unmounted(folder, table)) is not None:
        if time.monotonic() >= end:
            raise UserError(
                f"{folder} must be on a disk that is mounted, but {point} is a mount point of {table} with nothing "
                f"mounted there after {seconds:g} s: mount it, or give another path."
            )
        if not said:
            log.warning("%s is not mounted yet; %s is waited for, %g s at the most.", point, folder, seconds)
            said = True
        time.sleep(min(1.0, seconds / 10))


def _unmounted(folder: Path, table: Path) -> Path | None:
    """The mount point above a folder where nothing is mounted, though the table says that it is to be at every boot."""
    try:
        lines = table.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    entries = [line.split() for line in lines if not line.lstrip().startswith("#")]
    points = {Path(entry[1].replace("\\040", " ")) for entry in entries if _at_boot(entry)}
    place = Path(os.path.abspath(folder))
    above = [point for point in (place, *place.parents) if point in points]
    return above[0] if above and not os.path.ismount(above[0]) else None


def _at_boot(entry: list[str]) -> bool:
    return len(entry) >= 4 and entry[1].startswith("/") and not {"noauto", "nofail"} & set(entry[3].split(","))


patiently = Retries()
