"""Signs of life: what this process is doing, for the watchdog beside it; nothing where there is none."""

from __future__ import annotations

import ctypes
import faulthandler
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from mmap import mmap

from fgvr.watchdog import process

SILENCE = 1800.0  # seconds without a sign of life, by default
SLOW = 3600.0  # the same for what is one call of another's: a model is read, a checkpoint written
HEARD = (process.HUNG, process.STACKS)  # signals of the watchdog's
NOTICED = 4 * process.EVERY  # seconds after which every watchdog knows of a process that was killed
STARTING, LOADING, SAMPLING, SCORING = "starting", "loading", "sampling", "scoring"
UPDATING, VALIDATING, SAVING, WAITING = "updating", "validating", "saving a checkpoint", "waiting for data"


class Heart:
    """The memory that a process and its watchdog both see, and that watchdog."""

    def __init__(self) -> None:
        self._file = os.memfd_create("fgvr-beats")
        os.ftruncate(self._file, process.RECORD.size)
        self._memory = mmap(self._file, process.RECORD.size)
        self._dog: subprocess.Popen[bytes] | None = None
        self._owner, self.silence = os.getpid(), SILENCE
        self._beats, self._step, self._phase = 0, 0, STARTING.encode()

    def watch(
        self, rank: int = 0, listener: socket.socket | None = None, hub: tuple[str, int, str] | None = None
    ) -> None:
        """Has this process watched, as number `rank` of those whose watchdogs meet at `hub`, by a new watchdog."""
        self.rest()
        host, port, secret = hub or ("", 0, "")
        options = {
            **{"process": os.getpid(), "memory": self._file, "rank": rank, "host": host, "port": port},
            **{"secret": secret, "listener": -1 if listener is None else listener.fileno()},
        }
        line = [sys.executable, "-I", "-S", process.__file__]
        kept = [self._file] if listener is None else [self._file, listener.fileno()]
        self._dog = subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, pass_fds=kept)
        assert self._dog.stdin is not None
        with self._dog.stdin as told:  # not by its command line, which everybody on the machine can read
            told.write(json.dumps(options).encode())

    def beat(self, phase: str | None, step: int | None, seconds: float) -> None:
        self._beats += 1
        self._step = self._step if step is None else step
        self._phase = self._phase if phase is None else phase.encode()
        allowed = max(self.silence, seconds) if self.silence else 0.0
        process.RECORD.pack_into(self._memory, 0, self._beats, allowed, self._step, 0, self._phase)

    def leave(self) -> None:
        """What becomes of this process from here on is no surprise to its watchdog."""
        if os.getpid() == self._owner:
            process.RECORD.pack_into(self._memory, 0, self._beats, 0.0, self._step, 1, self._phase)

    def rest(self) -> None:
        if self._dog is not None:
            self._dog.kill()
            self._dog.wait()
            self._dog = None

    def close(self) -> None:
        self.rest()
        self._memory.close()
        os.close(self._file)


_hearts: list[Heart] = []  # of this process: one while it is watched, else none


@contextmanager
def watched() -> Iterator[None]:
    """Within it a watchdog ends this process when it gives no `beat` for too long.

    Only on Linux: elsewhere another process cannot make it show its stacks and end with a code of its own.
    """
    if sys.platform != "linux":
        yield
        return
    _hear_watchdog()
    _hearts.append(Heart())
    beat()
    _hearts[0].watch()
    try:
        yield
    finally:
        leave()
        _hearts.pop().close()


def beat(phase: str | None = None, step: int | None = None, seconds: float = 0.0) -> None:
    """This process goes on. What it does is `phase`, at optimiser step `step`, as before where nothing is said.

    The next beat may be `seconds` away where that is more than the run's silence.
    """
    if _hearts:
        _hearts[0].beat(phase, step, seconds)


def is_watched() -> bool:
    return bool(_hearts)


def allow(silence: float | None) -> None:
    """From here on there may be so many seconds between two beats, or any number; what comes first is loading."""
    if _hearts:
        _hearts[0].silence = silence or 0.0
        beat(LOADING, seconds=SLOW)


def meet(rank: int, listener: socket.socket | None, hub: tuple[str, int, str]) -> None:
    """From here on all watchdogs of a run know of each other: what ends one process ends them all.

    That of process 0 has the `listener`, the others find it at `hub`: host, port, and what a line there begins with.
    """
    if _hearts:
        _hearts[0].watch(rank, listener, hub)


def leave() -> None:
    """This process is about to end by itself, with a code and a sentence of its own."""
    if _hearts:
        _hearts[0].leave()


def _hear_watchdog() -> None:
    """The watchdog's signals are obeyed without the interpreter, which may stand still."""
    faulthandler.register(process.STACKS, file=2)
    library = ctypes.CDLL(None)
    # a signal's handler is given its number, which so becomes the exit code
    library.signal(process.HUNG, ctypes.cast(library._exit, ctypes.c_void_p))
