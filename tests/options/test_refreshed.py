from __future__ import annotations

import pytest
from toy_birds import classes
from toy_replies import made, sampled

from fgvr.options.deriving import Choice, Rules, derive
from fgvr.options.refreshed import Refreshed, figures_of, sentence_of
from fgvr.options.store import Sampled

SET = [
    sampled("easy", "Red Finch", "Red Finch", "Red Finch"),
    sampled("mute", "Red Finch", None, None),
    sampled("new", "Red Finch", "Ash Finch", "Red Finch"),
]


def choice(uid: str, *options: str, truth: bool = True) -> Choice:
    """Red finches; the last option is the label, put there afterwards if `truth`."""
    names = (*options, "Red Finch")
    origins = ("offered",) * len(options) + ("truth" if truth else "offered",)
    return Choice(uid, "Red Finch", names, (1,) * len(names), origins)  # pyright: ignore[reportArgumentType]


def refreshed(before: list[Choice], asked: list[Sampled]) -> Refreshed:
    return Refreshed.of(before, asked, derive(made(len(asked)), asked, Rules(), classes()))


OLD = [choice(uid, "Blue Finch") for uid in ("easy", "mute", "new", "not asked")]


def test_easy_photos_go_and_what_has_no_new_options_keeps_its_own():
    one = refreshed(OLD, SET)
    assert {uid: found.options for uid, found in one.now.items()} == {
        "mute": ("Blue Finch", "Red Finch"),
        "new": ("Ash Finch", "Red Finch"),
        "not asked": ("Blue Finch", "Red Finch"),
    }
    assert one.easy == {"easy"}


def test_a_photo_that_had_gone_comes_back_when_it_is_easy_no_more():
    one = refreshed([choice("not asked", "Blue Finch")], SET)
    assert set(one.now) == {"new", "not asked"}


def test_the_last_photos_are_not_taken_away():
    one = refreshed([choice("easy", "Blue Finch")], SET[:1])
    assert one.now == one.before
    assert "a set of which none would be left keeps the options that it has" in sentence_of([one], 3)


def test_every_photo_that_is_asked_is_counted():
    figures = figures_of([refreshed(OLD, SET)])
    counts = {name: figures[name] for name in ("asked", "easy", "not_renewed", "photos")}
    assert counts == {"asked": 3, "easy": 1, "not_renewed": 1, "photos": 3}
    assert figures["tokens"] == 6 * 5
    assert figures["staleness"] == pytest.approx(2 / 3)
    assert (figures["recall_before"], figures["recall"]) == (0, 1)


def test_sets_whose_uids_are_alike_are_not_mixed_up():
    same = refreshed([choice("new", "Ash Finch", truth=False)], SET[2:])
    other = refreshed([choice("new", "Blue Finch")], SET[2:])
    figures = figures_of([same, other])
    assert (figures["asked"], figures["photos"]) == (2, 2)
    assert figures["staleness"] == pytest.approx((0 + 2 / 3) / 2)


def test_without_a_photo_to_compare_there_is_no_staleness():
    one = refreshed([choice("not asked", "Blue Finch")], SET[1:2])
    assert set(figures_of([one])) == {"asked", "easy", "not_renewed", "photos", "tokens"}
    said = sentence_of([one], 1200)
    assert said == (
        "Options of 1 photos were mined anew after step 1,200; without new options because no reply parses: 1. "
        "1 photos are trained on."
    )
