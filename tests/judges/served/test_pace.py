import asyncio
import time

from fgvr.judges.served.pace import Pace


def seconds(pace: Pace, amounts: list[float]) -> float:
    async def work() -> None:
        await asyncio.gather(*(pace.take(amount) for amount in amounts))

    began = time.monotonic()
    asyncio.run(work())
    return time.monotonic() - began


def test_without_a_bound_nobody_waits():
    assert seconds(Pace(None), [1e9] * 1000) < 30


def test_what_is_taken_is_spaced_out():
    assert 0.9 <= seconds(Pace(600), [1.0] * 10) < 5  # a tenth of a second each, the first at once


def test_more_takes_longer():
    assert 0.5 <= seconds(Pace(6000), [20.0, 30.0, 1.0]) < 5


def test_what_was_estimated_is_corrected():
    pace = Pace(600)
    seconds(pace, [10.0])
    pace.correct(-9.0)
    assert seconds(pace, [1.0]) < 0.5  # and not a second
    pace.correct(5.0)
    assert seconds(pace, [1.0]) >= 0.4
