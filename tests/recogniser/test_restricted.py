from __future__ import annotations

import pytest

from fgvr.errors import UserError
from fgvr.options.votes import Reply
from fgvr.recogniser.restricted import restricted
from fgvr.taxonomy.names import Names
from fgvr.taxonomy.tree import Taxonomy

BIRDS = Taxonomy(
    {
        "Azure Finch": ("Finches", "Azure Finch"),
        "Amber Finch": ("Finches", "Amber Finch"),
        "Jade Owl": ("Owls", "Jade Owl"),
        "Snow Owl": ("Owls", "Snow Owl"),
    },
    ("family", "species"),
    "bird",
    {"Jade Owl": ("Strix jade",)},
)
NAMES = Names(BIRDS)


def counted(text: str | None, **how: object) -> str | None:
    return restricted(BIRDS, **how).counted(Reply("", text, 0.0, 1), NAMES).answer  # pyright: ignore[reportArgumentType]


def test_by_default_any_name_of_the_taxonomy_is_an_answer():
    found = restricted(BIRDS)
    assert found.scope == {"Finches", "Owls", *BIRDS.paths}
    assert counted("a strix jade") == "Jade Owl"
    assert counted("bird") == "bird", "which is in no scope, and so counts for nothing"
    assert counted("a fish") == "a fish"
    assert counted(None) is None


def test_an_open_world_takes_every_name_as_it_is():
    assert restricted(BIRDS, open_world=True).scope is None
    assert counted("a strix jade", open_world=True) == "a strix jade"


def test_what_stands_below_a_class_counts_for_it():
    found = restricted(BIRDS, ["finches", "Strix Jade"])
    assert found.scope == {"Finches", "Jade Owl"}
    assert found.options == {"Finches", "Azure Finch", "Amber Finch", "Jade Owl"}
    assert counted("Azure Finch", classes=["Finches", "Jade Owl"]) == "Finches"
    assert counted("Azure Finch", classes=["Finches", "Azure Finch"]) == "Azure Finch", "the nearest one counts"
    assert counted("Snow Owl", classes=["Finches", "Jade Owl"]) == "Snow Owl", "which is in no scope"


def test_within_a_branch_a_name_above_it_says_no_more_than_the_branch():
    found = restricted(BIRDS, within="owls")
    assert found.scope == {"Owls", "Jade Owl", "Snow Owl"}
    assert counted("it is a bird", within="Owls") == "Owls"
    assert counted("Snow Owl", within="Owls") == "Snow Owl"
    assert restricted(BIRDS, ["Jade Owl", "Snow Owl"], "Owls").scope == {"Jade Owl", "Snow Owl"}


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({"classes": ["Azure Finsh", "Jade Owl"]}, "'Azure Finsh' is none: the nearest are 'Azure Finch'"),
        ({"classes": "Jade Owl"}, r"classes must be a list of names, got 'Jade Owl': give \['Jade Owl', "),
        ({"classes": 7}, r"classes must be a list of names, got 7"),
        ({"classes": ["Jade Owl", None]}, "classes must be names, but None is none: give each as text"),
        ({"classes": []}, r"at least two names to tell apart, got \[\]"),
        ({"classes": ["bird", "Jade Owl"]}, "'bird' is none"),
        ({"classes": ["Jade Owl", "Strix jade"]}, "at least two names"),
        ({"classes": ["Jade Owl", "Azure Finch"], "within": "Owls"}, "'Azure Finch' does not"),
        ({"within": "Owl"}, "within must name a node of the taxonomy"),
        ({"within": "Owls", "open_world": True}, "leave open_world out"),
    ],
)
def test_refusals_are_sentences(how: dict[str, object], says: str):
    with pytest.raises(UserError, match=says):
        restricted(BIRDS, **how)  # pyright: ignore[reportArgumentType]
