import tracemalloc
from collections.abc import Iterator
from functools import partial

import pytest

from fgvr.shards.plan import sample_key
from fgvr.shards.shelf import Item, Shelf, draw
from fgvr.sources.base import PartnerRecord, PictureAt, Record

PATHS = {label: ("Birds", label) for label in "abc"}


def picture(name: str, label: str = "a", **changes) -> Record:
    whole = {"split": None, "cohort": None, "load": PictureAt(f"/photos/{name}", name)}
    return Record(name=name, label=label, path=PATHS[label], **(whole | changes))


def arranged(*found: Record, seed: int = 0) -> list[Item]:
    shelf = Shelf(PATHS, seed)
    assert [shelf.put(one, sample_key(one.name)) for one in found] == [None] * len(found)
    shelf.arrange(dict.fromkeys(PATHS, "seen"), None)
    return [item for _, _, items in shelf.groups() for item in items]


def test_a_record_comes_back_as_it_was():
    in_file = picture("Möwe.jpg", split="test", cohort="seen", stamp="17")
    odd_file = picture("odd.jpg", load=PictureAt("/photos/\udce9.jpg", "odd.jpg"))
    renamed = picture("renamed.jpg", load=PictureAt("/photos/r.jpg", "another name"))
    held = picture("held", "b", load=partial(bytes, 3), extra={"options": ["x", None], "deep": {"f": 0.1}})
    partnered = picture("partnered", "c", positive=PartnerRecord("p", "c", lambda: (b"",)))
    found = [in_file, odd_file, renamed, held, partnered]
    assert sorted((item.record for item in arranged(*found)), key=found.index) == found


def test_items_stand_by_split_and_then_in_the_order_of_their_draws():
    names = [f"{number}.jpg" for number in range(40)]
    items = arranged(*(picture(name, "abc"[len(name) % 3], split="val" if "7" in name else None) for name in names))
    drawn = sorted(names, key=lambda name: ("7" in name, draw(0, "order", name)))
    assert [item.record.name for item in items] == drawn
    assert [item.split for item in items] == ["train"] * 36 + ["val"] * 4
    assert [item.record.name for item in arranged(*map(picture, names), seed=1)] != drawn


def test_parts_have_all_items_in_their_order():
    shelf = Shelf(PATHS, 0)
    for number in range(10):
        shelf.put(picture(str(number)), str(number))
    shelf.arrange(dict.fromkeys(PATHS, "seen"), None)
    ((_, _, items),) = shelf.groups()
    parts = list(items.cut(4))
    assert [len(part) for part in parts] == [4, 4, 2]
    assert [item.key for part in parts for item in part] == [item.key for item in items]
    assert next(iter(parts[1])) in items
    assert next(iter(parts[1])) not in parts[0]


def test_a_key_stands_once_and_a_refused_record_keeps_its_own():
    shelf = Shelf(PATHS, 0)
    assert shelf.put(picture("x"), "k") is None
    assert shelf.bar("y", "l") is None
    assert shelf.put(picture("x"), "k") == "two pictures must not have one name, but this one came before"
    assert shelf.put(picture("z"), "k") == "two pictures must not have one key, but x has it already"
    assert (
        shelf.put(picture("z"), "l")
        == shelf.bar("w", "l")
        == "two pictures must not have one key, but y has it already"
    )
    assert (len(shelf), shelf.labels()) == (1, ["a"])


def listed(count: int) -> Iterator[Record]:
    for number in range(count):
        yield picture(f"Class of letter {number % 3} birds/{number:07d}.jpg", "abc"[number % 3], stamp="1024")


def kept(count: int) -> int:
    """Bytes that Python holds while so many records are on a shelf, arranged, and read."""
    tracemalloc.start()
    shelf = Shelf(PATHS, 0)
    for one in listed(count):
        shelf.put(one, one.name)
    shelf.arrange(dict.fromkeys(PATHS, "seen"), None)
    assert sum(1 for _, _, items in shelf.groups() for _ in items) == count
    held = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return held


@pytest.mark.slow
def test_a_photo_in_a_file_takes_no_memory():
    few, many = kept(1000), kept(9000)
    assert (many - few) / 8000 < 16, (few, many)  # bytes for each photo; it was more than 900
