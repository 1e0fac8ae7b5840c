"""The processes that work together: what each holds a part of is brought together on all of them."""

from __future__ import annotations

import json
import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar, cast

import torch.distributed as dist

from fgvr.errors import UserError, shown
from fgvr.watchdog.beats import is_watched, leave, meet

T = TypeVar("T")
# in the store that the processes share
FAILURE, TOLD, AT_END, WATCHDOGS = "fgvr/failure", "fgvr/told", "fgvr/at-end", "fgvr/watchdogs"
EVERY = 0.5  # seconds between two looks at it
SOON = 0.05  # the same where nothing else is left to do
GRACE = 3.0  # seconds for a process to fail by itself, as all do of what all have met
LEAVING = 60.0  # seconds for one that has failed to end, before it is ended

_heard: list[Failure] = []  # what this process was told of: by that time the one that told it may have left


@dataclass(frozen=True)
class Ranks:
    """The processes that collect together; `gather` brings every rank's list to all of them."""

    world: int = 1
    gather: Callable[[list[Any]], list[Any]] = lambda rows: rows

    def total(self, counts: Sequence[float]) -> list[float]:
        """Sums over ranks, entry by entry. A collective call."""
        return [sum(column) for column in zip(*self.gather([tuple(counts)]), strict=True)]

    def agree(self, work: Callable[[], T]) -> T:
        """What `work` gives; a UserError of any rank is raised on all, so that none waits alone. A collective call."""
        done, error = None, None
        try:
            done = work()
        except UserError as raised:
            error = raised
        told = self.gather([] if error is None else [str(error)])
        if error is not None:
            raise error
        if told:
            raise UserError(told[0])
        return cast(T, done)


def of_all_ranks(rows: list[T]) -> list[T]:
    """The rows of all ranks, rank by rank; they must be picklable. A collective call."""
    if not (dist.is_available() and dist.is_initialized()):
        return rows
    parts: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(parts, rows)
    return [row for part in parts for row in part]


@dataclass(frozen=True)
class Failure:
    """Why a process of the run ends, in a sentence, and with which exit code."""

    rank: int
    code: int
    sentence: str

    def end(self) -> None:
        """Ends this process at once, wherever it is: it may be waiting in a call that never comes back."""
        print(f"fgvr: process {self.rank} has failed, which ends them all: {shown(self.sentence)}", file=sys.stderr)
        sys.stderr.flush()
        leave()
        os._exit(self.code)


def first_failure(own: Failure | None = None) -> Failure | None:
    """The failure that the processes were told of first; `own` where there was none before. None while all is well."""
    if not (dist.is_available() and dist.is_initialized()):
        return own
    store = _shared_store()
    try:
        if own is not None:
            store.compare_set(FAILURE, "", json.dumps(asdict(own)))
        return _told(store) if store.check([FAILURE]) else None
    except RuntimeError:  # the process that held the store is gone already, maybe since it was heard
        return _heard[0] if _heard else own


def stay_until_told() -> None:
    """For a process that has failed: the one that holds the store stays, `GRACE` at most, until the others know why."""
    if not (dist.is_available() and dist.is_initialized()) or dist.get_rank() != 0:
        return
    store, late = _shared_store(), time.monotonic() + GRACE
    all_told = [f"{TOLD}/{rank}" for rank in range(dist.get_world_size())]
    while not store.check(all_told) and time.monotonic() < late:
        time.sleep(SOON)


def end_together() -> None:
    """For a process that has come to its good end: waits for the others, and ends with one that fails meanwhile.

    It waits no longer than for one that has failed.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return
    store, late = _shared_store(), time.monotonic() + LEAVING
    try:
        here = store.add(AT_END, 1)
        while here < dist.get_world_size() and time.monotonic() < late:
            if (failure := first_failure()) is not None:
                failure.end()
            time.sleep(SOON)
            here = store.add(AT_END, 0)
    except RuntimeError:  # the process that held the store, which waited too, has ended
        return


def introduce_watchdogs(host: str) -> bool:
    """Lets the watchdogs of all processes know of each other, where there are any; process 0 is on `host`.

    Then one that has to end its process, or whose process was killed, has them all ended. A collective call.
    """
    store, rank = _shared_store(), dist.get_rank()
    if rank != 0:
        told = json.loads(store.get(WATCHDOGS))
        if told is not None:
            meet(rank, None, (host, told["port"], told["secret"]))
        return told is not None
    if not is_watched():
        store.set(WATCHDOGS, "null")
        return False
    both = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if both else socket.AF_INET
    with socket.create_server(("", 0), family=family, dualstack_ipv6=both, backlog=4096) as listener:
        port, secret = listener.getsockname()[1], secrets.token_hex(16)
        meet(rank, listener, ("", port, secret))
        store.set(WATCHDOGS, json.dumps({"port": port, "secret": secret}))
    return True


class Watch:
    """Ends this process when another has failed: in a collective call it would wait for that one for ever.

    It looks at the store through a connection of its own, since the other may be waiting in its turn.
    """

    def __init__(self) -> None:
        self._over = threading.Event()
        self._rank, self._store = dist.get_rank(), _shared_store().clone()
        threading.Thread(target=self._look, daemon=True, name="fgvr-watch").start()

    def stop(self) -> None:
        self._over.set()

    def _look(self) -> None:
        while not self._over.wait(EVERY):
            try:
                if not self._store.check([FAILURE]):
                    continue
                failure = _told(self._store)
            except RuntimeError:  # the process that held the store has ended: so will this one
                return
            if failure.rank != self._rank and not self._over.wait(GRACE):
                failure.end()
            return


def _told(store: Any) -> Failure:
    """The failure that was told of; the others can see that this process has read it."""
    failure = Failure(**json.loads(store.get(FAILURE)))
    _heard.append(failure)
    store.set(f"{TOLD}/{dist.get_rank()}", "1")
    return failure


def _shared_store() -> Any:
    return dist.distributed_c10d._get_default_store()
