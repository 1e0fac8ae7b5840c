"""So much a minute and no more."""

from __future__ import annotations

import asyncio
import time


class Pace:
    """Spaces out what is taken evenly, `per_minute` of it in a minute, without a bound where that is None."""

    def __init__(self, per_minute: int | None) -> None:
        self._seconds = 60 / per_minute if per_minute else 0.0  # for each
        self._free = 0.0  # when the next may be taken, of `time.monotonic`

    async def take(self, amount: float = 1.0) -> None:
        """Waits until what was taken before has had its time."""
        now = time.monotonic()
        start = max(now, self._free)
        self._free = start + amount * self._seconds
        if start > now:
            await asyncio.sleep(start - now)

    def correct(self, more: float) -> None:
        """It was so much more than was taken, or less where that is negative."""
        self._free += more * self._seconds
