import pytest

from fgvr.data.names import Names, spelling
from fgvr.data.taxonomy import Taxonomy

BIRDS = Taxonomy(
    {
        "Red Finch": ("Finch", "Red Finch"),
        "Black-and-white Warbler": ("Warbler", "Black-and-white Warbler"),
        "Robin, European": ("Thrush", "Robin, European"),
        "A Capella": ("Thrush", "A Capella"),
    },
    ("family", "species"),
    "bird",
    {"Red Finch": ("Rubra vulgaris",)},
)


@pytest.mark.parametrize(
    ("text", "node"),
    [
        ("red finch", "Red Finch"),
        ("The Red-Finch.", "Red Finch"),
        ("rubra vulgaris", "Red Finch"),
        ("black and white warbler", "Black-and-white Warbler"),
        ("European, Robin", None),
        ("Robin / European", "Robin, European"),
        ("Robin European", "Robin, European"),
        ("a capella", "A Capella"),
        ("a finch,", "Finch"),
        ("an bird", "bird"),
        ("Red, Finch", None),
        ("Red\nFinch", None),
        ("Red / Finch", None),
        ("Red，Finch", None),  # the full-width comma
        ("Red Finch or Warbler", None),
        (":", None),
        ("the", None),
        ("", None),
    ],
)
def test_finds_whole_names_and_no_lists(text: str, node: str | None) -> None:
    assert Names(BIRDS).find(text) == node


def test_spelling_keeps_the_pieces_of_a_list() -> None:
    assert spelling("Finch; the Wren/ Robin,") == ("finch", "the wren", "robin")


def test_a_name_of_mere_punctuation_is_never_found() -> None:
    assert Names(Taxonomy.flat(["???", "Robin"])).find(":") is None
