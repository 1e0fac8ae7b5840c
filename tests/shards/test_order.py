import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fgvr.errors import UserError
from fgvr.shards.order import (
    FixedOrder,
    ShuffledOrder,
    each_once,
    hashed,
    permutation,
    shuffled,
    shuffled_reference,
    spread_over_classes,
    spread_over_classes_reference,
)

shard_sizes = st.lists(st.integers(1, 9), min_size=1, max_size=6).map(tuple)


@given(st.integers(0, 2**64 - 1), shard_sizes, st.integers(1, 40))
def test_shuffled_is_a_permutation(key, shards, window):
    assert sorted(shuffled(key, shards, window)) == list(range(sum(shards)))


@given(st.integers(0, 2**64 - 1), shard_sizes, st.integers(1, 40))
def test_windows_sorted_one_by_one_are_those_of_one_sort(key, shards, window):
    assert shuffled(key, shards, window).tolist() == shuffled_reference(key, shards, window).tolist()


def test_equal_keys_stay_as_they_came(monkeypatch):
    """No two keys of 64 bits are equal in practice; of equal ones a fast sort would make another order."""
    monkeypatch.setattr("fgvr.shards.order.hashed", lambda key, count: hashed(key, count) % np.uint64(3))
    assert permutation(1, 200).tolist() == np.argsort(hashed(1, 200) % np.uint64(3), kind="stable").tolist()
    assert shuffled(1, (60, 70), 50).tolist() == shuffled_reference(1, (60, 70), 50).tolist()


def test_the_order_of_an_epoch_is_that_of_every_version():
    # made by one sort over everything, before windows were sorted one by one
    assert shuffled(5, (3, 4, 2), 4).tolist() == [6, 5, 3, 4, 0, 1, 7, 2, 8]
    order = ShuffledOrder(7, ((3, 4), (5,)), (1.0, 1.0), window=4)
    assert order.epoch(1)[1].tolist() == [0, 6, 4, 5, 3, 1, 1, 0, 2, 3, 4, 2]


@given(st.lists(st.sampled_from("abcde"), max_size=40), st.integers(0, 99), st.none() | st.integers(0, 9))
def test_spreading_is_that_of_sample_by_sample(labels, seed, count):
    assert spread_over_classes(labels, count, seed) == spread_over_classes_reference(labels, count, seed)


def test_permutation_is_the_same_in_every_version():
    # splitmix64 of key 1: worked out with Python's integers
    def plain(state):
        state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        state = (state ^ (state >> 27)) * 0x94D049BB133111EB % 2**64
        return state ^ (state >> 31)

    expected = [plain((1 + n * 0x9E3779B97F4A7C15) % 2**64) for n in range(1, 6)]
    assert hashed(1, 5).tolist() == expected
    assert permutation(1, 5).tolist() == sorted(range(5), key=expected.__getitem__)


