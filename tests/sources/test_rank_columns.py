import random

from fgvr.sources.rank_columns import rank_columns

BIRDS = {  # species: order, family, genus
    "great tit": ("songbirds", "tits", "Parus"),
    "green-backed tit": ("songbirds", "tits", "Parus"),
    "blue tit": ("songbirds", "tits", "Cyanistes"),
    "raven": ("songbirds", "crows", "Corvus"),
    "rook": ("songbirds", "crows", "Corvus"),
    "mallard": ("waterfowl", "ducks", "Anas"),
    "pintail": ("waterfowl", "ducks", "Anas"),
    "mute swan": ("waterfowl", "swans", "Cygnus"),
}


def table(pictures: int = 15) -> tuple[list[str], dict[str, list[str]]]:
    labels = [label for label in BIRDS for _ in range(pictures)]
    columns = {rank: [BIRDS[label][n] for label in labels] for n, rank in enumerate(("order", "family", "genus"))}
    return labels, columns


def test_a_tree_is_found_coarse_to_fine_whatever_the_order_of_its_columns():
    labels, columns = table()
    assert rank_columns(labels, columns) == ["order", "family", "genus"]
    assert rank_columns(labels, dict(reversed(columns.items()))) == ["order", "family", "genus"]
    assert rank_columns(labels, {**columns, "species": labels}) == ["order", "family", "genus", "species"]


def test_what_is_no_rank_does_not_become_one():
    labels, columns = table()
    draw = random.Random(0)
    others = {
        "response": [f"<answer>{label}</answer> {draw.random()}" for label in labels],
        "photographer": [draw.choice(["Ann", "Bo", "Cy"]) for _ in labels],
        "latin": [f"{label}us" for label in labels],  # another name of each, above nothing
        "licence": ["CC-BY"] * len(labels),
        "note": [""] * len(labels),
        "habitat": ["wood" if label in ("great tit", "raven", "pintail") else "field" for label in labels],
    }
    assert rank_columns(labels, others | columns) == ["order", "family", "genus"]
    del others["habitat"]  # a sorting, if of no interest: alone it would be taken
    assert rank_columns(labels, others) == []


def test_a_few_mistakes_do_not_hide_a_rank():
    labels, columns = table()
    columns["family"][0] = columns["genus"][7] = "?"
    assert rank_columns(labels, columns) == ["order", "family", "genus"]
    columns["family"][::3] = ["?"] * len(columns["family"][::3])
    assert rank_columns(labels, columns) == ["order", "genus"]


def test_an_empty_table_has_no_ranks():
    assert rank_columns([], {"family": []}) == []
