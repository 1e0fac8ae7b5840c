from __future__ import annotations

import json
from pathlib import Path

import pytest
from toy_stream import LABELS, write_set

from fgvr.datamodules.optioned import Optioned
from fgvr.datamodules.renewed import Renewed, order_over
from fgvr.options.deriving import Choice
from fgvr.shards.order import ShuffledOrder
from fgvr.shards.reading import ShardSet


def choice(number: int, *others: str) -> Choice:
    own = LABELS[number % len(LABELS)]
    names = (*others, own)
    return Choice(f"s{number:05d}", own, names, (1,) * len(names), (*["offered"] * len(others), "truth"))  # pyright: ignore[reportArgumentType]


@pytest.fixture
def whole(tmp_path: Path) -> ShardSet:
    return ShardSet(write_set(tmp_path / "set", {"train-seen": [5, 4]}), "train", ("seen",))


def test_what_goes_into_a_checkpoint_comes_back():
    renewed = Renewed(3, ({"s00002": choice(2, "Amber Finch")}, None))
    state = json.loads(json.dumps(renewed.state_dict()))
    assert Renewed.from_state(state) == renewed


def test_sets_have_the_new_options_and_only_photos_with_some(whole: ShardSet):
    begun = Optioned(whole, [2, 3, 5], {f"s{n:05d}": choice(n, "x") for n in (2, 3, 5)})
    now = {f"s{n:05d}": choice(n, "y") for n in (3, 5, 7)}
    renewed, plain = Renewed(1, (now, None)).sets([begun, whole])
    assert isinstance(renewed, Optioned)
    assert [renewed.uid(n) for n in range(len(renewed))] == ["s00003", "s00005"], "none that the run began without"
    assert {names[0] for names in renewed.options} == {"y"}
    assert plain is whole


def test_an_epoch_takes_as_many_of_each_set_as_before(whole: ShardSet):
    small = Optioned(whole, [2, 3, 5], {f"s{n:05d}": choice(n, "x") for n in (2, 3, 5)})
    before = ShuffledOrder(0, ((5, 4), (5, 4)), (1.0, 0.5))
    after = order_over(before, [small, whole])
    assert after.shares == before.shares == (9, 4)
    sets, samples = after.epoch(1)
    assert sorted(samples[sets == 0].tolist()) == [0, 0, 0, 1, 1, 1, 2, 2, 2]
