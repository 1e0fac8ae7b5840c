"""Ctrl-C, which a run may have been started without, and which it leaves as it found it."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

log = logging.getLogger(__name__)


@contextmanager
def ctrl_c_as_before() -> Iterator[None]:
    """Afterwards Ctrl-C does what it did before: Lightning, once it was stopped by one, ignores every other."""
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        if before is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, before)


def say_if_ctrl_c_is_ignored() -> None:
    """`nohup` and a script's `&` start what they start so; it stays ignored, as they mean it to be."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        log.info("Ctrl-C is ignored, as nohup or a script's & has asked for: `kill %d` stops the run.", os.getpid())
