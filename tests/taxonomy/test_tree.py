import json
import time
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fgvr.aviary.source import FEWEST, MOST, Aviary
from fgvr.errors import UserError
from fgvr.taxonomy.spelling import normalise
from fgvr.taxonomy.tree import Taxonomy

RANKS = ("order", "family", "genus", "species")
BIRDS = Taxonomy(
    {
        "Ruby Finch": ("Songbirds", "Finches", "Roundbill", "Ruby Finch"),
        "Crow's-bill": ("Songbirds", "Crows", "Longbill", "Crow's-bill"),
        "Emu": ("Ratites", "Emu"),
        "Roundbill": ("Songbirds", "Finches", "Roundbill"),
    },
    RANKS,
    "bird",
    {"Ruby Finch": ("Rubra vulgaris",), "Finches": ("finch",)},
)
LETTERS = "ABCDEF"


@st.composite
def taxonomies(draw: st.DrawFn) -> Taxonomy:
    """Trees of any depth up to four, ragged, some of their inner nodes classes too."""
    ends = draw(st.lists(st.text(LETTERS, min_size=1, max_size=4), min_size=1, max_size=12, unique=True))
    lines = [tuple(end[: depth + 1] for depth in range(len(end))) for end in ends]
    synonyms = draw(st.dictionaries(st.sampled_from(ends), st.just(()), max_size=3))
    named = {name: (f"{name} 1", f"{name} 2") for name in synonyms}
    return Taxonomy({line[-1]: line for line in lines}, RANKS, "0", named)


@pytest.mark.parametrize(
    ("name", "node"),
    [
        ("ruby-FINCH!", "Ruby Finch"),
        ("Crows bill", "Crow's-bill"),
        ("crow’s_bill", "Crow's-bill"),
        ("rubra VULGARIS", "Ruby Finch"),
        ("finch", "Finches"),
        ("BIRD", "bird"),
        ("Ｒｏｕｎｄｂｉｌｌ", "Roundbill"),
        ("Ruby", None),
        ("", None),
    ],
)
def test_find_is_exact_after_normalising(name: str, node: str | None) -> None:
    assert BIRDS.find(name) == node


@given(st.text(max_size=20))
def test_normalising_twice_changes_nothing_more(name: str) -> None:
    assert normalise(normalise(name)) == normalise(name)


@pytest.mark.parametrize(
    ("node", "names"),
    [
        ("Ruby Finch", ["Songbirds", "Finches", "Roundbill", "Ruby Finch"]),
        ("Finches", ["Songbirds", "Finches", None, None]),
        ("Emu", ["Ratites", "Emu", None, "Emu"]),  # a class with a short path stands at the finest rank too
        ("Ratites", ["Ratites", None, None, None]),
        ("Roundbill", ["Songbirds", "Finches", "Roundbill", "Roundbill"]),  # a class and a genus
        ("bird", [None, None, None, None]),
    ],
)
def test_at_rank(node: str, names: list[str | None]) -> None:
    assert [BIRDS.at_rank(node, rank) for rank in RANKS] == names


def test_there_is_no_other_rank() -> None:
    with pytest.raises(UserError, match=r"rank must be one of \['order', .*got 'tribe'"):
        BIRDS.at_rank("Emu", "tribe")
    with pytest.raises(UserError, match=r"one of \[\], got 'species'"):
        Taxonomy({"a": ("a",)}).at_rank("a", "species")


@given(taxonomies())
def test_ranks_ancestors_and_distances_agree(taxonomy: Taxonomy) -> None:
    for node, line in taxonomy.lineage.items():
        above = (taxonomy.root, *line)[:-1] if line else ()
        for other in taxonomy.lineage:
            assert taxonomy.is_ancestor(other, node) == (other in above)
        for steps, ancestor in enumerate(reversed((*above, node))):
            assert taxonomy.distance_up(ancestor, node) == steps
        for depth, rank in enumerate(RANKS):
            at = taxonomy.at_rank(node, rank)
            if node in taxonomy.paths and rank == "species":
                assert at == node
            else:
                assert at == (line[depth] if depth < len(line) else None)


@given(taxonomies())
def test_a_dictionary_leads_back_even_through_json(taxonomy: Taxonomy) -> None:
    assert Taxonomy.from_dict(taxonomy.to_dict()) == taxonomy
    assert Taxonomy.from_dict(json.loads(json.dumps(taxonomy.to_dict()))) == taxonomy


def test_a_hand_written_dictionary_may_be_short() -> None:
    assert Taxonomy.from_dict({"paths": {7: [7]}, "ranks": None, "synonyms": None}) == Taxonomy({"7": ("7",)})
    for data in ({"root": "bird"}, {"paths": {}, "path": {}}):
        with pytest.raises(UserError, match="has the keys root, ranks, paths and synonyms, got"):
            Taxonomy.from_dict(data)


