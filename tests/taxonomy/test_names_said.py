"""The bar for the matcher: what people say for a class is that class and never another, whatever is named."""

from __future__ import annotations

import itertools
import random
import re
import time
from collections import defaultdict
from collections.abc import Iterator

import name_variants as say
import pytest
from class_names import DATA_SETS
from hypothesis import given, settings
from hypothesis import strategies as st
from more_class_names import ASIDES, BENCHMARKS, BUILT, MAKERS, NAMES, NOUNS, SCIENTIFIC_NAMES

from fgvr.taxonomy.names import Names
from fgvr.taxonomy.tree import Taxonomy

ALL = BENCHMARKS | NAMES
KNOWN = {kind: Names(Taxonomy.flat(listed)) for kind, listed in ALL.items()}
CHANGES = (
    say.dropped_possessives,
    say.plurals,
    say.accents,
    say.spaces,
    say.ampersands,
    say.slashes,
    say.years_in_front,
    say.short_makers,
    say.cases,
)
LEAST = 0.98  # of each kind of change that must be found
LATIN_LABELS = ("cautleya spicata",)  # with another scientific name beside them they would be two things


def variants(kind: str, names: list[str]) -> Iterator[tuple[str, str, str]]:
    """A kind of change, the label, and what is said for it."""
    changes = CHANGES if kind in NAMES else (*CHANGES, say.possessives)
    for name in names:
        yield from ((change.__name__, name, text) for change in changes for text in change(name))
        yield from (("accented", name, text) for text in say.accented(name) if kind in NAMES)
        for noun in NOUNS[kind]:
            yield from (("sentences", name, text) for text in say.sentences(name, noun))
            for text in (f"{name} {noun}", f"{name} ({noun})", f"a {name} {noun}.", f"It is a {name.lower()} {noun}."):
                yield "kinds", name, text
            yield from (("plural kinds", name, f"{name} {plural}") for plural in say.plurals(noun))
            yield from (("titles", name, f"{title}: {name}") for title in (noun.title(), "Species", "breed"))
        for scientific in random.Random(name).sample(SCIENTIFIC_NAMES, 4):
            genera = {other.lower() for other in names}
            if scientific.split()[0].lower() not in genera and name not in LATIN_LABELS:  # no hibiscus is a cactus
                yield "scientific names", name, f"{name} ({scientific})"
                if "," not in name and not kind.startswith(("aircraft", "car")):
                    yield "scientific names after a comma", name, f"{name}, {scientific}"
                    yield "scientific names after a comma", name, f"{scientific}, {name}"
    for change, title in ((say.without_body, "bodies"), (say.without_maker(MAKERS), "makers")):
        if title == "bodies" or kind.startswith(("aircraft", "car")):  # Lincoln's Sparrow is not a Lincoln
            yield from ((title, name, text) for name, text in say.unique(change, names).items())
    for change in (say.without_year, say.without_body_and_year):
        said = say.unique(change, names).items()
        longer = {text for _, text in said if any(other.startswith(f"{text} ") for _, other in said)}
        yield from (("years", name, text) for name, text in said if text not in longer)


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("root", ["thing", "own"])
def test_what_people_say_for_a_class_is_that_class_and_never_another(kind: str, root: str) -> None:
    names, found = Names(Taxonomy.flat(ALL[kind], root=kind if root == "own" else root)), defaultdict[str, list](list)
    assert [name for name in ALL[kind] if names.find(name) != name] == []
    every, least = (1, LEAST) if root == "thing" else (5, LEAST - 0.03)  # of fewer names, less surely
    asked = set(ALL[kind][::every])
    for change, label, text in variants(kind, ALL[kind]):
        if label in asked:
            found[change].append((names.find(text), label, text))
    for change, triples in found.items():
        assert [triple for triple in triples if triple[0] not in (None, triple[1])] == [], change
        missed = [triple for triple in triples if triple[0] is None]
        assert len(missed) <= (1 - least) * len(triples), (change, missed[:9])


def test_every_name_of_one_world_is_foreign_in_another() -> None:
    """Apart from names that two of them share but for their spelling or a maker."""
    for kind, own in ALL.items():
        names = Names(Taxonomy.flat(own))
        foreign = {name for other, listed in ALL.items() if other != kind for name in listed} - {*own}
        for name in foreign:
            node = names.find_misspelt(name)
            assert node is None or letters_of(name) & letters_of(node) or one_ends(name, node), (name, node)


def one_ends(name: str, node: str) -> bool:
    return node.endswith(f" {name}") or name.endswith(f" {node}")


