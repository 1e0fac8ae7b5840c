from toy_birds import BIRDS, classes

from fgvr.similarity import Siblings
from fgvr.taxonomy.tree import Taxonomy


def test_the_deepest_common_ancestor_counts():
    ranking = Siblings().nearest(classes(BIRDS), 9)
    assert [score for _, score in ranking["Red Finch"]] == [2.0, 2.0, 1.0]  # of one genus, then of one family
    assert {other for other, _ in ranking["Red Finch"][:2]} == {"Blue Finch", "Ash Finch"}
    assert ranking["Red Finch"][2][0] == "Tall Finch"
    assert {score for _, score in ranking["Tall Finch"]} == {1.0}
    assert ranking["Barred Wren"] == (("Plain Wren", 2.0),)


def test_the_seed_decides_among_equals_and_k_is_kept():
    found = {Siblings().nearest(classes(BIRDS, seed), 1)["Red Finch"] for seed in range(20)}
    assert found == {(("Blue Finch", 2.0),), (("Ash Finch", 2.0),)}
    assert Siblings().nearest(classes(BIRDS, 3), 2) == Siblings().nearest(classes(BIRDS, 3), 2)


def test_what_shares_nothing_but_the_root_is_not_alike():
    flat = Taxonomy.flat(["Robin", "Wren"])
    assert Siblings().nearest(classes(flat), 3) == {"Robin": (), "Wren": ()}
    alone = Siblings().nearest(classes(BIRDS, names=("Red Finch", "Ash Finch", "Plain Wren")), 3)
    assert alone["Plain Wren"] == ()


def test_a_class_is_no_rival_of_what_it_belongs_to():
    ragged = Taxonomy({"Finch": ("Finch",), "Red Finch": ("Finch", "Red Finch"), "Ash Finch": ("Finch", "Ash Finch")})
    ranking = Siblings().nearest(classes(ragged), 5)
    assert ranking == {"Finch": (), "Red Finch": (("Ash Finch", 1.0),), "Ash Finch": (("Red Finch", 1.0),)}