@given(taxonomies(), taxonomies())
def test_merged_holds_both(one: Taxonomy, other: Taxonomy) -> None:
    both = one.merged([other])
    assert both.paths == {**one.paths, **other.paths}
    assert both.synonyms == {**one.synonyms, **other.synonyms}
    assert one.merged([]) == one.merged([one]) == one


def test_merged_refuses_sets_that_disagree() -> None:
    some = Taxonomy({"Emu": ("Ratites", "Emu")}, RANKS, "bird", {"Emu": ("Dromaius",)})
    more = replace(some, synonyms={"Emu": ("Big Bird", "Dromaius")})
    assert some.merged([more]).synonyms == {"Emu": ("Dromaius", "Big Bird")}
    for other, words in (
        (replace(some, root="animal"), "must share ranks and root"),
        (replace(some, ranks=("family", "species")), "must share ranks and root"),
        (replace(some, paths={"Emu": ("Flightless", "Emu")}), "'Emu' has two paths"),
        (replace(some, paths={"EMU": ("Ratites", "EMU")}, synonyms={}), "'Emu' and 'EMU' do not"),
        (replace(some, paths={"Rhea": ("Ratites", "Rhea")}, synonyms={"Rhea": ("dromaius",)}), "'dromaius' is given"),
    ):
        with pytest.raises(UserError, match=words):
            some.merged([other])


@pytest.mark.parametrize(
    ("paths", "words"),
    [
        ({"a": ()}, "must end in its label, but 'a' has"),
        ({"a": ("x", "b")}, "must end in its label"),
        ({"a": ("v", "w", "x", "y", "a")}, "has 5 names but there are only 4 ranks"),
        ({"a": ("x", "a"), "x": ("y", "x")}, "must have one parent, but 'x' stands under both 'bird' and 'y'"),
        ({"a": ("x", "a"), "b": ("y", "a", "b")}, "must have one parent"),
        ({"bird": ("bird",)}, "must have one parent"),
        ({"a": ("a", "a")}, "must have one parent"),
        ({"A-320": ("A-320",), "A 320": ("A 320",)}, "letters or digits, .*'A-320' and 'A 320' do not: rename one"),
        ({"robin": ("x", "robin"), "Robin": ("y", "Robin")}, "'robin' and 'Robin' do not"),
        ({"Tit": ("tits", "Tit"), "tit": ("tit",)}, "'Tit' and 'tit' do not"),
        ({"a": ("Crows", "a"), "b": ("crow's", "b")}, "'Crows' and \"crow's\" do not"),
        ({"C": ("C",), "C++": ("C++",)}, "'C' and 'C\\+\\+' do not"),
        ({"Bird": ("Bird",)}, "'bird' and 'Bird' do not"),
    ],
)
def test_paths_that_are_no_tree_of_names_are_refused(paths: dict[str, tuple[str, ...]], words: str) -> None:
    with pytest.raises(UserError, match=words):
        Taxonomy(paths, RANKS, "bird")


@pytest.mark.parametrize(
    ("synonyms", "words"),
    [
        ({"a": ("Sparrow",), "b": ("x", "sparrow!")}, "'sparrow!' is given to 'a' and to 'b': leave it out of one"),
        ({"a": ("Finch", "B!")}, "'B!', given to 'a', is the name 'b': leave it out, or make the two one"),
        ({"a": ("Thing",)}, "'Thing', given to 'a', is the name 'thing'"),
        ({"c": ("Sparrow",)}, r"names of the taxonomy, but 'c' is none \(it has \['Sparrow'\]\)"),
    ],
)
def test_synonyms_of_two_names_of_none_or_that_are_names_are_refused(synonyms: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        Taxonomy({"a": ("a",), "b": ("b",)}, synonyms=synonyms)
    assert Taxonomy({"a": ("a",)}, synonyms={"a": ("Sparrow", "sparrow")}).find("SPARROW") == "a"


def test_every_aviary_has_names_that_can_be_told_apart() -> None:
    for species in range(FEWEST, MOST + 1, 12):
        assert len(Aviary(species=species, unseen=0).taxonomy().paths) == species


def test_ten_thousand_classes_take_less_than_a_second() -> None:
    paths = {f"species {n}": (f"order {n % 7}", f"genus {n % 700}", f"species {n}") for n in range(10_000)}
    names = {f"species {n}": (f"Species-Nr. {n}",) for n in range(10_000)}
    start = time.process_time()
    taxonomy = Taxonomy(paths, RANKS, "bird", names)
    assert taxonomy.find("species nr 77") == "species 77"
    assert time.process_time() - start < 1