def letters_of(name: str) -> set[str]:
    """With and without the s of possessives: colt's foot is coltsfoot, and Brandt's cormorant Brandt cormorant."""
    return {re.sub(parting, "", name.lower()) for parting in (r"['’]s\b|s\b|\W|\band\b", r"\W")}


@pytest.mark.parametrize(
    ("own", "other"), [(0, 1), (1, 0)], ids=["the first half is known", "the second half is known"]
)
def test_what_is_said_for_unknown_classes_is_no_known_class(own: int, other: int) -> None:
    for kind, listed in BENCHMARKS.items():
        halves = [sorted(listed)[::2], sorted(listed)[1::2]]
        names = Names(Taxonomy.flat(halves[own]))
        said = [
            (label, text) for change, label, text in variants(kind, halves[other]) if change not in ("bodies", "years")
        ]
        assert [(label, text) for label, text in said if names.find(text) is not None] == []


@pytest.mark.parametrize("kind", ["aircraft", "bird", "car", "dog", "aircraft without makers", "cars of other makers"])
def test_a_slip_of_the_pen_never_makes_a_name_its_neighbour(kind: str) -> None:
    """Unless what is written is the neighbour's name, letter by letter: DHC-6 without its H is DC-6."""
    names = Names(Taxonomy.flat(ALL[kind]))
    letters = {re.sub(r"[\W_]", "", name).lower() for name in ALL[kind]}
    for place, label in enumerate(ALL[kind]):
        for slip in itertools.islice(dict.fromkeys(say.slips(label)), place % 5, None, 5):
            node = names.find_misspelt(slip)
            assert node in (None, label) or re.sub(r"[\W_]", "", slip).lower() in letters, (label, slip, node)


HEDGES = """
not a {n}|It is not a {n}.|This isn't a {n}|{n} or {m}|a {n} or a {m}|{n}, {m}|{n} and {m}|{n} & {m}|{n}/{m}|
{n} (or {m})|{n} (not {m})|{n} ({m})|maybe a {n}|It might be a {n}|probably {n}|
either {n} or {m}|I think it's a {n} or a {m}|It is a {n}, not a {m}|The bird is a {n}, possibly|{n} {m}|{n}{m}|
{n}-{m}|{n}; {m}|{n} + {m}|anything but a {n}|{n} dog or cat|{n} dog cat|{n} (cat) (dog)|It is a {n} and a {m}|
I don't think it is a {n}|{n} mix|I think it's not a {n}|neither {n} nor {m}|{n} × {m}|{m} {n} bird|
The answer is {n}|{n} {n}|Similar to {n}|this is no {n}|{n} (Passer domesticus, {m})|{n} (Passer domesticus) ({m})|
{m} (Passer domesticus)|It is a {m}.|{m} cat|a {m} dog breed
"""


@pytest.mark.parametrize("kind", [*ALL, *DATA_SETS])
def test_hedges_negations_and_lists_name_nothing(kind: str) -> None:
    listed, rng = (ALL | DATA_SETS)[kind], random.Random(0)
    names = Names(Taxonomy.flat(listed))
    hedges = [hedge.strip("\n") for hedge in HEDGES.replace("\n", "").split("|")]
    for label in listed:
        for hedge, aside in zip(rng.sample(hedges, 12), rng.sample(ASIDES, 12), strict=True):
            other = rng.choice([name for name in listed if name.lower() != label.lower()])
            asides = [] if aside.lower() == label.lower() else [f"{label} ({aside})"]
            for text in (hedge.format(n=label, m=other), *asides):
                assert names.find(text) != label, text


@settings(deadline=None, max_examples=300)
@given(data=st.data(), kind=st.sampled_from(sorted(ALL)))
def test_changes_together_are_no_other_class(data: st.DataObject, kind: str) -> None:
    """A change of a change is the class or nothing."""
    names = KNOWN[kind]
    label = data.draw(st.sampled_from(ALL[kind]))
    text = label
    for change in data.draw(st.lists(st.sampled_from(CHANGES), max_size=3)):
        text = data.draw(st.sampled_from([*change(text), text]))
    assert names.find(text) in (label, None)


