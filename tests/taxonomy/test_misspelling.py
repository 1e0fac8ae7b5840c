import pytest

from fgvr.taxonomy.misspelling import Misspellings

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
