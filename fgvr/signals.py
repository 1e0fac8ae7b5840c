"""Signals that ask a run to end: noted as they come, obeyed where its processes can do so together.

What saves or talks to other processes within a handler hangs where these are elsewhere, and a signal goes to all of a
run's processes, its loaders' workers among them. So a handler here notes what came, in the process that listens alone.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from types import FrameType

from fgvr.errors import AGAIN, Unfinished
from fgvr.watchdog.beats import leave

APART = 1.0  # seconds between a signal and a second one that is meant: launchers pass one on twice


class Stop(IntEnum):
    """What asks a run to end, the more urgent the higher. As far as CTRL_C, it is once a step can be saved."""

    NONE = 0
    USR2 = 1
    USR1 = 2
    CTRL_C = 3
    WARNED = 4  # SIGTERM after SIGUSR1 or SIGUSR2, as at a job's limit
    HUNG_UP = 5  # the terminal is gone
    TERM = 6

    @property
    def waits(self) -> bool:
        """Whether the training goes on to the next step that can be saved."""
        return self <= Stop.CTRL_C

    def error(self) -> Unfinished:
        """By what and with which exit code a training ends."""
        return Unfinished(*SAID[self])


SAID = {
    Stop.USR2: ("SIGUSR2", AGAIN),
    Stop.USR1: ("SIGUSR1", AGAIN),
    Stop.CTRL_C: ("Ctrl-C", 128 + signal.SIGINT),
    Stop.WARNED: ("SIGTERM after a warning", AGAIN),
    Stop.HUNG_UP: ("SIGHUP", 128 + signal.SIGHUP),
    Stop.TERM: ("SIGTERM", 128 + signal.SIGTERM),
}
SENT = {
    signal.SIGUSR2: Stop.USR2,
    signal.SIGUSR1: Stop.USR1,
    signal.SIGINT: Stop.CTRL_C,
    signal.SIGHUP: Stop.HUNG_UP,
    signal.SIGTERM: Stop.TERM,
}


class Listener:
    """Notes in `asked` what the signals of this process ask for.

    What is more urgent than `held` ends what is under way at once, by an exception of the main thread: nothing is held
    unless somebody, a training, will look at `asked`. After Ctrl-C, SIGHUP or SIGTERM another of them ends the process.
    """

    def __init__(self) -> None:
        self.asked = self.held = Stop.NONE
        self.imports = False
        self._came = 0.0
        self._process = os.getpid()
        self._terminals = [number for number in (1, 2) if os.isatty(number)]

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # a forked child ends with its parent, not before
            return
        sent, before = SENT[signal.Signals(number)], self.asked
        if sent == Stop.HUNG_UP:
            _silence(self._terminals)
        if before >= Stop.CTRL_C:
            if sent >= Stop.CTRL_C and time.monotonic() - self._came > APART:
                _leave(sent)
            return
        if before == Stop.NONE or sent > Stop.USR1:
            self.asked = Stop.WARNED if before and sent == Stop.TERM else sent
        self._came = time.monotonic()
        if self.asked > self.held and before <= self.held:
            raise KeyboardInterrupt if self.asked == Stop.CTRL_C else self.asked.error()
        if sent == Stop.CTRL_C and not self.imports:
            os.write(2, b"\nfgvr: Ctrl-C: the run ends once its step is saved; Ctrl-C again ends it at once.\n")


_listeners: list[Listener] = []


@contextmanager
def listening(held: Stop = Stop.NONE) -> Iterator[None]:
    """Within it the signals that ask for an end are noted, and end at once what nobody says that they are held for.

    From its beginning they are held as far as `held`.

    What is ignored stays so. Does nothing outside of the main thread, which alone can.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    listener = Listener()
    listener.held = held
    before = {number: signal.getsignal(number) for number in SENT}
    heard = {number: handler for number, handler in before.items() if handler not in (signal.SIG_IGN, None)}
    _listeners.append(listener)
    try:
        for number in heard:
            signal.signal(number, listener)
        yield
    finally:
        for number, handler in heard.items():
            signal.signal(number, handler)
        _listeners.remove(listener)


def hold(most: Stop) -> None:
    """Stops as far as `most` are noted from now on, for whoever looks at `asked`; NONE: all are obeyed at once.

    Raises Unfinished where a more urgent one was noted before.
    """
    if _listeners:
        _listeners[-1].held = most
        if asked() > most:
            raise asked().error()


@contextmanager
def holding_at_most(most: Stop) -> Iterator[None]:
    """Within it, work of minutes that is kept as it is done, what is more urgent than `most` is obeyed at once."""
    before = _listeners[-1].held if _listeners else Stop.NONE
    hold(min(before, most))
    yield
    hold(before)


@contextmanager
def importing() -> Iterator[None]:
    """Within it, imports of some seconds, nothing is obeyed before their end, save a second signal.

    Libraries of C++ that are stopped half-way abort the process, or pass on as errors of their own what stopped them.
    """
    if not _listeners:
        yield
        return
    listener, before = _listeners[-1], _listeners[-1].held
    listener.held, listener.imports = Stop.TERM, True
    try:
        yield
    finally:
        try:
            hold(before)
        finally:
            listener.imports = False


def let_go() -> None:
    """Nothing is held any more, and what was noted is left to the exception that is under way."""
    if _listeners:
        _listeners[-1].held = Stop.NONE


def asked() -> Stop:
    """What this process was asked for since it began to listen."""
    return _listeners[-1].asked if _listeners else Stop.NONE


def note(stop: Stop) -> None:
    """What another process of the run was asked for counts here too, so that all end by the same."""
    if _listeners:
        _listeners[-1].asked = max(asked(), stop)


def _silence(terminals: list[int]) -> None:
    """What is said to a terminal that is gone is an error, which is not to be the run's."""
    for number in terminals:
        if not os.isatty(number):
            nothing = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nothing, number)
            os.close(nothing)


def _leave(stop: Stop) -> None:
    name, code = SAID[stop]
    os.write(2, f"fgvr: stopped at once by a second signal, {name}. What was saved before is whole.\n".encode())
    leave()
    os._exit(code)