def test_a_tree_of_makes_models_and_years() -> None:
    """A model is a node of its own above the years in which it was built; makes are parts of models' names."""
    tree = Taxonomy(
        {
            label: (
                next(maker for maker in sorted(MAKERS, key=len)[::-1] if label.startswith(maker)),
                label[:-5],
                label,
            )
            for label in BENCHMARKS["car"]
        },
        ("make", "model", "year"),
        "car",
    )
    names = Names(tree)
    for path in tree.paths.values():
        assert [names.find(node) for node in path] == [*path]
    for said, node in (
        ("Dodge Ram 3500 Crew Cab", "Dodge Ram Pickup 3500 Crew Cab"),
        ("2010 Dodge Ram 3500 Crew Cab", "Dodge Ram Pickup 3500 Crew Cab 2010"),
        ("Ram 3500 Crew Cab", "Dodge Ram Pickup 3500 Crew Cab"),
        ("AM General Hummer", "AM General Hummer SUV"),
        ("a Hummer", "HUMMER"),
        ("Dodge", "Dodge"),
        ("BMW M3", "BMW M3 Coupe"),
        ("Audi S5", None),
        ("AM General or Hummer", None),
    ):
        assert names.find(said) == node


@pytest.mark.parametrize(
    ("labels", "said", "node"),
    [
        (["columbine", "petunia"], "Columbine (Aquilegia)", "columbine"),
        (["columbine", "petunia"], "Columbine (Petunia)", None),
        (["Blue Jay", "Green Jay"], "Blue Jay, Cyanocitta cristata", "Blue Jay"),
        (["Blue Jay", "Green Jay"], "Blue Jay, Gray jay", None),
        (["Blue Jay", "Green Jay"], "Blue Jay, Canada warbler", None),
        (["Pizza", "Pho"], "Pizza, Chicken quesadilla", None),
        (["columbine", "rose"], "Columbine (Petunia)", None),  # a second flower
        (["Blue Jay", "Green Jay"], "Blue Jay, Green jay", None),
        (["BMW M3 Coupe 2012", "Saab 2000"], "BMW M3 Coupe from 2012", "BMW M3 Coupe 2012"),
        (["BMW M3 Coupe 2012", "Saab 2000"], "Saab from 2000", None),
        (["Bánh mì", "Phở"], "banh mis", "Bánh mì"),
        (["Audi TT", "Audi A4"], "Audi TTS", None),
    ],
)
def test_what_stands_beside_a_name(labels: list[str], said: str, node: str | None) -> None:
    assert Names(Taxonomy.flat(labels)).find(said) == node


@pytest.mark.parametrize(
    ("said", "node"),
    [
        ("BMW M3", "BMW M3 Coupe 2012"),
        ("a Volvo 240 car", "Volvo 240 Sedan 1993"),
        ("Chrysler 300 SRT-8", "Chrysler 300 SRT-8 2010"),
        ("Nissan 240 SX", "Nissan 240SX Coupe 1998"),
        ("Dodge Ram 3500 Crew Cab", "Dodge Ram Pickup 3500 Crew Cab 2010"),
        ("Range Rover", "Land Rover Range Rover SUV 2012"),
        ("2012 Bentley Continental Supersports", "Bentley Continental Supersports Conv. Convertible 2012"),
        ("2012 Mercedes E-Class", "Mercedes-Benz E-Class Sedan 2012"),
        ("Chevy Corvette ZR1", "Chevrolet Corvette ZR1 2012"),
        ("Chevrolet Corvette", None),  # one of three models
        ("Audi S4", None),  # of two years
        ("BMW M3 Coupe 2011", None),
        ("M3", None),
        ("Ghost", None),
    ],
)
def test_a_year_left_out_where_the_rest_is_one_class(said: str, node: str | None) -> None:
    assert Names(Taxonomy.flat(BENCHMARKS["car"])).find(said) == node


def test_a_name_behind_that_of_its_parent_is_the_name() -> None:
    """Models that are called "M3" below a make: "BMW M3" is the model, and never a year or another model."""
    paths: dict[str, tuple[str, ...]] = {}
    for label in BENCHMARKS["car"]:
        make = next(maker for maker in sorted(MAKERS, key=len)[::-1] if label.startswith(maker))
        model = (say.without_body_and_year(label) or label).removeprefix(make).strip()
        if model.lower() not in ("hummer", "ram pickup 3500 crew cab"):  # one that is a make, one that two nodes hold
            paths[label] = (make, model, label)
    names = Names(Taxonomy(paths, ("make", "model", "class"), "car"))
    models = {path[:2] for path in paths.values()}
    found = {(make, model): names.find(f"{make} {model}") for make, model in models}
    assert [pair for pair, node in found.items() if node not in (None, pair[1])] == []
    assert sum(node is not None for node in found.values()) >= LEAST * len(found)
    assert [names.find(f"{make} {model} {label}") for label, (make, model, _) in paths.items()].count(None) == len(
        paths
    )


