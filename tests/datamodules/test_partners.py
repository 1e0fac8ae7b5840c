import random
from dataclasses import replace
from typing import Any

import pytest
from toy_birds import example

from fgvr.datamodules.partners import FrozenPartners
from fgvr.shards.manifest import MemberEntry, PartnerEntry, SampleEntry
from fgvr.types import Partner


@pytest.mark.parametrize(
    ("positive", "negative", "kept"),
    [
        (Partner((b"other",), "p", "Red Finch"), Partner((b"ash",), "n", "Ash Finch"), ("p", "n")),
        (Partner((b"other",), "p", ""), Partner((b"ash",), "n", ""), ("p", "n")),  # whose labels nobody knows
        (Partner((b"photo",), "p", "Red Finch"), Partner((b"photo",), "n", "Ash Finch"), (None, None)),  # its own photo
        (None, Partner((b"ash",), "n", "Red Finch"), (None, None)),  # of its own class
        (None, None, (None, None)),
    ],
)
def test_frozen_partners_that_cannot_be_are_left_out(
    positive: Partner | None, negative: Partner | None, kept: tuple[str | None, str | None]
):
    found = FrozenPartners()(replace(example(), positive=positive, negative=negative), random.Random(0))
    assert (found.positive and found.positive.uid, found.negative and found.negative.uid) == kept


def entry(*partners: PartnerEntry, members: tuple[str, ...] = ("jpg", "json", "neg.jpg", "pos.jpg")) -> SampleEntry:
    return SampleEntry("k", "Robin", tuple(MemberEntry(f"k.{end}", 0, 1, 0) for end in members), "aa", 1, 1, partners)


class Index:
    """The entries of a set, without shards."""

    dataset = "birds"

    def __init__(self, *entries: SampleEntry) -> None:
        self.entries = lambda: iter(entries)


def kept(own: SampleEntry, *others: SampleEntry) -> frozenset[str]:
    sets: Any = [Index(own), Index(*others)]
    return FrozenPartners.of(sets).roles("birds", own)


def test_the_index_tells_which_partners_can_be_used():
    assert kept(entry()) == {"positive", "negative"}  # shards that say nothing of theirs
    assert kept(entry(members=("jpg", "json"))) == set()
    assert kept(entry(PartnerEntry("pos", "p", "Robin", "aa"))) == {"negative"}
    assert kept(entry(PartnerEntry("neg", "n", "Robin", "bb"))) == {"positive"}
    assert kept(entry(PartnerEntry("neg", "n", "", "bb"), members=("jpg", "neg.jpg"))) == {"negative"}
    assert kept(entry(PartnerEntry("neg", "n", "Robin", ""))) == {"positive"}  # a set that knows no hashes
    assert kept(entry(PartnerEntry("neg", "n", "Wren", ""))) == {"positive", "negative"}


def test_what_other_sets_of_the_dataset_show_a_picture_under_counts():
    pair = (PartnerEntry("pos", "p", "", "bb"), PartnerEntry("neg", "n", "", "cc"))
    assert kept(entry(*pair), replace(entry(), key="o", picture="cc", label="Wren")) == {"positive", "negative"}
    assert kept(entry(*pair), replace(entry(), key="o", picture="cc")) == {"positive"}
    assert kept(entry(*pair), replace(entry(), key="o", picture="bb", label="Wren")) == {"negative"}
    other = [replace(entry(), key=label, picture="cc", label=label) for label in ("Wren", "Emu")]
    assert kept(entry(*pair), *other) == {"positive"}
    same = (PartnerEntry("pos", "p", "", "bb"), PartnerEntry("neg", "n", "", "bb"))
    assert kept(entry(*same)) == {"positive"}
