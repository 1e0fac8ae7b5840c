import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fgvr.taxonomy.spelling import PART, UNUSUAL, cut, mentions, normalise, singular, singulars, spelling, unaccented


def test_spelling_keeps_the_pieces_of_a_list() -> None:
    assert spelling("Finch; the Wren/ Robin,") == ("finch", "the wren", "robin")


@pytest.mark.parametrize("mark", [*"'’‘‛`´ʼʻʹ′＇\x92"])
def test_an_apostrophe_is_one_in_any_form(mark: str) -> None:
    assert normalise(f"Anna{mark}s") == "annas"
    assert cut(f"Anna{mark}s Harris{mark} Chuck-will{mark}s-widow") == ("anna", "harris", "chuck", "will", "widow")


def test_vowel_and_tone_marks_are_letters() -> None:
    for one, other in (("เสื่อ", "เสือ"), ("ปู่", "ปู"), ("कमला", "कमल"), ("दीन", "दिन"), ("バス", "ハス"), ("йод", "иод")):
        for form in ("NFC", "NFD"):
            assert normalise(unicodedata.normalize(form, one)) == normalise(one) != normalise(other)
            assert cut(unicodedata.normalize(form, one)) == cut(one) != cut(other)


@pytest.mark.parametrize(
    ("text", "bare"),
    [
        ("crème brûlée", "creme brulee"),
        ("phở", "pho"),
        ("đà nẵng", "da nang"),
        ("são tomé", "sao tome"),
        ("smørrebrød", "smorrebrod"),
        ("łódź", "lodz"),
        ("cre\u0300me", "creme"),
        ("r\u0334uby", "ruby"),
        ("бой", "бой"),
    ],
)
def test_latin_letters_are_bare_without_accents(text: str, bare: str) -> None:
    assert unaccented(text) == bare


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Black & White Warbler", ("black", "and", "white", "warbler")),
        ("F/A-18", ("f", PART, "a", "18")),
        (", Owl; Little /", ("owl", PART, "little")),
        ("Grey St. Bernard", ("gray", "saint", "bernard")),
        ("will-o'-the-wisp", ("will", "o", "the", "wisp")),
        ("L'Hoest's \"Monkey\"", ("lhoest", "monkey")),
        ("?!", ()),
        ("", ()),
    ],
)
def test_the_words_of_a_name(name: str, words: tuple[str, ...]) -> None:
    assert cut(name) == words


@pytest.mark.parametrize(
    ("plural", "one"),
    [
        ("finches", "finch"),
        ("lilies", "lily"),
        ("collies", "collie"),
        ("irises", "iris"),
        ("cactuses", "cactus"),
        ("cacti", "cactus"),
        ("tzus", "tzu"),
        ("wolves", "wolf"),
        ("knives", "knife"),
        ("roses", "rose"),
        ("mosquitoes", "mosquito"),
        ("albatrosses", "albatross"),
        ("titmice", "titmouse"),
        ("mongeese", "mongoose"),
    ],
)
def test_a_plural_may_be_of(plural: str, one: str) -> None:
    assert one in singulars(plural)


def test_what_is_no_plural_is_left_alone() -> None:
    assert [singular(word) for word in ("cactus", "iris", "glass", "gas", "240s", "birds")] == [
        "cactus",
        "iris",
        "glass",
        "gas",
        "240s",
        "bird",
    ]
    for word in ("tts", "911s", "rs", "เสือ"):
        assert [*singulars(word)] == []


@pytest.mark.parametrize("text", ["**Robin**", "`Robin`", "Robin?", "Robin ...", "<b>", "a\x07", "e" + "\u0316" * 9])
def test_markup_and_doubt_are_unusual(text: str) -> None:
    assert UNUSUAL.search(text)


@pytest.mark.parametrize("text", ["Anna`s (a bird), “F/A-18”.", "Crème & phở", "เสื่อ हिन्दी", "Rosa × hybrida", "a\tb"])
def test_names_are_not(text: str) -> None:
    assert not UNUSUAL.search(text)


@given(st.text(max_size=30))
def test_cutting_the_joined_words_changes_nothing_more(text: str) -> None:
    words = cut(text)
    assert cut(" ".join(words).replace(PART, "/")) == words


def test_long_text_takes_linear_time() -> None:
    start = time.process_time()
    for text in ("a'" * 50_000, "é" * 50_000, "a" + "ั" * 50_000, "& / " * 25_000, "e\u0316a" * 30_000):
        assert cut(text) is not None
        normalise(text)
        UNUSUAL.search(text)
    assert time.process_time() - start < 5


@pytest.mark.parametrize(
    ("text", "name", "stands"),
    [
        ("Much like all Great Tits.", "great tit", True),
        ("The great tit's head", "Great Tit", True),
        ("gr\u00adeat ti\u200bt", "Great Tit", True),
        ("a great titmouse", "Great Tit", False),
        ("great, tit", "Great Tit", False),
        ("trailing", "Rail", False),
        ("anything", "?!", False),
    ],
)
def test_a_name_stands_in_a_text_by_its_words(text: str, name: str, stands: bool) -> None:
    assert mentions(text, name) == stands
