"""Workers of a loader: how many there can sensibly be, and that they end with the process that they read for."""

from __future__ import annotations

import logging
import os
import signal
from multiprocessing import parent_process
from threading import Thread
from typing import Any

log = logging.getLogger(__name__)


def follow_parent(_: int) -> None:
    """Makes the worker that calls it end within a second of its parent, however that one ends, and not before it.

    Left to itself, a worker that has a batch to send outlives a parent that was killed: it waits until somebody reads
    from a pipe whose reading end it holds itself. And a signal to all processes of a run would end it while the parent
    saves, which takes that for a failure.
    """
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "sigtimedwait"):  # where it can be told from whom a SIGTERM is: the parent's is obeyed
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    Thread(target=_watch, args=(parent_process(), os.getppid()), daemon=True).start()


def say_if_too_many(workers: int) -> None:
    """Says it, once where torch would for every loader, when there are fewer cores than workers."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if workers > cores:
        log.warning(
            "data.workers is %d, but there are %d cores to run them: more than these are no faster.", workers, cores
        )


def _watch(parent: Any, number: int) -> None:
    # the pipe from the parent stays open while a younger child of it lives; the number of the parent does not stay
    while os.getppid() == number and parent.is_alive() and not _told_to_end(parent, number):
        pass
    os._exit(1)


def _told_to_end(parent: Any, number: int) -> bool:
    """Waits a second at most; whether the parent has sent SIGTERM meanwhile, as torch does to end a worker."""
    if not hasattr(signal, "sigtimedwait"):
        parent.join(1.0)
        return False
    told = signal.sigtimedwait([signal.SIGTERM], 1.0)
    return told is not None and told.si_pid == number
