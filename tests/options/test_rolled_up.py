from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fgvr.options.rolled_up import RankName, RolledUp, by_node, deepest, levels, rank_of, ranked_names
from fgvr.options.votes import Reply, Tally, tally
from fgvr.taxonomy.names import Names
from fgvr.taxonomy.tree import Taxonomy

BIRDS = Taxonomy(
    {
        "Red Finch": ("Finches", "Carduelis", "Red Finch"),
        "Pale Finch": ("Finches", "Carduelis", "Pale Finch"),
        "Dusk Finch": ("Finches", "Serinus", "Dusk Finch"),
        "Snow Owl": ("Owls", "Bubo", "Snow Owl"),
        "Emu": ("Ratites", "Emu"),
    },
    ("family", "genus", "species"),
    "bird",
)
NAMES = Names(BIRDS)


def rolled(*answers: str | None) -> RolledUp:
    """One reply of log-prob 0 for each answer, -1 for each further one, so that earlier ones rank first of equals."""
    replies = [Reply("", answer, -float(n), 1) for n, answer in enumerate(answers)]
    return RolledUp(tally(replies, NAMES), BIRDS)


def test_votes_count_for_every_node_above_the_name():
    # 10 replies: 3 Red, 2 Pale, 1 "Finches", 2 Owl, 1 unknown, 1 unreadable
    found = rolled(*["Red Finch"] * 3, *["Pale Finch"] * 2, "finches", *["Snow Owl"] * 2, "a fish", None)
    assert found.shares == {
        "Finches": 0.6,  # 3 + 2 + 1
        "Carduelis": 0.5,  # 3 + 2
        "Red Finch": 0.3,
        "Pale Finch": 0.2,
        "Owls": 0.2,
        "Bubo": 0.2,
        "Snow Owl": 0.2,
    }
    assert found.likeliest == ("Finches", "Carduelis", "Red Finch")


def test_the_likeliest_path_need_not_lead_to_the_most_voted_name():
    # the owl is named by 4, each of two finches by 3: 6 of 10 say that it is a finch
    found = rolled(*["Snow Owl"] * 4, *["Red Finch"] * 3, *["Pale Finch"] * 3)
    assert found.votes.ranked[0].name == "Snow Owl"
    assert found.likeliest == ("Finches", "Carduelis", "Red Finch")
    assert found.deepest(0.5) == "Carduelis"
    assert found.deepest(0.3) == "Red Finch"
    assert found.deepest(0.61) is None


def test_a_share_that_equals_the_threshold_is_enough():
    found = rolled("Red Finch", "Red Finch", "Pale Finch", "Snow Owl")
    assert [found.deepest(step / 4) for step in (1, 2, 3, 4)] == ["Red Finch", "Red Finch", "Carduelis", None]


def test_of_equals_the_better_ranked_counts():
    assert rolled("Snow Owl", "Red Finch").likeliest[-1] == "Snow Owl"
    assert rolled("Red Finch", "Snow Owl").likeliest[-1] == "Red Finch"


def test_a_path_has_a_confidence_at_each_rank():
    found = rolled("Emu", "Emu", "ratites", "Red Finch")
    expected = [("family", "Ratites", 0.75), ("genus", "Emu", 0.5), ("species", "Emu", 0.5)]
    assert found.path("Emu") == tuple(RankName(*one) for one in expected)
    assert [one.confidence for one in found.path("Emu", own=0.1)] == [0.75, 0.1, 0.1]
    assert found.path("Ratites") == (RankName("family", "Ratites", 0.75),)
    assert found.path("Pale Finch")[-1].confidence == 0.0
    assert found.path(None) == found.path("a fish") == found.path("bird") == ()
    assert by_node(found.path("Emu")) == [("Ratites", 0.75), ("Emu", 0.5)]


def test_nothing_read_has_no_path():
    assert rolled(None, None).likeliest == ()
    assert rolled(None).deepest(0.0) is None
    assert RolledUp(Tally((), {}, 0), BIRDS).shares == {}


def test_ranks_of_nodes():
    assert [rank_of(BIRDS, node) for node in ("Finches", "Bubo", "Snow Owl", "Emu", "bird", "fish")] == [
        *("family", "genus", "species", "species"),
        *(None, None),
    ]


def test_a_taxonomy_without_ranks_has_levels():
    bare = Taxonomy({"a": ("x", "a"), "b": ("b",)})
    assert levels(bare) == ("level 1", "level 2")
    assert ranked_names(bare, "a") == [("level 1", "x"), ("level 2", "a")]
    assert rank_of(bare, "a") == "level 2"
    assert levels(BIRDS) == BIRDS.ranks


NODES = [*BIRDS.lineage, None, "fish"]


@given(st.lists(st.sampled_from(NODES), min_size=1, max_size=12), st.floats(0, 1))
def test_shares_never_rise_downward_and_a_stricter_threshold_is_never_finer(answers: list[Any], threshold: float):
    found = rolled(*answers)
    shares = [found.shares[node] for node in found.likeliest]
    assert shares == sorted(shares, reverse=True)
    assert all(0 < share <= 1 for share in found.shares.values())
    loose, strict = found.deepest(threshold), found.deepest(min(1.0, threshold + 0.1))
    assert strict is None or strict == loose or BIRDS.is_ancestor(strict, str(loose))


@pytest.mark.parametrize(("threshold", "node"), [(0.0, "c"), (0.5, "b"), (0.8, "a"), (0.95, None)])
def test_deepest(threshold: float, node: str | None):
    assert deepest([("a", 0.9), ("b", 0.5), ("c", 0.1)], threshold) == node
