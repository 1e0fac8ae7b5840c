from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy_birds import BIRDS

from fgvr.errors import UserError
from fgvr.taxonomy.branch import branch_of, inside
from fgvr.taxonomy.tree import Taxonomy

FINCHES = ["Red Finch", "Blue Finch", "Ash Finch", "Tall Finch"]


def test_a_branch_is_a_name_and_all_below_it():
    branch = branch_of(BIRDS, "finches")
    assert branch.node == "Finches"
    assert branch.classes == {*FINCHES}
    assert branch.nodes == {"Finches", "Roundbill", "Longbill", *FINCHES}
    assert branch_of(BIRDS, "bird").classes == BIRDS.paths.keys()


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("Red Finch", "Red Finch"),
        ("Roundbill", "Roundbill"),
        ("Finches", "Finches"),
        ("bird", "Finches"),  # true, and no finer than what is known already
        ("Wrens", None),
        ("Plain Wren", None),
        (None, None),
    ],
)
def test_a_name_says_of_a_branch_what_it_says_beyond_it(said: str | None, meant: str | None):
    assert branch_of(BIRDS, "Finches").narrowed(said) == meant


def test_the_cut_taxonomy_keeps_paths_ranks_root_and_synonyms():
    cut = branch_of(BIRDS, "Roundbill").cut()
    assert [*cut.paths] == FINCHES[:3]
    assert cut.paths["Red Finch"] == BIRDS.paths["Red Finch"]
    assert (cut.ranks, cut.root, cut.synonyms) == (BIRDS.ranks, "bird", {"Red Finch": ("Rubra",)})
    assert branch_of(BIRDS, "Wrens").cut().synonyms == {}


def test_a_name_that_is_none_is_told_which_are_near_or_which_there_are():
    with pytest.raises(UserError, match=r"'Finchs' is none: the nearest are 'Finches'"):
        branch_of(BIRDS, "Finchs")
    with pytest.raises(
        UserError, match=r"'zzz' is none: there are 'bird', 'Finches', 'Roundbill', 'Longbill', 'Wrens', …"
    ):
        branch_of(BIRDS, "zzz")


@pytest.mark.parametrize(
    ("leaf", "above"), [("Red Finch", "Roundbill"), ("Longbill", "Finches"), ("Rubra", "Roundbill")]
)
def test_a_branch_of_one_class_leaves_nothing_to_tell_apart(leaf: str, above: str):
    with pytest.raises(UserError, match=rf"at least two classes to tell apart, but .* has 1: .* such as '{above}'"):
        branch_of(BIRDS, leaf)
    with pytest.raises(UserError, match="such as 'thing'"):
        branch_of(Taxonomy.flat(["a", "b"]), "a")


@given(st.lists(st.sampled_from(sorted(BIRDS.paths))), st.sampled_from(["Finches", "Roundbill", "Cocktail"]))
def test_every_label_is_inside_or_out(labels: list[str], name: str):
    branch = branch_of(BIRDS, name)
    places = inside(labels, branch)
    assert [labels[place] for place in places] == [label for label in labels if name in BIRDS.lineage[label]]
    assert inside(labels, None) == [*range(len(labels))]
