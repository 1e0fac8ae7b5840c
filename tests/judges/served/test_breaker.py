"""When a server may be asked; time runs for real, in tenths of a second."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

import pytest

from fgvr.errors import UserError
from fgvr.judges.served.breaker import Breaker
from fgvr.judges.served.patience import Passing, Unanswered

REFUSED = Passing("refused")


class Asked:
    """A server as the breaker sees it: well or not, and when it was asked for what."""

    def __init__(self, concurrency: int = 8, patience: float = 60.0) -> None:
        self.breaker = Breaker("the server", concurrency, patience)
        self.well = True
        self.failure: Exception = REFUSED
        self.times: list[float] = []
        self.soundings: list[float] = []
        self.under_way = self.most = 0

    async def sound(self) -> None:
        self.soundings.append(time.monotonic())
        await asyncio.sleep(0.01)
        if not self.well:
            raise self.failure

    async def item(self) -> bool:
        """Asked until there is an answer; says whether the first failure was found to be its own."""
        asked, own = time.monotonic(), False
        while True:
            async with self.breaker.turn(asked, self.sound):
                began = time.monotonic()
                self.times.append(began)
                self.under_way += 1
                self.most = max(self.most, self.under_way)
                await asyncio.sleep(0.01)
                self.under_way -= 1
                well = self.well
            if well:
                self.breaker.hears()
                return own
            own = await self.breaker.is_well(began, REFUSED, self.sound)

    async def items(self, number: int) -> list[bool | BaseException]:
        return await asyncio.gather(*(self.item() for _ in range(number)), return_exceptions=True)


def run(asked: Asked, work: Callable[[Asked], Awaitable[None]]) -> Asked:
    asyncio.run(asyncio.wait_for(work(asked), 30))  # pyright: ignore[reportArgumentType]
    return asked


def test_many_at_once_while_it_is_well():
    async def work(asked: Asked) -> None:
        assert await asked.items(50) == [False] * 50

    asked = run(Asked(), work)
    assert (asked.most, len(asked.times), asked.soundings) == (8, 50, [])


def test_one_at_a_time_while_it_is_away():
    async def work(asked: Asked) -> None:
        asked.well = False
        waiting = asyncio.create_task(asked.items(300))
        await asyncio.sleep(1.2)
        assert len(asked.times) == 8  # those under way when it failed
        assert 2 <= len(asked.soundings) <= 5  # after 0, 1/4, 1/2 and 1 second, or half of each
        asked.well = True
        assert not any(isinstance(each, BaseException) for each in await waiting)

    asked = run(Asked(), work)
    assert len(asked.times) == 308
    assert asked.most == 8  # in the end


def test_an_attempt_that_hears_late_of_an_outage_is_not_to_blame():
    async def work(asked: Asked) -> None:
        asked.well, began = False, time.monotonic()
        waiting = asyncio.create_task(asked.items(2))
        await asyncio.sleep(0.1)  # the next sounding is awaited, which will find the server back
        asked.well = True
        assert not await asked.breaker.is_well(began, REFUSED, asked.sound)
        assert asked.breaker.heard > began
        assert await waiting == [False, False]

    run(Asked(), work)


def test_it_opens_a_little_at_first():
    async def work(asked: Asked) -> None:
        asked.well = False
        waiting = asyncio.create_task(asked.items(20))
        await asyncio.sleep(0.05)
        asked.times.clear()
        asked.well = True
        await waiting

    asked = run(Asked(), work)
    first, second, *_ = sorted(asked.times)
    assert second - first >= 0.009  # alone


def test_what_fails_while_it_is_well_is_to_blame_itself():
    async def work(asked: Asked) -> None:
        began = time.monotonic()
        assert await asked.breaker.is_well(began, REFUSED, asked.sound)
        assert len(asked.soundings) == 1
        assert await asked.breaker.is_well(began, REFUSED, asked.sound)  # was heard since
        assert len(asked.soundings) == 1

    run(Asked(), work)


def test_when_patience_is_over_all_who_wait_are_told_and_who_comes_later_tries_once(
    caplog: pytest.LogCaptureFixture,
):
    async def work(asked: Asked) -> None:
        asked.well = False
        for _ in range(2):
            began = time.monotonic()
            found = await asked.items(100)
            assert all(isinstance(each, Unanswered) and each.outage for each in found)
            assert {str(each) for each in found} == {"nothing good was heard for 0.3 s, at last: refused"}
            assert time.monotonic() - began < 1.0
        assert len(asked.soundings) <= 5
        asked.well = True
        assert await asked.items(3) == [False] * 3

    run(Asked(patience=0.3), work)
    first, last = (record.message for record in caplog.records)
    assert first == (
        "the server is given up, until it answers again: nothing good was heard for 0.3 s, at last: refused"
    )
    assert last.startswith("the server answers again, after ")
    assert last.endswith(" s; 200 requests were given up meanwhile")


def test_the_log_says_that_it_waits_at_twice_the_seconds_each(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("fgvr.judges.served.breaker.SAID", 0.2)

    async def work(asked: Asked) -> None:
        asked.well = False
        waiting = asyncio.create_task(asked.items(50))
        await asyncio.sleep(1.5)
        asked.well = True
        await waiting

    run(Asked(patience=9.0), work)
    *waits, back = (record.message for record in caplog.records if record.levelno == logging.WARNING)
    assert 1 <= len(waits) <= 3
    assert all(wait.startswith("waiting for the server, for ") for wait in waits)
    assert all(wait.endswith(" s by now and for 9 s at most: refused") for wait in waits)
    assert back.startswith("the server answers again, after ")


def test_a_short_failure_is_not_worth_a_line(caplog: pytest.LogCaptureFixture):
    async def work(asked: Asked) -> None:
        asked.well = False
        waiting = asyncio.create_task(asked.items(20))
        await asyncio.sleep(0.2)
        asked.well = True
        await waiting

    run(Asked(), work)
    assert not caplog.records


@pytest.mark.parametrize(("after", "least", "most"), [(0.4, 0.4, 0.6), (0.0, 0.1, 0.4)])
def test_a_server_that_is_busy_is_left_alone_as_long_as_it_says(after: float, least: float, most: float):
    async def work(asked: Asked) -> None:
        await asked.items(1)
        asked.times.clear()
        began = time.monotonic()
        asked.breaker.leave_alone(began, Passing("429", busy=True, after=after))
        await asked.items(20)
        assert least <= asked.soundings[0] - began <= most + 0.3
        assert min(asked.times) > asked.soundings[0]

    run(Asked(), work)


def test_no_server_is_left_alone_beyond_the_end_of_patience():
    async def work(asked: Asked) -> None:
        asked.well = False
        began = time.monotonic()
        asked.breaker.leave_alone(began, Passing("429", busy=True, after=25.0))
        assert isinstance((await asked.items(1))[0], Unanswered)
        assert time.monotonic() - began < 2.0

    run(Asked(patience=0.3), work)


def test_what_the_user_must_mend_is_told_to_all_who_wait():
    async def work(asked: Asked) -> None:
        asked.well, asked.failure = False, UserError("mend the key")
        found = await asked.items(100)
        assert all(isinstance(each, UserError) and str(each) == "mend the key" for each in found)
        assert len(asked.soundings) <= 2
        asked.well = True
        assert await asked.items(2) == [False] * 2

    run(Asked(), work)


def test_who_sounds_it_out_may_be_called_off():
    async def work(asked: Asked) -> None:
        asked.well = False
        tasks = [asyncio.create_task(asked.item()) for _ in range(12)]
        await asyncio.sleep(0.3)
        for task in tasks[:11]:
            task.cancel()
        asked.well = True
        await tasks[11]
        assert await asked.items(20) == [False] * 20  # and no turn is lost

    asked = run(Asked(), work)
    assert asked.most == 8


def test_a_forgotten_outage_begins_anew():
    async def work(asked: Asked) -> None:
        asked.well = False
        await asked.items(1)
        asked.breaker.forget()
        began = time.monotonic()
        await asked.items(1)
        assert time.monotonic() - began >= 0.3

    run(Asked(patience=0.3), work)
