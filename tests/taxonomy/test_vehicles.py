import pytest

from fgvr.taxonomy.spelling import cut
from fgvr.taxonomy.vehicles import has_digit, maker_in_full, shortened, without_year, year_last, yearless


@pytest.mark.parametrize(
    ("words", "ordered"),
    [
        ("2012 bmw m3", "bmw m3 2012"),
        ("bmw 2012 m3", "bmw m3 2012"),
        ("bmw m3 | 2012", "bmw m3 2012"),
        ("2012 | bmw m3", "bmw m3 2012"),
        ("2000 saab", "2000 saab"),  # a model
        ("mazda 2000 x 2012", "mazda 2000 x 2012"),
        ("silverado 1500 crew", "silverado 1500 crew"),
    ],
)
def test_the_year_is_moved_to_the_end(words: str, ordered: str) -> None:
    assert year_last(tuple(words.split())) == tuple(ordered.split())


def forms(name: str, makers: tuple[str, ...] = (), numbered: bool = True) -> set[str]:
    return {" ".join(words) for words in shortened(cut(name), {(maker,) for maker in makers}, numbered)}


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("Boeing 737-800", {"737 800"}),
        ("Eurofighter Typhoon", {"typhoon"}),
        ("BMW M3 Coupe 2012", {"bmw m3 2012", "m3 coupe 2012", "m3 2012"}),
        ("Cessna 172", {"172"}),
        ("Fokker 100", set()),  # a number that could be a score
        ("Gulfstream V", set()),
        ("Beechcraft 1900", set()),
        ("Spitfire", set()),
        ("Ford Sedan 2012", set()),
        ("AM General Hummer SUV 2000", {"am general hummer 2000", "hummer suv 2000", "hummer 2000"}),
        ("Yugo Florida 2010", set()),  # nobody we know
    ],
)
def test_makers_and_body_types_are_left_out(name: str, found: set[str]) -> None:
    assert forms(name) == found


def test_a_pickup_and_its_cab_are_two_things() -> None:
    found = forms("Dodge Ram Pickup 3500 Crew Cab 2010")
    assert {"dodge ram 3500 crew cab 2010", "ram 3500 crew cab 2010", "dodge ram pickup 3500 2010"} <= found


def test_only_vehicles_have_makers() -> None:
    assert forms("Lincoln Sparrow", numbered=False) == set()
    assert forms("Eagle Owl", numbered=False) == set()
    assert forms("Boeing 737-800", numbered=False) == {"737 800"}


def test_the_makers_of_a_taxonomy_count_where_a_number_is_left() -> None:
    assert forms("Yugo 45 2010", ("yugo",)) == {"45 2010"}
    assert forms("Yugo Florida", ("yugo",)) == set()


def test_digits() -> None:
    assert has_digit(("a", "b1"))
    assert not has_digit(("a", "b"))


ROVERS = {"land rover range rover", "land rover range rover suv", "range rover", "range rover suv"}


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("BMW M3 Coupe 2012", {"bmw m3", "bmw m3 coupe"}),
        ("2012 BMW M3", {"bmw m3"}),
        ("Rolls-Royce Ghost Sedan 2012", {"rolls royce ghost", "rolls royce ghost sedan"}),
        ("Land Rover Range Rover SUV 2012", ROVERS),
        ("Saab 2000", set()),
        ("BMW M3 Coupe", set()),
        ("Ford Sedan 2012", set()),
    ],
)
def test_years_are_left_out(name: str, found: set[str]) -> None:
    assert {" ".join(words) for words in yearless(cut(name), (), numbered=True)} == found


def test_all_but_the_year() -> None:
    assert without_year(cut("2012 BMW M3 Coupe"), ()) == {("bmw", "m3", "coupe"), ("m3", "coupe")}
    assert without_year(cut("Saab 2000"), ()) == set()


def test_makers_in_short() -> None:
    assert maker_in_full(("chevy", "corvette")) == ("chevrolet", "corvette")
    for words in (("mercede", "e", "class"), ("mercede", "benz", "e", "class")):
        assert maker_in_full(words) == ("mercede", "benz", "e", "class")
    for words in (("chevy",), (), ("red", "chevy")):
        assert maker_in_full(words) == words
