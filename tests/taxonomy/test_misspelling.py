from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from more_class_names import BENCHMARKS
from rapidfuzz.distance import OSA

from fgvr.taxonomy.forms import Forms
from fgvr.taxonomy.misspelling import Misspellings, nearly_one_name

TWINS = ("carolinian wagtail", "carolinean wagtail")
WORDS = ("tree swallow", "tree sparrow", "mockingbird", "gulfstream 5", "dc 6", *TWINS)


def find(text: str, similarity: float = 0.9) -> str | None:
    names: dict[tuple[str, ...], set[str]] = {tuple(name.split()): {name} for name in WORDS}
    return Misspellings(names, similarity).find(tuple(text.split()))


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("tree swalow", "tree swallow"),
        ("mokcingbird", "mockingbird"),
        ("carolinuan wagtail", None),  # as near to the one as to the other
        ("carolinian wagtial", "carolinian wagtail"),
        ("gulfstraem 5", "gulfstream 5"),
        ("gulfstream 6", None),
        ("dhc 6", None),
        ("tern swallow", None),
        ("mockingbirdmockingbird", None),
        ("", None),
    ],
)
def test_a_slip_of_the_pen_is_the_name_and_nothing_else_is(text: str, name: str | None) -> None:
    assert find(text) == name


def test_similarity_says_how_much_must_stay() -> None:
    assert find("mockngbrd") is None
    assert find("mockngbrd", 0.8) == "mockingbird"


@pytest.mark.parametrize(
    ("one", "other", "near"),
    [
        ("Black-footed Albatross", "Black footed Albatros", True),
        ("Black-footed Albatross", "Blackfooted albatrosses", True),
        ("Black-footed Albatross", "Black-footde Albatros", True),  # two words, a slip in each: 2 edits of 22 letters
        ("Grey Catbird", "Gray catbird", True),
        ("Crème brûlée", "Creme brulee", True),
        ("Brandt's Cormorant", "Brandt Cormorant", True),
        ("Mockingbird", "Nockingbird", True),
        ("Boeing 737-800", "Boeing 737-900", False),  # another number is another thing
        ("Arctic Tern", "Arctic Fern", False),  # the first letter of a short word
        ("Tree Swallow", "Tree Sparrow", False),
        ("Red Wren", "Red Wran", False),  # a short word
        ("Raven", "Ravin", False),  # 1 edit of 5 letters
    ],
)
def test_names_that_are_nearly_one(one: str, other: str, near: bool) -> None:
    assert nearly_one_name([one, "Laysan Duck", other]) == ([(min(one, other), max(one, other))] if near else [])


@pytest.mark.parametrize("name", BENCHMARKS)
def test_no_benchmark_has_names_that_are_nearly_one(name: str) -> None:
    assert nearly_one_name(BENCHMARKS[name]) == []


def looked_at_one_by_one(names: list[str]) -> list[tuple[str, str]]:
    """The slow twin, for names that no rule makes one."""

    def slip(word: str, meant: str) -> bool:
        first = word[0] == meant[0] or min(len(word), len(meant)) >= 8
        return word == meant or (min(len(word), len(meant)) >= 5 and first and OSA.distance(word, meant) == 1)

    def near(one: str, other: str) -> bool:
        pairs = list(zip(one.split(), other.split(), strict=False))
        same = len(one.split()) == len(other.split()) and all(slip(*pair) for pair in pairs)
        return same and OSA.normalized_similarity(one, other) >= 0.9

    return [pair for pair in combinations(sorted(names), 2) if near(*pair)]


WORD = st.sampled_from(["kestrelo", "kestrela", "kesterlo", "kestrel", "lestrelo", "buteo", "butea", "boteo", "putea"])


@given(st.sets(st.lists(WORD, min_size=1, max_size=3).map(" ".join), max_size=9).map(sorted))
def test_none_is_missed_and_none_is_made_up(names: list[str]) -> None:
    assert not list(Forms({name: name for name in names}).one_by_rule())
    assert nearly_one_name(names) == looked_at_one_by_one(names)
