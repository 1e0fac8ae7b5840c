"""Who may write to a run's folder: one process at a time, and none through a lock that outlived its owner."""

from __future__ import annotations

import errno
import fcntl
import logging
import math
import os
import re
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from fgvr.checkpoints.format import checkpoints_in, remove_checkpoint, sweep
from fgvr.errors import FULL, UserError, sentence_of_disk
from fgvr.retries import await_mount
from fgvr.runs.folder import RunFolder, free_name

log = logging.getLogger(__name__)

LOCK = ".lock"
LOCKS = Path("/proc/locks")
CANNOT_LOCK = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)
HOLDER = re.compile(r"process (\d+) on (.*)")
LEASE = 120.0  # seconds; an NFS server gives up a client after 90 by default
PAUSE = 1.0


class RunLock:
    """Held by the one process that may write to the folder; the system drops it when that process ends, however.

    It is flock's, which an NFS server keeps for all machines. A record lock would not pass to forked children either,
    but a process loses those with the first descriptor of the file that it closes. Raises UserError when it is held.
    """

    def __init__(self, folder: Path) -> None:
        self._file = _lock(folder / LOCK)
        try:
            self._file.truncate(0)
            self._file.write(f"process {os.getpid()} on {os.uname().nodename}")
            self._file.flush()
        except OSError:
            with suppress(OSError):  # what it was to hold finds no room here either
                self._file.close()
            raise
        # held open by a child, it would outlive this process
        os.register_at_fork(after_in_child=self._file.close)

    def release(self) -> None:
        self._file.close()


@dataclass(frozen=True)
class Holder:
    """Who wrote its name into a folder's lock last; `writes` is None where that cannot be told from this machine."""

    process: int
    machine: str
    writes: bool | None


def holder_of(folder: Path) -> Holder | None:
    """Who holds a run's folder, without touching its lock: taking it for a moment could refuse a start."""
    path = folder / LOCK
    with suppress(OSError):
        named = HOLDER.fullmatch(path.read_text(errors="replace").strip())
        if named is None:
            return None
        process, machine = int(named[1]), named[2]
        if machine != os.uname().nodename:
            return Holder(process, machine, None)
        return Holder(process, machine, _is_locked(path) if LOCKS.exists() else _lives(process))
    return None


def _is_locked(path: Path) -> bool:
    """Whether the system knows of a lock that a process of this machine holds on the file."""
    inode = str(path.stat().st_ino)
    rows = (line.split() for line in LOCKS.read_text().splitlines())
    return any("FLOCK" in row and "->" not in row and any(one.endswith(f":{inode}") for one in row) for row in rows)


class Claim:
    """A run's folder, made and locked; `release` gives it back, and leaves no trace of a run that wrote nothing."""

    def __init__(self, run: RunFolder) -> None:
        self.run = run
        self._made = [folder for folder in (run.dir, *run.dir.parents) if not folder.exists()]
        self._aside: Path | None = None
        run.dir.mkdir(parents=True, exist_ok=True)
        self._lock = RunLock(run.dir)
        if run.fresh and any(entry.name != LOCK for entry in run.dir.iterdir()):
            self._move_aside()
        run.checkpoints.mkdir(exist_ok=True)
        if not checkpoints_in(run.checkpoints):
            for path in checkpoints_in(run.base):  # of an attempt that came to nothing; this one may begin elsewhere
                remove_checkpoint(path)
        for path in [*sweep(run.checkpoints), *sweep(run.base)]:
            log.info("Removed %s, left half-written by a process that was stopped.", path)

    def release(self) -> None:
        if self._made and self._is_empty():
            self._unmake()
        self._lock.release()

    def _move_aside(self) -> None:
        self._aside = free_name(self.run.dir)
        self.run.dir.rename(self._aside)
        log.info("The earlier run was moved to %s; %s starts again.", self._aside, self.run.dir)
        self._lock.release()
        self.run.dir.mkdir()
        self._made = [self.run.dir]
        self._lock = RunLock(self.run.dir)

    def _is_empty(self) -> bool:
        with suppress(FileNotFoundError):
            return not any(self.run.checkpoints.iterdir()) and {entry.name for entry in self.run.dir.iterdir()} == {
                LOCK,
                self.run.checkpoints.name,
            }
        return False

    def _unmake(self) -> None:
        self.run.checkpoints.rmdir()
        (self.run.dir / LOCK).unlink()
        with suppress(OSError):  # others have begun to use one of them
            for folder in self._made:
                folder.rmdir()
            if self._aside is not None:
                self._aside.rename(self.run.dir)
                log.info("Nothing was written to %s, so the earlier run is back there.", self.run.dir)


def claim(run: RunFolder) -> Claim:
    """Makes the folder, moves an old one aside if asked, takes the lock and clears what a killed process left.

    Raises UserError when the folder cannot be written or another run holds it.
    """
    await_mount(run.dir)
    try:
        return Claim(run)
    except OSError as error:
        if error.errno in FULL:
            error.filename = error.filename or str(run.dir)
            raise UserError(str(sentence_of_disk(error))) from error
        raise UserError(
            f"The run folder {run.dir} must be writable ({error.strerror}: {error.filename or run.dir}): "
            "choose another run.dir."
        ) from error


def _lock(path: Path) -> IO[str]:
    patience: float | None = None
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            patience = _waits(path, file) if patience is None else patience
            if time.monotonic() > patience:
                raise _held(path, file) from None
            file.close()
            time.sleep(PAUSE)
            continue
        except OSError as error:
            if error.errno not in CANNOT_LOCK:
                file.close()
                raise
            log.warning(
                "%s is on a file system that cannot lock files (%s): see to it that no other run writes to it.",
                path.parent,
                error.strerror,
            )
            return file
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        file.close()  # its folder went away, or aside, before the lock was there


def _waits(path: Path, file: IO[str]) -> float:
    """Until when, of `time.monotonic`, a lock that is held may become free by itself.

    The server of a shared file system keeps that of a machine which has failed for a while.
    """
    holder, named = _holder(file)
    if named is None or named[2] == os.uname().nodename:
        return -math.inf
    log.warning(
        "%s is locked by %s; if that machine has failed its lock goes with its lease: waiting %.0f s at the most.",
        path.parent, holder, LEASE,
    )  # fmt: skip
    return time.monotonic() + LEASE


def _holder(file: IO[str]) -> tuple[str, re.Match[str] | None]:
    file.seek(0)
    holder = file.read().strip() or "another process"
    return holder, HOLDER.fullmatch(holder)


def _held(path: Path, file: IO[str]) -> UserError:
    with file:
        holder, named = _holder(file)
    if named and named[2] == os.uname().nodename and not _lives(int(named[1])):
        return UserError(
            f"{path.parent} must not be locked, but {holder}, which has ended, left a process behind that holds its "
            f"lock: end that one (`fuser {path}` names it), or choose another run.dir."
        )
    return UserError(f"{path.parent} is being written by {holder}: wait for it to end, or choose another run.dir.")


def _lives(number: int) -> bool:
    """Whether there is a process of that number which has not ended: one that nobody has waited for yet has."""
    with suppress(OSError):
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
