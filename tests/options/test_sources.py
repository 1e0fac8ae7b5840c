from __future__ import annotations

import pytest
from toy_birds import classes
from toy_replies import made, sampled

from fgvr.errors import UserError
from fgvr.options.sources import Alike, Asked, Confused, Mined, Mixture, OptionSource, RandomNames
from fgvr.options.votes import tally

SAID = sampled("u", "Red Finch", "Plain Wren", "Plain Wren", "Red Finch", "Ash Finch")
ASKED = Asked("u", "Red Finch", tally(SAID.replies, made(1).names))
CONFUSIONS = {"Red Finch": {"Ash Finch": 2, "Plain Wren": 5}}


def offered(source: OptionSource, most: int = 3) -> list[str]:
    return source.bind(classes(), CONFUSIONS).offered(ASKED, most)


def test_the_model_s_own_names_come_by_their_votes():
    assert offered(Mined()) == ["Plain Wren", "Red Finch", "Ash Finch"]
    assert offered(Mined(), 1) == ["Plain Wren"]


def test_siblings_come_first():
    assert sorted(offered(Alike(), 2)) == ["Ash Finch", "Blue Finch"]
    assert offered(Alike(), 9)[2:] == ["Tall Finch"]


def test_what_was_confused_more_often_comes_first():
    assert offered(Confused()) == ["Plain Wren", "Ash Finch"]
    assert Confused().bind(classes(), {}).offered(ASKED, 3) == []


def test_random_names_belong_to_seed_and_photo():
    assert offered(RandomNames()) == offered(RandomNames())
    assert len({*offered(RandomNames(), 6)}) == 6 == len(offered(RandomNames(), 20))
    drawn = {tuple(RandomNames(seed).bind(classes(), {}).offered(ASKED, 3)) for seed in range(9)}
    assert len(drawn) > 3


def test_a_mixture_takes_turns():
    assert offered(Mixture([Mined(), Confused()]), 4) == ["Plain Wren", "Red Finch", "Ash Finch"]
    assert offered(Mixture([Confused(), Alike()]), 2)[0] == "Plain Wren"
    with pytest.raises(UserError, match="needs a source"):
        Mixture([])


def test_a_source_says_whether_it_looks_at_the_label():
    assert [source.needs_label for source in (Mined(), RandomNames(), Alike(), Confused())] == [
        False,
        False,
        True,
        True,
    ]
    assert not Mixture([Mined(), RandomNames()]).needs_label
    assert Mixture([Mined(), Alike()]).needs_label


def test_a_source_that_was_bound_leaves_its_settings_as_they_were():
    source = Mixture([RandomNames()])
    source.bind(classes(), {})
    assert source.sources[0].names == ()  # pyright: ignore[reportAttributeAccessIssue]
