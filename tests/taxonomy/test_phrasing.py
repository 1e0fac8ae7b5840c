import pytest
from more_class_names import ASIDES, SCIENTIFIC_NAMES

from fgvr.taxonomy.phrasing import (
    aside,
    beside,
    genus,
    has_genera,
    kind_length,
    kinds,
    said,
    same_species,
    scientific,
    surely_scientific,
)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("It is a Robin.", "a Robin."),
        ("it’s an Emu", "an Emu"),
        ("This is the Robin", "the Robin"),
        ("I think it's an Emu", "an Emu"),
        ("I believe that this is Robin", "Robin"),
        ("The bird is a Robin", "a Robin"),
        ("This dog breed is a Beagle", "a Beagle"),
        ("The bird shown in the photo is a Robin", "a Robin"),
        ("This image shows a Robin", "a Robin"),
        ("A photo of a Robin", "a Robin"),
        ("This is a picture of a Robin", "a Robin"),
        ("Robin", None),
        ("It is", None),
        ("It is not a Robin", "not a Robin"),  # no name either
        ("It might be a Robin", None),
        ("The answer is a Robin", None),
        ("The weapon is a sabre", None),
        ("Nothing is a Robin", None),
    ],
)
def test_what_a_sentence_says(text: str, name: str | None) -> None:
    assert said(text) == name


def test_what_all_are_may_be_the_subject() -> None:
    assert said("The weapon is a sabre", frozenset({"weapon"})) == "a sabre"


def test_kinds_go_by_the_root() -> None:
    assert "cat" in kinds("thing") & kinds("pet") & kinds("animal")
    assert kinds("bird species") == {"bird", "species"}
    assert "plane" in kinds("aircraft")
    assert "fish" not in kinds("thing")  # a lion fish is no lion
    assert "cat" not in kinds("bird")


@pytest.mark.parametrize(
    ("words", "length"),
    [("bengal cat", 1), ("beagle dog breed", 2), ("house sparrow species", 1), ("beagle", 0), ("cat", 1), ("", 0)],
)
def test_words_at_the_end_that_say_the_kind(words: str, length: int) -> None:
    assert kind_length(tuple(words.split()), kinds("thing")) == length


def test_asides() -> None:
    assert aside("Robin (Erithacus rubecula).") == ("Robin ", "Erithacus rubecula")
    for text in ("Robin", "Robin ()", "Robin (a) (b)", "(Robin)", "Yellow-rumped (Myrtle) Warbler", "Robin ((a))"):
        assert aside(text) is None


@pytest.mark.parametrize("name", SCIENTIFIC_NAMES)
def test_scientific_names_are_known_by_their_endings(name: str) -> None:
    assert scientific(name)
    assert scientific(name.upper()) == scientific(name.lower())


@pytest.mark.parametrize("text", [*ASIDES, "Passer", "a b c d e", "Passer domesticus, or not", "", "12 us"])
def test_other_asides_are_no_scientific_names(text: str) -> None:
    assert not scientific(text)


def test_class_names_that_sound_latin() -> None:
    assert surely_scientific("Cautleya spicata")
    for name in ("Cactus Wren", "Chili con carne", "garden phlox", "Canada Warbler", "Iris", "tuna tartare", ""):
        assert not surely_scientific(name)


def test_the_same_species() -> None:
    passer = ("passer", "domesticus")
    for other in (passer, ("p.", "domesticus"), ("passer", "domesticus", "indicus")):
        assert same_species(passer, other)
        assert same_species(other, passer)
    for other in (("passer", "montanus"), ("parus", "domesticus"), ("t.", "domesticus")):
        assert not same_species(passer, other)


@pytest.mark.parametrize(
    ("text", "length"), [("bengal cats", 1), ("beagle dog breeds", 2), ("tulip flowers", 1), ("beagles", 0)]
)
def test_kinds_may_stand_in_the_plural(text: str, length: int) -> None:
    assert kind_length(tuple(text.split()), kinds("thing")) == length


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Species: Robin", "Robin"),
        ("dog breed: Beagle", "Beagle"),
        ("This appears to be a Robin", "a Robin"),
        ("It looks like a Robin", "a Robin"),
        ("The bird seems to be a Robin", "a Robin"),
        ("Answer: Robin", None),
        ("Not: Robin", None),
        ("It appears to a Robin", None),
    ],
)
def test_what_a_title_or_an_appearance_says(text: str, name: str | None) -> None:
    assert said(text) == name


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("Robin, Erithacus rubecula", ("Robin", "Erithacus rubecula")),
        ("robin, erithacus rubecula.", ("robin", "erithacus rubecula")),
        ("Erithacus rubecula, Robin", ("Robin", "Erithacus rubecula")),
        ("Robin, Cactus Wren", None),
        ("robin, cactus wren", None),
        ("Robin, Wren", None),
        ("Robin, Wren, Erithacus rubecula", None),
        ("Robin (Wren), Erithacus rubecula", None),
    ],
)
def test_a_scientific_name_after_a_comma(text: str, parts: tuple[str, str] | None) -> None:
    assert beside(text) == parts


def test_a_genus_is_known_by_its_capital_and_its_ending() -> None:
    for word in ("Aquilegia", "Corvus", "Digitalis", "Antirrhinum"):
        assert genus(word) == (word.lower(),)
    for word in (*ASIDES, "aquilegia", "Ambiguous", "Malinois", "Hummus", "Prius", "Aquilegia?", "Pho"):
        assert not genus(word)
    assert [has_genera(root) for root in ("flower", "bird", "pet", "car", "food")] == [True, True, False, False, False]
