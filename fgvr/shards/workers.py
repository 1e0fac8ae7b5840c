"""Workers of a loader end with the process that they read for."""

from __future__ import annotations

import os
from multiprocessing import parent_process
from threading import Thread
from typing import Any


def follow_parent(_: int) -> None:
    """Makes the worker that calls it end within a second of its parent, however that one ends.

    Left to itself, a worker that has a batch to send outlives a parent that was killed: it waits until somebody reads
    from a pipe whose reading end it holds itself.
    """
    Thread(target=_watch, args=(parent_process(), os.getppid()), daemon=True).start()


def _watch(parent: Any, number: int) -> None:
    # the pipe from the parent stays open while a younger child of it lives; the number of the parent does not stay
    while os.getppid() == number and parent.is_alive():
        parent.join(1.0)
    os._exit(1)
