"""What befalls a process: it hangs, is killed or is stopped."""

from __future__ import annotations

import ctypes
import os
import signal
import time


def waits_for_ever() -> None:
    time.sleep(600)


def holds_the_lock() -> None:
    """The interpreter's, which a call of C through PyDLL keeps; a signal ends one call alone."""
    library = ctypes.PyDLL(None)
    while True:
        library.sleep(600)


def is_stopped() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)
    time.sleep(600)  # and when it goes on


def is_killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


FAULTS = {one.__name__: one for one in (waits_for_ever, holds_the_lock, is_stopped, is_killed)}