@pytest.mark.parametrize(
    ("said", "node"),
    [
        ("BMW M3", "M3"),
        ("a BMW M-3 car", "M3"),
        ("Audi S4", "S4"),
        ("AM General Hummer", "Hummer"),
        ("Dodge Ram", "Ram"),
        ("BMW M3 Coupe", "BMW M3 Coupe 2012"),
        ("Audi S4 Sedan", None),  # of two years
        ("Audi M3", None),
        ("Audi, S4", None),
        ("M3 BMW", None),
        ("BMW Audi", None),
    ],
)
def test_a_model_below_its_make(said: str, node: str | None) -> None:
    paths = [
        ("BMW", "M3", "BMW M3 Coupe 2012"),
        ("Audi", "S4", "Audi S4 Sedan 2007"),
        ("Audi", "S4", "Audi S4 Sedan 2012"),
        ("AM General", "Hummer", "AM General Hummer SUV 2000"),
        ("Dodge", "Ram", "Dodge Ram Pickup 3500 Crew Cab 2010"),
    ]
    assert Names(Taxonomy({path[-1]: path for path in paths}, root="car")).find(said) == node


def test_a_parent_is_no_part_of_another_word() -> None:
    names = Names(Taxonomy({"Apple": ("Pine", "Apple"), "House Finch": ("Finch", "House Finch")}))
    assert [names.find(said) for said in ("Pine Apple", "Pineapple", "Finch House Finch")] == ["Apple", None, None]


@pytest.mark.parametrize("listed", [DATA_SETS["aircraft"], NAMES["aircraft without makers"]], ids=["FGVC", "others"])
def test_aircraft_behind_their_maker_are_the_aircraft(listed: list[str]) -> None:
    names = Names(Taxonomy.flat(listed))
    said = [(label, text) for label in listed for text in say.makers_added(BUILT)(label)]
    found = {(label, text): names.find(text) for label, text in said}
    assert [(pair, node) for pair, node in found.items() if node not in (None, pair[0])] == []
    missed = [pair for pair, node in found.items() if node is None]
    assert len(missed) <= (1 - LEAST) * len(found), missed
    assert len({label for label, _ in said}) > 0.8 * len([label for label in listed if "Boeing" not in label])


@pytest.mark.parametrize("kind", ["aircraft", "aircraft without makers", "car", "bird", "dog"])
def test_a_maker_before_a_name_never_makes_it_another(kind: str) -> None:
    names = Names(Taxonomy.flat(ALL[kind]))
    for label in ALL[kind]:
        assert {names.find(f"{maker} {label}") for maker in (*BUILT, *MAKERS)} <= {None, label}


@pytest.mark.parametrize(
    ("said", "node"),
    [
        ("Boeing 737-800", "737-800"),
        ("a Supermarine Spitfire aircraft", "Spitfire"),
        ("General Dynamics F-16AB", "F-16A/B"),
        ("Cessna Cessna 172", "Cessna 172"),
        ("Boeing A320", None),  # Airbus built it
        ("Airbus 737-800", None),
        ("Boeing Spitfire", None),
        ("Airbus Boeing 717", None),
        ("Boeing Boeing 737-800", None),
        ("Boeing or 737-800", None),
        ("Boeing, 737-800", None),
        ("Boeing 737-850", None),
        ("Boeing", None),
        ("Honda 737-800", None),
    ],
)
def test_makers_are_believed_where_they_may_have_built_it(said: str, node: str | None) -> None:
    assert Names(Taxonomy.flat(DATA_SETS["aircraft"])).find(said) == node


def test_a_taxonomy_says_who_built_what() -> None:
    paths = [("Airbus", "A320"), ("Airbus", "XX-1"), ("Boeing", "737-800"), ("fighters", "XX-2")]
    names = Names(Taxonomy({path[-1]: path for path in paths}, ("group", "type"), "aircraft"))
    for said, node in (
        ("Airbus A320", "A320"),
        ("Airbus XX-1", "XX-1"),
        ("Boeing XX-1", None),
        ("Embraer XX-2", "XX-2"),
    ):
        assert names.find(said) == node


def test_an_answer_takes_a_fraction_of_a_millisecond() -> None:
    names = Names(Taxonomy.flat(sorted({name for listed in BENCHMARKS.values() for name in listed})))
    names.find("warm up")
    texts = [f"It is a {word} of {number}" for word in ("robin", "wren") for number in range(1000)]
    start = time.process_time()
    assert not any(map(names.find, [*texts, *("a " * 240 + str(number) for number in range(100))]))
    assert time.process_time() - start < 2
