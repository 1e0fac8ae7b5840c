import pytest

from fgvr.taxonomy.names import Names
from fgvr.taxonomy.tree import Taxonomy

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


def test_a_name_of_mere_punctuation_is_never_found() -> None:
    assert Names(Taxonomy.flat(["???", "Robin"])).find(":") is None


@pytest.mark.parametrize(
    "mark", ["\t", "\u200b", "\u2060", "⁄", "∕", "¦", "‖", "ǀ", "∣", "‚", "،", "→", "▪", "｜", "；", "⸵"]
)
def test_marks_that_look_like_separators_are_separators(mark: str) -> None:
    assert Names(BIRDS).find(f"Red{mark}Finch") is None
    assert Names(BIRDS).find(f"Robin{mark} European") == "Robin, European"


def test_over_long_text_is_not_read_unless_a_name_is_as_long() -> None:
    assert Names(BIRDS).find("Red Finch" + " " * 503) == "Red Finch"
    assert Names(BIRDS).find("Red Finch" + " " * 504) is None
    assert Names(BIRDS).find("a" + "\u0301\u0316" * 500_000) is None  # hours, if it were normalised
    long = "Finch " * 100 + "Finch"
    assert Names(Taxonomy.flat([long, "Robin"])).find(long) == long


def test_synonyms_say_which_genus_is_meant() -> None:
    names = Names(Taxonomy({"columbine": ("columbine",)}, synonyms={"columbine": ("Aquilegia vulgaris",)}))
    for said in ("Columbine (Aquilegia)", "Columbine, Aquilegia vulgaris", "columbine (aquilegia)"):
        assert names.find(said) == "columbine"
    for said in ("Columbine (Petunia)", "Columbine, Petunia hybrida", "Columbine (Aquilegia or not)"):
        assert names.find(said) is None


def test_a_plural_kind_is_not_the_kind_of_another_branch() -> None:
    names = Names(Taxonomy({"Beagle": ("Dogs", "Beagle"), "Bengal": ("Cats", "Bengal")}, root="pet"))
    assert [names.find(said) for said in ("Beagle dogs", "Bengal cats")] == ["Beagle", "Bengal"]
    assert [names.find(said) for said in ("Beagle cats", "Beagle cat", "Bengal dogs")] == [None] * 3
