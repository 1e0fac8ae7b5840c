import pytest

from fgvr.taxonomy.makers import makers_among, of_aircraft, without_maker
from fgvr.taxonomy.spelling import cut


@pytest.mark.parametrize(
    ("text", "aircraft", "parts"),
    [
        ("Boeing 737-800", True, ("boeing", "737 800")),
        ("Boeing 737-800", False, ("boeing", "737 800")),
        ("McDonnell Douglas F/A-18", True, ("mcdonnell dougla", "f | a 18")),
        ("Saab Saab 340", True, ("saab", "saab 340")),
        ("Boeing Saab 340", True, None),
        ("Boeing A320", True, None),
        ("Boeing XX-1", True, ("boeing", "xx 1")),
        ("Boeing XX-1", False, None),
        ("Boeing XX-1 2012", True, None),
        ("Boeing Dove", True, None),
        ("Diamond Dove", False, None),
        ("Boeing", True, None),
        ("", True, None),
    ],
)
def test_a_maker_before_what_it_may_have_built(text: str, aircraft: bool, parts: tuple[str, str] | None) -> None:
    found = without_maker(cut(text), aircraft)
    assert (found and (found[0], " ".join(found[1]))) == parts


def test_aircraft_are_known_by_who_built_them() -> None:
    assert of_aircraft(["A320", "737-800", "XX-1"])
    assert not of_aircraft(["BMW M3 Coupe 2012", "Audi S4", "Dodge Ram"])


def test_makers_among_names() -> None:
    assert makers_among(["Boeing", "McDonnell Douglas", "fighters"]) == {"boeing", "mcdonnell dougla"}
