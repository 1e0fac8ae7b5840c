"""When one server may be asked: by many while it answers well, by one request at a time while it does not."""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from fgvr.errors import UserError
from fgvr.judges.served.patience import Passing, Unanswered

log = logging.getLogger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 0.25, 8.0  # seconds, before jitter
LONGEST_AFTER = 30.0  # seconds that a server's Retry-After may ask for
SAID = 3.0  # seconds without a good reply before the log says so; then again at twice that, and so on

OUTAGES = itertools.count(1)  # each has its number in this process
Sound = Callable[[], Awaitable[None]]  # asks something harmless; raises Passing where the server is not well


class Breaker:
    """A circuit breaker before one server; lives on one event loop.

    At most `concurrency` requests are under way at once. It closes when the server fails, or asks to be left alone:
    then one task at a time sounds it out, with pauses that double, with jitter, and all others wait. Once open again it
    lets few through at first, and more with each good reply. After `patience` seconds without any good reply whoever
    waits is told so, and whoever comes later after one more try. `name` says for the log which server it is.
    """

    def __init__(self, name: str, concurrency: int, patience: float) -> None:
        self._name, self._most, self._patience = name, concurrency, patience
        self.heard = -math.inf  # when the last good reply came
        self._outage = 0  # the number of the present or last one
        self._confirmed = 0  # of the last that a sounding found to be one
        self._given_up = 0  # items, in that
        self._closed = False
        self._since = 0.0  # when that began which closed it
        self._reason = ""  # of the last failure
        self._wrong = ""  # what the user must mend, as the last sounding said
        self._due = 0.0  # when the server may be sounded out
        self._sounded = -math.inf  # when the last sounding began that failed
        self._failures = 0  # in a row
        self._say_at = SAID
        self._allowed = self._threshold = float(concurrency)  # at once; beyond the threshold it grows slowly
        self._under_way = 0
        self._slots = asyncio.Semaphore(concurrency)
        self._sounding = asyncio.Lock()
        self._room = asyncio.Event()

    @property
    def is_spent(self) -> bool:
        """Whether nothing good was heard for all of patience."""
        return self._closed and time.monotonic() - max(self._since, self.heard) >= self._patience

    @asynccontextmanager
    async def turn(self, asked: float, sound: Sound) -> AsyncIterator[None]:
        """Waits until the server may be asked. Raises Unanswered for what was `asked` before patience was over.

        UserError where `sound` raises it.
        """
        async with self._slots:
            while self._closed or self._under_way >= int(self._allowed):
                if self._closed:
                    await self._reopening(asked, sound)
                else:
                    self._room.clear()
                    await self._room.wait()
            self._under_way += 1
            try:
                yield
            finally:
                self._under_way -= 1
                self._room.set()

    def hears(self) -> None:
        """A good reply came."""
        self.heard, self._failures = time.monotonic(), 0
        if not self._closed and self._allowed < self._most:
            self._allowed += 1 if self._allowed < self._threshold else 1 / self._allowed
            self._room.set()

    async def is_well(self, began: float, failure: Passing, sound: Sound) -> bool:
        """Whether the server was well when an attempt failed that `began` then: heard since, or found so at once.

        Whoever fails in an outage is told so, also where it hears of its failure when the server is back already.
        """
        if self.heard > began:
            return True
        first = not self._closed
        if first:
            self._close(began, str(failure))
        outage = self._outage
        async with self._sounding:  # the others wait for what the first finds
            if first and self._closed:
                await self._sound_out(sound)
        return self.heard > began and self._confirmed != outage

    def leave_alone(self, began: float, failure: Passing) -> None:
        """The server has more to do than it can, and said so of what `began` then."""
        if not self._closed:
            self._close(began, str(failure))
            self._threshold = max(1.0, self._allowed / 2)
            self._failures += 1
        self._allowed = 1.0
        self._due = max(self._due, time.monotonic() + self._pause(failure.after))

    def forget(self) -> None:
        """Opens it; the next failure starts a new outage, with all of patience before it."""
        self._closed = False
        self._room.set()

    async def _reopening(self, asked: float, sound: Sound) -> None:
        async with self._sounding:
            if self._closed and self._sounded >= asked:
                self._refuse_if_hopeless()
            if self._closed:
                await asyncio.sleep(self._time_left())
                await self._sound_out(sound)

    def _time_left(self) -> float:
        """Seconds until the server may be sounded out, at the end of patience at the latest."""
        end = max(self._since, self.heard) + self._patience + random.uniform(0, 0.1)
        return max(0.0, min(self._due, end) - time.monotonic())

    async def _sound_out(self, sound: Sound) -> None:
        began = time.monotonic()
        try:
            await sound()
        except UserError as error:
            self._sounded, self._wrong = began, str(error)
            raise
        except Passing as failure:
            self._sounded, self._wrong, self._reason, self._allowed = began, "", str(failure), 1.0
            self._confirmed = self._outage
            self._failures += 1
            self._due = time.monotonic() + self._pause(failure.after)
            self._say_that_it_is_away()
        else:
            self.heard = time.monotonic()
            self._open()

    def _pause(self, after: float) -> float:
        if after > 0:
            return min(after, LONGEST_AFTER) * random.uniform(1, 1.1)
        return random.uniform(0.5, 1) * min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(self._failures - 1, 10))

    def _close(self, began: float, reason: str) -> None:
        self._closed, self._since, self._reason, self._wrong, self._due = True, began, reason, "", 0.0
        self._say_at, self._given_up = SAID, 0
        self._outage = next(OUTAGES)

    def _open(self) -> None:
        self._closed = False
        self._room.set()
        if self._say_at > SAID or self._given_up:
            lost = f"; {self._given_up} requests were given up meanwhile" if self._given_up else ""
            log.warning("%s answers again, after %.0f s%s", self._name, time.monotonic() - self._since, lost)

    def _say_that_it_is_away(self) -> None:
        waited = time.monotonic() - self._since
        if waited >= self._say_at and not self.is_spent:
            self._say_at = 2 * waited
            log.warning(
                "waiting for %s, for %.0f s by now and for %.0f s at most: %s",
                self._name, waited, self._patience, self._reason,
            )  # fmt: skip

    def _refuse_if_hopeless(self) -> None:
        if self._wrong:
            raise UserError(self._wrong)
        if self.is_spent:
            reason = f"nothing good was heard for {self._patience:g} s, at last: {self._reason}"
            if not self._given_up:
                log.warning("%s is given up, until it answers again: %s", self._name, reason)
            self._given_up += 1
            raise Unanswered(reason, self._outage)
