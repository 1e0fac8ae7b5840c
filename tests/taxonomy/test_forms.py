import pytest

from fgvr.taxonomy.forms import Forms, key, mostly_numbered
from fgvr.taxonomy.spelling import cut

NAMES = [
    "Brandt's Cormorant",
    "Swainson Warbler",
    "colt's foot",
    "bird of paradise",
    "Crème brûlée",
    "Shih Tzu",
    "F-16A/B",
    "737-300",
    "A3-10",
    "BMW M3 Coupe 2012",
    "BMW M3 Sedan 2012",
    "Boeing 737-800",
    "Audi TT",
    "Pug",
    "Sunbird",
    "Sunbirds",
]
FORMS = Forms({name: name for name in NAMES}, numbered=True)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Brandt Cormorant", "Brandt's Cormorant"),
        ("Swainson´s Warblers", "Swainson Warbler"),
        ("coltsfoot", "colt's foot"),
        ("birds of paradise", "bird of paradise"),
        ("creme brulee", "Crème brûlée"),
        ("Shihtzus", "Shih Tzu"),
        ("F16A/B", "F-16A/B"),
        ("F-16AB", "F-16A/B"),
        ("F-16/AB", None),
        ("F-16B/A", None),
        ("737 300", "737-300"),
        ("737300", None),  # the numbers are others
        ("7373-00", None),
        ("A310", None),
        ("2012 BMW M3 Coupe", "BMW M3 Coupe 2012"),
        ("Audi TTS", None),
        ("Pugs", "Pug"),
        ("Pu g", None),
        ("Sun bird", None),  # one of two
        ("", None),
    ],
)
def test_regular_spellings_are_one_form(text: str, name: str | None) -> None:
    assert FORMS.find(FORMS.regular(cut(text))) == name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("737-800", "Boeing 737-800"),
        ("M3 Coupe 2012", "BMW M3 Coupe 2012"),
        ("2012 M3 Coupe", "BMW M3 Coupe 2012"),
        ("BMW M3 2012", None),  # a coupe or a sedan
    ],
)
def test_shortened_names_are_found_where_they_are_one_alone(text: str, name: str | None) -> None:
    assert FORMS.find_shortened(FORMS.regular(cut(text))) == name


def test_keys_keep_numbers_apart_and_short_names_as_they_are() -> None:
    assert key(("f", "16")) == key(("f16",)) == ("f16", ("16",))
    assert key(("737", "300")) != key(("737300",))
    assert key(("pu", "g")) != key(("pug",))
    assert key(("yellow", "throat")) == key(("yellowthroat",))


def test_most_names_of_vehicles_hold_digits() -> None:
    assert mostly_numbered(["A310", "Spitfire"])
    assert not mostly_numbered(["A310", "Spitfire", "Tornado"])
