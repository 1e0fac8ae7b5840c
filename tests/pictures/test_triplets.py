import io
from dataclasses import replace

from PIL import Image
from toy_birds import example

from fgvr.pictures.triplets import rivals_table, triplet_card
from fgvr.types import Example, Partner


def plain(colour: str) -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (40, 30), colour).save(data, "PNG")
    return data.getvalue()


def triplet() -> Example:
    positive, negative = Partner((plain("#00ff10"),), "p", "Red Finch"), Partner((plain("#1020ff"),), "n", "")
    return replace(example(), images=(plain("#ff1020"),), positive=positive, negative=negative)


def colours(page: Image.Image) -> set[str]:
    return {"#" + bytes(colour).hex() for _, colour in page.getcolors(1 << 24) or []}  # pyright: ignore


def test_a_row_shows_anchor_positive_and_negative():
    assert {"#ff1020", "#00ff10", "#1020ff"} <= colours(triplet_card([triplet()]))
    without = colours(triplet_card([replace(triplet(), negative=None)]))
    assert "#1020ff" not in without
    page, two = triplet_card([triplet()]), triplet_card([triplet()] * 2)
    assert page.width == two.width
    assert page.height < two.height
    assert triplet_card([]).height > 0


def test_a_photo_is_shown_as_the_model_is_given_it():
    page = triplet_card([triplet()], lambda photo: Image.new("RGB", photo.size, "#abcdef"))
    assert "#abcdef" in colours(page)
    assert "#ff1020" not in colours(page)


def test_the_pairs_of_classes_stand_in_a_table():
    table = rivals_table(
        {"b": {"Wren": (), "Robin": (("Dunnock", 0.5), ("Wren", 0.25))}, "a": {"Owl": (("Emu", 1.0),)}},
        {"b": {"Wren": "Siblings", "Robin": "OnlineConfusion"}, "a": {"Owl": "Siblings"}},
    )
    assert table.columns == ("dataset", "class", "negative", "score", "measure")
    assert table.rows == (
        ("a", "Owl", "Emu", 1.0, "Siblings"),
        ("b", "Robin", "Dunnock", 0.5, "OnlineConfusion"),
        ("b", "Robin", "Wren", 0.25, "OnlineConfusion"),
        ("b", "Wren", "", None, ""),
    )
    birds = [f"bird {n}" for n in range(9)]
    few = rivals_table({"a": dict.fromkeys(birds, (("Emu", 1.0),))}, {"a": dict.fromkeys(birds, "Siblings")}, most=4)
    assert (len(few.rows), few.note) == (4, "5 more pairs are in the run's folder, under triplets.")
