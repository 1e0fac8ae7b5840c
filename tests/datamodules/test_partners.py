import random
from dataclasses import replace

import pytest
from toy_birds import example

from fgvr.datamodules.partners import frozen_partners, usable_partners
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
    found = frozen_partners(replace(example(), positive=positive, negative=negative), random.Random(0))
    assert (found.positive and found.positive.uid, found.negative and found.negative.uid) == kept


def entry(*partners: PartnerEntry, members: tuple[str, ...] = ("jpg", "json", "neg.jpg", "pos.jpg")) -> SampleEntry:
    return SampleEntry("k", "Robin", tuple(MemberEntry(f"k.{end}", 0, 1, 0) for end in members), "aa", 1, 1, partners)


def test_the_index_tells_which_partners_can_be_used():
    assert usable_partners(entry()) == {"pos", "neg"}  # shards that say nothing of theirs
    assert usable_partners(entry(members=("jpg", "json"))) == set()
    assert usable_partners(entry(PartnerEntry("pos", "p", "Robin", "aa"))) == {"neg"}
    assert usable_partners(entry(PartnerEntry("neg", "n", "Robin", "bb"))) == {"pos"}
    assert usable_partners(entry(PartnerEntry("neg", "n", "", "bb"), members=("jpg", "neg.jpg"))) == {"neg"}
