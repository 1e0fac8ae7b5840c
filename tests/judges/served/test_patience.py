"""What counts against an item; time runs for real, in tenths of a second."""

import asyncio
import time

import pytest

from fgvr.judges.served.patience import Item, Passing, Patience


def failures(number: int, failure: Passing, patience: Patience, well: bool = True, item: Item | None = None) -> Item:
    item = item or patience.item()
    for _ in range(number):
        patience.failed(item, failure, well)
    return item


def test_what_the_model_says_without_sense_is_asked_for_three_times():
    assert not failures(2, Passing("?", garbled=True), Patience(6, 60.0)).over
    assert failures(3, Passing("?", garbled=True), Patience(6, 60.0)).over
    assert failures(2, Passing("?", garbled=True), Patience(2, 60.0)).over


def test_an_outage_counts_against_nobody():
    item = failures(50, Passing("refused"), Patience(3, 60.0), well=False)
    assert (item.over, item.pause) == (False, 0.0)  # it is waited for before the next turn


def test_it_counts_where_the_server_is_well():
    assert not failures(2, Passing("500"), Patience(3, 60.0)).over
    assert failures(3, Passing("500"), Patience(3, 60.0)).over


def test_a_busy_server_turns_an_item_away_until_patience_is_over():
    patience = Patience(3, 0.2)
    item = failures(50, Passing("429", busy=True), patience, well=False)
    assert (item.over, item.pause) == (False, 0.0)
    time.sleep(0.25)
    assert failures(1, Passing("429", busy=True), patience, well=False, item=item).over
    seldom = failures(1, Passing("429", busy=True), patience, well=False)
    time.sleep(0.25)
    assert not failures(1, Passing("429", busy=True), patience, well=False, item=seldom).over


def test_pauses_grow_and_stay_within_bounds():
    patience = Patience(100, 60.0)
    item, longest = patience.item(), 0.0
    for attempt in range(1, 40):
        patience.failed(item, Passing("500"), well=True)
        assert 0.125 * 2 ** min(attempt - 1, 5) <= item.pause <= 0.25 * 2 ** min(attempt - 1, 5)
        longest = max(longest, item.pause)
    assert 4 <= longest <= 8


@pytest.mark.parametrize("needed", [1, 2, 4])
def test_it_insists_until_there_is_an_answer(needed: int):
    patience, calls = Patience(6, 60.0), []

    async def attempt(item: Item) -> str:
        calls.append(item)
        if len(calls) < needed:
            patience.failed(item, failure := Passing("refused"), well=False)
            raise failure
        return "at last"

    assert asyncio.run(patience.insist(item := patience.item(), attempt, item)) == "at last"
    assert calls == [item] * needed


def test_the_last_failure_is_raised():
    patience, calls = Patience(2, 60.0), []

    async def attempt(item: Item) -> str:
        calls.append(item)
        patience.failed(item, failure := Passing(f"failure {len(calls)}"), well=True)
        raise failure

    with pytest.raises(Passing, match="failure 2"):
        asyncio.run(patience.insist(item := patience.item(), attempt, item))
