"""Workers of a loader: how many there can sensibly be, and that they end with the process that they read for."""

from __future__ import annotations

import logging
import os
from multiprocessing import parent_process
from threading import Thread
from typing import Any

log = logging.getLogger(__name__)


def follow_parent(_: int) -> None:
    """Makes the worker that calls it end within a second of its parent, however that one ends.

    Left to itself, a worker that has a batch to send outlives a parent that was killed: it waits until somebody reads
    from a pipe whose reading end it holds itself.
    """
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
    while os.getppid() == number and parent.is_alive():
        parent.join(1.0)
    os._exit(1)
