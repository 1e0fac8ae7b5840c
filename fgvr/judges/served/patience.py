"""How long one item is asked: until it is answered, or has failed too often while the server was well."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from tenacity import AsyncRetrying, retry_if_exception_type

GARBLED = 3  # attempts at an item that the model answers without sense
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 8.0  # seconds, before jitter

T = TypeVar("T")


class Unanswered(Exception):
    """An item got no reply that can be used, for the reason given.

    `outage` is the number of the server's outage that is to blame, 0 where it is the item.
    """

    def __init__(self, reason: str, outage: int = 0) -> None:
        super().__init__(reason)
        self.outage = outage


class Passing(Exception):
    """A failure that may pass.

    `garbled` says that the model spoke, but without sense; `busy` that the server wants to be left alone, for `after`
    seconds where it says so.
    """

    def __init__(self, reason: str, garbled: bool = False, busy: bool = False, after: float = 0.0) -> None:
        super().__init__(reason)
        self.garbled, self.busy, self.after = garbled, busy, after


@dataclass(eq=False)
class Item:
    """One thing that is asked; `asked` and `turned_away` (first, by a busy server) are of `time.monotonic`."""

    asked: float
    attempts: int = 0
    own: int = 0
    garbled: int = 0
    busy: int = 0
    turned_away: float = 0.0
    pause: float = 0.0  # seconds until the next attempt
    over: bool = False


class Patience:
    """What an item is allowed: `attempts` failures of its own, of which three may be replies without sense.

    An outage of the server counts against no item. A server that is busy does only for an item that it has turned away
    for `patience` seconds, `attempts` times or more.
    """

    def __init__(self, attempts: int, patience: float) -> None:
        self.attempts, self.patience = attempts, patience

    def item(self) -> Item:
        return Item(time.monotonic())

    async def insist(self, item: Item, attempt: Callable[..., Awaitable[T]], *arguments: Any) -> T:
        """Calls `attempt(*arguments)` until it raises no Passing, which it must have told to `failed`, or all is over.

        The last Passing is raised.
        """
        try:
            return await attempt(*arguments)  # on its own: all the rest takes as long as a request
        except Passing:
            if item.over:
                raise
        await asyncio.sleep(item.pause)
        retrying = AsyncRetrying(
            sleep=asyncio.sleep,
            retry=retry_if_exception_type(Passing),
            stop=lambda state: item.over,
            wait=lambda state: item.pause,
            reraise=True,
        )
        return await retrying(attempt, *arguments)

    def failed(self, item: Item, failure: Passing, well: bool) -> None:
        """An attempt failed, while the server was `well` or not. Sets `item.over` and `item.pause`."""
        item.pause = 0.0  # what the server is to blame for is waited for before the next turn
        if failure.busy:
            item.busy += 1
            item.turned_away = item.turned_away or time.monotonic()
        elif well:
            item.own += 1
            item.garbled += failure.garbled
            item.pause = random.uniform(0.5, 1) * min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(item.own - 1, 10))
        turned_away = item.busy >= self.attempts and time.monotonic() - item.turned_away >= self.patience
        item.over = turned_away or item.garbled >= GARBLED or item.own >= self.attempts
