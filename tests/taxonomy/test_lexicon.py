import pytest

from fgvr.taxonomy.lexicon import Written
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


@pytest.mark.parametrize(
    ("words", "held"),
    [
        ("AM General Hummer", True),
        ("am general", True),
        ("Hummer AM General", False),
        ("AM General Hummer H2", False),
        ("AM AM General", False),
        ("", False),
    ],
)
def test_a_name_holds_other_names(words: str, held: bool) -> None:
    lexicon = Names(Taxonomy.flat(["AM General Hummer SUV 2000", "AM General", "HUMMER"])).lexicon
    assert lexicon.holds(Written.of(words).words) is held


def test_marks_that_make_letters_stay_and_accents_that_stand_apart_go() -> None:
    assert Written.of("เสื่อ हिन्दी").words == ("เสื่อ", "हिन्दी")
    assert Written.of("a\u0334n\u0334s").words == ("ans",)
    assert Written.of("Anna´s Annaʼs").words == ("annas", "annas")
