"""What counts against an item, and what is an outage; time runs for real, in tenths of a second."""

import asyncio
import time

import pytest

from fgvr.judges.served.patience import Item, Passing, Patience


async def goes_wrong(patience: Patience, item: Item, failure: Passing, after: float = 0.0) -> None:
    patience.begins(item)
    await asyncio.sleep(after)
    patience.failed(item, failure)


def failures(number: int, failure: Passing, patience: Patience, item: Item | None = None) -> Item:
    item = item or patience.item()
    for _ in range(number):
        asyncio.run(goes_wrong(patience, item, failure))
    return item


def test_replies_without_sense_are_tried_three_times():
    assert not failures(2, Passing("?", garbled=True), Patience(6, 60.0)).over
    item = failures(3, Passing("?", garbled=True), Patience(6, 60.0))
    assert (item.over, item.outage) == (True, False)


@pytest.mark.parametrize("failure", [Passing("refused"), Passing("500", own=True)])
def test_an_outage_it_is_while_nothing_good_is_heard(failure: Passing):
    assert not failures(50, failure, Patience(3, 60.0)).over


def test_it_counts_where_others_are_served_meanwhile():
    patience = Patience(3, 60.0)
    item = patience.item()
    for _ in range(3):
        assert not item.over
        patience.begins(item)
        assert patience.is_unclear(item)
        time.sleep(0.001)
        patience.heard()
        assert not patience.is_unclear(item)
        patience.failed(item, Passing("429"))
    assert (item.over, item.outage) == (True, False)


def test_an_outage_ends_after_patience_for_all_at_once():
    patience = Patience(3, 0.2)
    item = failures(5, Passing("refused"), patience)
    assert not item.over
    time.sleep(0.25)
    for late in (item, patience.item(), patience.item()):  # each still tries once
        failures(1, Passing("refused"), patience, late)
        assert (late.over, late.outage) == (True, True)


def test_a_good_reply_ends_an_outage():
    patience = Patience(3, 0.2)
    failures(5, Passing("refused"), patience)
    time.sleep(0.25)
    patience.heard()
    assert not failures(5, Passing("refused"), patience).over


def test_what_waits_in_the_queue_of_a_dead_server_need_not_try():
    patience = Patience(3, 0.1)
    first = [patience.item() for _ in range(8)]
    queued = patience.item()
    time.sleep(0.01)

    async def hang() -> None:
        await asyncio.gather(*(goes_wrong(patience, item, Passing("no reply"), after=0.15) for item in first))

    asyncio.run(hang())
    with pytest.raises(Passing):
        patience.begins(queued)
    assert queued.outage
    patience.begins(patience.item())  # who comes later may find it well again


def test_pauses_grow_and_stay_within_bounds():
    patience = Patience(6, 1e6)
    item = patience.item()
    longest = 0.0
    for attempt in range(1, 40):
        item.attempts = attempt
        pause = patience.pause(item, Passing("500"))
        assert 0.125 * 2 ** min(attempt - 1, 5) <= pause <= 0.25 * 2 ** min(attempt - 1, 5)
        longest = max(longest, pause)
    assert 4 <= longest <= 8


@pytest.mark.parametrize(("after", "least", "most"), [(3.0, 3.0, 3.3), (1e9, 30.0, 33.0)])
def test_the_wish_of_the_server_is_heard_within_reason(after: float, least: float, most: float):
    patience = Patience(6, 1e6)
    item = patience.item()
    item.attempts = 1
    assert least <= patience.pause(item, Passing("429", after=after)) <= most


def test_no_pause_goes_beyond_the_end_of_patience():
    patience = Patience(6, 0.5)
    item = failures(20, Passing("refused"), patience)
    assert patience.pause(item, Passing("429", after=20.0)) <= 0.6


def test_it_insists_until_there_is_an_answer():
    patience, calls = Patience(6, 60.0), []

    async def attempt(item: Item) -> str:
        patience.begins(item)
        calls.append(item)
        if len(calls) < 4:
            patience.failed(item, failure := Passing("refused"))
            raise failure
        patience.heard()
        return "at last"

    item = patience.item()
    assert asyncio.run(patience.insist(item, attempt, item)) == "at last"
    assert item.attempts == 4
