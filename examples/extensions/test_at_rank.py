import pytest
from at_rank import AtRank

from fgvr.errors import UserError
from fgvr.taxonomy.tree import Taxonomy
from fgvr.types import Verdict

BIRDS = Taxonomy(
    {
        "Ruby Finch": ("Finches", "Roundbill", "Ruby Finch"),
        "Ash Finch": ("Finches", "Roundbill", "Ash Finch"),
        "Little Owl": ("Owls", "Hooter", "Little Owl"),
    },
    ("family", "genus", "species"),
)


def test_the_genus_is_enough():
    said = ["Ruby Finch", "Ash Finch", "Roundbill", "Finches", "Little Owl", "I do not know"]
    found = AtRank("genus").bind(BIRDS).verdicts([("Ruby Finch", answer) for answer in said])
    more, one, less = Verdict.MORE_SPECIFIC, Verdict.SPECIFIC, Verdict.LESS_SPECIFIC
    assert [one.verdict for one in found] == [more, more, one, less, Verdict.WRONG, Verdict.ABSTAIN]


def test_a_rank_that_there_is_not_is_refused():
    with pytest.raises(UserError, match="order"):
        AtRank("order").bind(BIRDS)
