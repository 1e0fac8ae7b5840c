import pytest

from fgvr.taxonomy.lexicon import Written
from fgvr.taxonomy.names import Names
from fgvr.taxonomy.spelling import spelling
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


def test_spelling_keeps_the_pieces_of_a_list() -> None:
    assert spelling("Finch; the Wren/ Robin,") == ("finch", "the wren", "robin")


def test_a_name_of_mere_punctuation_is_never_found() -> None:
    assert Names(Taxonomy.flat(["???", "Robin"])).find(":") is None


@pytest.mark.parametrize(
    "mark", ["\t", "\u200b", "\u2060", "⁄", "∕", "¦", "‖", "ǀ", "∣", "‚", "،", "→", "▪", "｜", "；", "⸵"]
)
def test_marks_that_look_like_separators_are_separators(mark: str) -> None:
    assert Names(BIRDS).find(f"Red{mark}Finch") is None
    assert Names(BIRDS).find(f"Robin{mark} European") == "Robin, European"


def test_text_is_cut_into_words_with_what_stands_between() -> None:
    text = Written.of("“The” Brewer’s  Owl/Cre\u0300me & ｘ!")
    assert text.words == ("the", "brewers", "owl", "crème", "and", "x")
    assert text.raw == ("The", "Brewer’s", "Owl", "Crème", "&", "x")
    assert text.gaps == ("“", "” ", "  ", "/", " ", " ", "!")
    assert Written.of("ǀ ?!").words == ()
    assert Written.of("").gaps == ("",)


def spots(text: str) -> list[tuple[int, int, str]]:
    return [(spot.start, spot.end, spot.node) for spot in Names(BIRDS).lexicon.spots(Written.of(text))]


def test_names_are_found_in_longer_text_the_longest_first() -> None:
    assert spots("a young Red Finch, not a finch") == [(2, 4, "Red Finch"), (6, 7, "Finch")]
    assert spots("red, finch") == [(1, 2, "Finch")]  # as a list it is not the name
    assert spots("Robin European and robin, european") == [(0, 2, "Robin, European"), (3, 5, "Robin, European")]
    assert spots("black & white warbler rubra vulgaris bird") == [
        (0, 4, "Black-and-white Warbler"),
        (4, 6, "Red Finch"),
        (6, 7, "bird"),
    ]
    assert spots("redfinch") == []


@pytest.mark.parametrize(
    ("text", "nodes"),
    [
        ("redfinchwarbler", ["Red Finch", "Warbler"]),
        ("Red Finch BirdThrush", ["Red Finch", "bird", "Thrush"]),
        ("redfinchs", []),
        ("finch", ["Finch"]),
        ("", []),
    ],
)
def test_names_run_together(text: str, nodes: list[str]) -> None:
    assert Names(BIRDS).lexicon.run_together(Written.of(text)) == nodes


def test_names_run_together_are_found_by_a_second_way_where_the_longest_leads_nowhere() -> None:
    lexicon = Names(Taxonomy.flat(["abc", "abcd", "dex", "exy", "xyz"])).lexicon
    assert lexicon.run_together(Written.of("abcdexabc")) == ["abc", "dex", "abc"]
    assert lexicon.run_together(Written.of("abcdexy")) == ["abcd", "exy"]


def test_a_lexicon_holds_what_names_are_made_of() -> None:
    lexicon = Names(BIRDS).lexicon
    assert {"black", "and", "european", "vulgaris"} <= lexicon.words
    assert {",", "-"} <= lexicon.characters
    assert not {"/", "&"} & lexicon.characters
    assert ("black", "and") in lexicon.pairs
    assert lexicon.joins == {("robin", "european")}


def test_over_long_text_is_not_read_unless_a_name_is_as_long() -> None:
    assert Names(BIRDS).find("Red Finch" + " " * 503) == "Red Finch"
    assert Names(BIRDS).find("Red Finch" + " " * 504) is None
    assert Names(BIRDS).find("a" + "\u0301\u0316" * 500_000) is None  # hours, if it were normalised
    long = "Finch " * 100 + "Finch"
    assert Names(Taxonomy.flat([long, "Robin"])).find(long) == long
