"""When to ask again, and when to give up: an item's own failures told apart from an outage of the server."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from tenacity import AsyncRetrying, retry_if_exception_type

GARBLED = 3  # attempts at an item whose replies make no sense
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 8.0  # seconds, before jitter
LONGEST_AFTER = 30.0  # seconds that a server's Retry-After may ask for
TELLING = 8  # failures in a row, after an outage has lasted for all of patience, that settle it for those in the queue

T = TypeVar("T")


class Unanswered(Exception):
    """An item got no reply that can be used, for the reason given. `outage`: the server is to blame, not the item."""

    def __init__(self, reason: str, outage: bool = False) -> None:
        super().__init__(reason)
        self.outage = outage


class Passing(Exception):
    """A failure that may pass.

    `own` says that it may as well be the item's as the server's, `garbled` that there was a reply, but one without
    sense; `after` is how many seconds the server wants to be left alone.
    """

    def __init__(self, reason: str, own: bool = False, garbled: bool = False, after: float = 0.0) -> None:
        super().__init__(reason)
        self.own, self.garbled, self.after = own, garbled, after


@dataclass(eq=False)
class Item:
    """One thing that is asked until it is answered or given up. Times are of `time.monotonic`."""

    asked: float
    began: float = 0.0
    attempts: int = 0
    own: int = 0
    garbled: int = 0
    over: bool = False
    outage: bool = False


class Patience:
    """What is known of one server by the replies to all that is asked; lives on one event loop.

    A failure counts against its item where the server gave a good reply to anybody since that attempt began. After
    `attempts` of those the item is given up. Every other failure is an outage: it is waited for, until nothing good was
    heard for `patience` seconds, and then what fails is given up at once, until something good is heard again.
    """

    def __init__(self, attempts: int, patience: float) -> None:
        self.attempts, self.patience = attempts, patience
        self._heard = -math.inf
        self._silent_since: float | None = None
        self._failed: deque[float] = deque(maxlen=TELLING)  # when the last attempts without a good reply began

    def item(self) -> Item:
        return Item(time.monotonic())

    async def insist(self, item: Item, attempt: Callable[..., Awaitable[T]], *arguments: Any) -> T:
        """Calls `attempt(*arguments)` until it raises no Passing, which it must have told to `failed`, or all is over.

        The last Passing is raised.
        """
        try:
            return await attempt(*arguments)  # on its own: all the rest takes as long as a request
        except Passing as failure:
            if item.over:
                raise
            pause = self.pause(item, failure)
        await asyncio.sleep(pause)
        retrying = AsyncRetrying(
            sleep=asyncio.sleep,
            retry=retry_if_exception_type(Passing),
            stop=lambda state: item.over,
            wait=lambda state: self.pause(item, state.outcome.exception() if state.outcome else None),
            reraise=True,
        )
        return await retrying(attempt, *arguments)

    def begins(self, item: Item) -> None:
        """An attempt begins. Raises Passing where it is settled already that it would fail."""
        spent = self._spent()
        if spent and len(self._failed) == TELLING and min(self._failed) >= item.asked:
            item.over = item.outage = True
            raise Passing("the server gives no reply")
        item.began = time.monotonic()
        item.attempts += 1

    def heard(self) -> None:
        """The server gave a good reply."""
        self._heard = time.monotonic()
        self.forget()

    def is_unclear(self, item: Item) -> bool:
        """Whether nothing tells if the server or the item is to blame for what happened since the attempt began."""
        return self._heard <= item.began

    def failed(self, item: Item, failure: Passing) -> None:
        """An attempt failed; says in `item.over` whether that was the last."""
        if failure.garbled:
            item.garbled += 1
        elif not self.is_unclear(item):
            item.own += 1
        elif self._silent_since is None:
            self._silent_since = item.began
        self._failed.append(item.began)
        item.outage = self._spent()
        item.over = item.outage or item.garbled >= GARBLED or item.own >= self.attempts

    def forget(self) -> None:
        """The next failure starts a new outage, with all of `patience` before it."""
        self._silent_since = None
        self._failed.clear()

    def pause(self, item: Item, failure: BaseException | None) -> float:
        """Seconds until the next attempt: they double, with jitter, and end with the patience at the latest."""
        pause = random.uniform(0.5, 1) * min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(item.attempts - 1, 10))
        if isinstance(failure, Passing) and failure.after > 0:
            pause = max(pause, min(failure.after, LONGEST_AFTER) * random.uniform(1, 1.1))
        if self._silent_since is not None:
            left = self.patience - (time.monotonic() - self._silent_since)
            pause = min(pause, max(0.0, left) + random.uniform(0, 0.1))
        return pause

    def _spent(self) -> bool:
        return self._silent_since is not None and time.monotonic() - self._silent_since >= self.patience