def test_window_keeps_reading_within_few_shards():
    shards, window = (100,) * 50, 400
    samples = shuffled(7, shards, window)
    touched = [len(set(samples[at : at + window] // 100)) for at in range(0, 5000, window)]
    assert max(touched) == 4  # 400 samples of whole shards of 100
    assert len(set(samples[:window] % 100)) > 80  # and mixed within them


def test_each_once_is_told_of_weight_one_alone():
    sets = ((3, 4), (5,))
    assert all(each_once(ShuffledOrder(1, sets, (1.0, 1.0), window=3), epoch) for epoch in range(3))
    assert not each_once(ShuffledOrder(1, sets, (0.5, 2.0)))
    assert not each_once(ShuffledOrder(1, sets, (1.0, 1.0), epoch_length=11))
    assert not each_once(ShuffledOrder(1, ((4,), (8,)), (2.0, 0.5)))  # as many samples as there are, but not the same


def test_positions_and_samples_are_unrelated():
    """Over many epochs every sample stands at every tenth of the epoch about equally often."""
    order = ShuffledOrder(0, ((10,) * 10,), (1.0,))
    tenths = np.zeros((100, 10))
    for epoch in range(400):
        tenths[order.epoch(epoch)[1], np.arange(100) // 10] += 1
    assert abs(tenths - 40).max() < 30  # 4.7 standard deviations of a binomial(400, 0.1)


@settings(deadline=None)
@given(st.integers(0, 99), st.lists(shard_sizes, min_size=1, max_size=3), st.integers(1, 20))
def test_weight_one_is_each_sample_once_per_epoch(seed, sets, window):
    order = ShuffledOrder(seed, tuple(sets), (1.0,) * len(sets), window=window)
    every = [(number, sample) for number, shards in enumerate(sets) for sample in range(sum(shards))]
    for epoch in (0, 1, 5):
        numbers, samples = order.epoch(epoch)
        assert sorted(zip(numbers.tolist(), samples.tolist(), strict=True)) == every


@settings(deadline=None)
@given(
    st.lists(shard_sizes, min_size=1, max_size=3),
    st.lists(st.floats(0.2, 3.0), min_size=3, max_size=3),
    st.one_of(st.none(), st.integers(60, 90)),
)
def test_mixture_counts_and_cycles(sets, weights, epoch_length):
    weights = tuple(weights[: len(sets)])
    sizes = [sum(shards) for shards in sets]
    try:
        order = ShuffledOrder(1, tuple(sets), weights, epoch_length)
    except UserError:
        assert epoch_length is None
        assert min(round(w * n) for w, n in zip(weights, sizes, strict=True)) == 0
        return
    if epoch_length is None:
        assert order.shares == tuple(round(w * n) for w, n in zip(weights, sizes, strict=True))
    else:
        assert len(order) == epoch_length
        exact = [epoch_length * w / sum(weights) for w in weights]
        assert all(abs(share - want) < 1 for share, want in zip(order.shares, exact, strict=True))
    epochs = [order.epoch(epoch) for epoch in range(4)]
    for number, size in enumerate(sizes):
        taken = np.concatenate([samples[numbers == number] for numbers, samples in epochs])
        assert len(taken) == 4 * order.shares[number]
        for start in range(0, len(taken) - size + 1, size):  # whole cycles, across the borders of epochs
            assert sorted(taken[start : start + size]) == list(range(size))


def test_epochs_seeds_and_sets_differ():
    def run(seed, epoch):
        numbers, samples = ShuffledOrder(seed, ((50,), (50,)), (1.0, 1.0)).epoch(epoch)
        return numbers.tolist(), samples.tolist()

    assert run(0, 0) == run(0, 0)
    assert run(0, 0) != run(0, 1)
    assert run(0, 0) != run(1, 0)
    numbers, samples = map(np.array, run(0, 0))
    assert samples[numbers == 0].tolist() != samples[numbers == 1].tolist()


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"weights": (1.0, 0.0)}, "positive weight"),
        ({"weights": (1.0, float("nan"))}, "positive weight"),
        ({"weights": (1.0,)}, "one weight"),
        ({"shards": ((3,), ())}, "must have samples"),
        ({"weights": (1.0, 0.01)}, "at least one sample"),
        ({"window": 0}, "window"),
    ],
)
def test_what_cannot_be_ordered_is_refused(changes, named):
    with pytest.raises(UserError, match=named):
        ShuffledOrder(**{"seed": 0, "shards": ((3,), (4,)), "weights": (1.0, 1.0), **changes})


def test_fingerprint_tells_orders_apart():
    orders = [
        ShuffledOrder(0, ((5,),), (1.0,)),
        ShuffledOrder(1, ((5,),), (1.0,)),
        ShuffledOrder(0, ((2, 3),), (1.0,)),
        ShuffledOrder(0, ((5,),), (2.0,)),
        ShuffledOrder(0, ((5,),), (1.0,), epoch_length=5),
        FixedOrder(((0, 1), (0, 0))),
        FixedOrder(((0, 0), (0, 1))),
    ]
    assert len({order.fingerprint for order in orders}) == len(orders)


@given(st.lists(st.sampled_from("abcde"), max_size=60), st.one_of(st.none(), st.integers(0, 60)))
def test_spread_over_classes_is_even(labels, count):
    chosen = spread_over_classes(labels, count, seed=4)
    assert len(set(chosen)) == len(chosen) == min(len(labels), len(labels) if count is None else count)
    taken = {label: sum(labels[index] == label for index in chosen) for label in set(labels)}
    for label, number in taken.items():  # a class has fewer than another only when it has no more samples
        assert number == labels.count(label) or number >= max(taken.values()) - 1
    assert chosen == spread_over_classes(labels, count, seed=4)
