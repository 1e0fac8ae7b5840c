import io
import random
import socket

import pytest
import torch.distributed as dist
from PIL import Image
from preloaded import run_ranks
from toy_answers import BIRDS, JUDGE, example

from fgvr.judges.base import Judged
from fgvr.metrics.confusions import Confusion, Confusions
from fgvr.shards.order import key_of
from fgvr.types import Answer

# label, answer, how often
SAID = [("Ruby", "Ash", 3), ("Ruby", "Barred", 1), ("Barred", "finches", 2), ("Emu", "Ash", 1), ("Emu", "Emu", 1)]
ASKED = [(label, answer) for label, answer, times in SAID for _ in range(times)] + [("Ruby", "dodo"), ("Ruby", "bird")]


def entry(number: int, label: str, answer: str) -> Judged:
    """Each photo has a grey value of its own, by which it is known again."""
    data = io.BytesIO()
    Image.new("L", (300, 240), 20 * number).convert("RGB").save(data, "PNG")
    (judgement,) = JUDGE.verdicts([(label, answer)])
    return Judged(example(label, uid=f"u{number}", photo=data.getvalue()), answer, Answer(answer), judgement)


ENTRIES = [entry(number, *said) for number, said in enumerate(ASKED)]


def commonest(entries: list[Judged], most: int = 8) -> list[Confusion]:
    confusions = Confusions(BIRDS, most)
    confusions.add(entries[:4])
    confusions.add(entries[4:])
    return confusions.commonest()


def number_of(photo: bytes) -> int:
    with Image.open(io.BytesIO(photo)) as image:
        assert max(image.size) <= 216
        pixel = image.convert("L").getpixel((9, 9))
    assert isinstance(pixel, int | float)
    return round(pixel / 20)


def first(*numbers: int) -> int:
    return min(numbers, key=lambda number: key_of(f"u{number}"))


def test_both_sides_are_shown_as_the_model_was_given_them() -> None:
    confusions = Confusions(BIRDS, 8, view=lambda photo: photo.resize((28, 56)))
    confusions.add(ENTRIES)
    sides = [photo for one in confusions.commonest() for photo in (one.mistaken, one.other) if photo is not None]
    assert len(sides) > 4
    assert {Image.open(io.BytesIO(side.photo)).size for side in sides} == {(28, 56)}


def test_the_commonest_come_first_with_the_photos_of_both_sides() -> None:
    found = commonest(ENTRIES)
    assert [(one.label, one.taken_for, one.times, one.asked) for one in found] == [
        ("Ruby", "Ash", 3, 6),
        ("Barred", "Finches", 2, 2),
        ("Emu", "Ash", 1, 2),
        ("Ruby", "Barred", 1, 6),
    ]
    ashes, finches, again, barred = found
    assert number_of(ashes.mistaken.photo) == first(0, 1, 2)  # one that was taken for Ash, not any Ruby
    assert ashes.other is again.other is None  # nobody was asked about an Ash
    assert number_of(finches.mistaken.photo) == first(4, 5)
    assert finches.other is not None
    assert (finches.other.label, number_of(finches.other.photo)) == ("Ruby", first(0, 1, 2, 3, 8, 9))  # a finch
    assert number_of(barred.mistaken.photo) == 3
    assert barred.other is not None
    assert number_of(barred.other.photo) == first(4, 5)


def test_the_order_does_not_matter_and_most_bounds_what_is_shown() -> None:
    whole = commonest(ENTRIES)
    for seed in range(5):
        assert commonest(random.Random(seed).sample(ENTRIES, len(ENTRIES))) == whole
    assert commonest(ENTRIES, most=1) == whole[:1]
    assert commonest(ENTRIES, most=0) == []
    assert commonest([]) == []


def test_only_small_photos_of_what_was_confused_stay_in_memory() -> None:
    confusions = Confusions(BIRDS, 8)
    confusions.add(ENTRIES)
    assert len(confusions._of_class) == 3
    assert len(confusions._mistaken) == 4
    nothing = Confusions(BIRDS, 0)
    nothing.add(ENTRIES)
    assert not nothing._of_class


def _rank(rank: int, port: int) -> None:
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    whole = {(one.label, one.taken_for): one for one in _alone()}
    found = commonest(ENTRIES[rank::2])
    assert {(one.label, one.taken_for): one for one in found} == whole
    dist.destroy_process_group()


def _alone() -> list[Confusion]:
    confusions = Confusions(BIRDS, 8)
    if dist.get_rank() == 0:
        confusions.add(ENTRIES)
    return confusions.commonest()


@pytest.mark.slow
def test_two_processes_show_what_one_shows() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    run_ranks(_rank, (port,), 2)
