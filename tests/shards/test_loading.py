import os
import pickle
import random
import signal
import threading
import time
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_stream import Numbers, collate, encode, write_set

from fgvr.data.collate import joined
from fgvr.errors import SampleError, UserError
from fgvr.shards.loading import AGREE_EVERY, LoaderLinks, StepLoader
from fgvr.shards.order import FixedOrder, ShuffledOrder
from fgvr.shards.reading import ShardSet
from fgvr.types import Example

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


@pytest.fixture(scope="module")
def sets(tmp_path_factory) -> list[ShardSet]:
    root = tmp_path_factory.mktemp("sets")
    folders = [write_set(root / "a", {"train-seen": [5, 8]}, "a"), write_set(root / "b", {"train-seen": [6]}, "b")]
    return [ShardSet(folder, "train", ("seen",)) for folder in folders]


def loader(sets, **options) -> StepLoader:
    order = ShuffledOrder(5, tuple(s.shard_sizes for s in sets), (1.0,) * len(sets), window=6)
    return StepLoader(
        sets,
        options.pop("encode", encode),
        options.pop("collate", collate),
        order,
        options.pop("global_batch", 4),
        **options,
    )


def take(stream, count=None):
    batches = iter(stream)
    return [next(batches) for _ in range(len(stream) - stream.step if count is None else count)]


def epochs_of(stream, epochs):
    """As a Trainer does it: every iteration is begun but never run to its end."""
    return [[(batch.record, batch.values.tolist()) for batch in take(stream)] for _ in range(epochs)]


def test_each_sample_once_per_epoch(sets):
    stream = loader(sets)
    assert len(stream) == 5  # 19 samples in batches of 4, the last one of 3
    for epoch, batches in enumerate(epochs_of(stream, 3)):
        uids = [uid for record, _ in batches for uid in record.uids]
        assert sorted(uids) == [*(f"a{n:05d}" for n in range(13)), *(f"b{n:05d}" for n in range(6))]
        assert [(record.epoch, record.step) for record, _ in batches] == [(epoch, step) for step in range(5)]
        assert [p for record, _ in batches for p in record.positions] == list(range(19))


def test_workers_make_no_difference(sets):
    runs = []
    for workers in (0, 1, 2):
        stream = loader(sets, workers=workers)
        state = torch.get_rng_state()
        runs.append(epochs_of(stream, 2))
        assert torch.equal(state, torch.get_rng_state())  # the global generator is left alone
        stream.close()
    assert runs[0] == runs[1] == runs[2]


@settings(deadline=None, max_examples=40)
@given(world=st.integers(1, 7), batch=st.integers(1, 20), stop=st.integers(0, 40), world_after=st.integers(1, 7))
def test_any_number_of_ranks_and_a_resume_on_another(sets, world, batch, stop, world_after):
    def shares(world):
        return [loader(sets, global_batch=batch, rank=rank, world=world) for rank in range(world)]

    def together(streams, steps):
        rows = []
        for batches in zip(*(take(stream, steps) for stream in streams), strict=True):
            assert len({(one.record.epoch, one.record.step) for one in batches}) == 1
            taken = [pair for one in batches for pair in zip(one.record.positions, one.record.uids, strict=True)]
            rows.append(sorted(taken))
        return rows

    alone = loader(sets, global_batch=batch)
    expected = together([alone], None) + together([alone], None)
    ranks = shares(world)
    stop = min(stop, len(alone))
    rows = together(ranks, stop)
    resumed = shares(world_after)
    for stream in resumed:
        stream.load_state_dict(ranks[0].state_dict())
    rows += together(resumed, None)
    if stop < len(alone):
        rows += together(resumed, None)
    assert rows == expected


@pytest.mark.parametrize("workers", [0, 1])
def test_three_resumes_in_one_epoch_and_a_whole_epoch_after(sets, workers):
    expected = [pair for epoch in epochs_of(loader(sets), 3) for pair in epoch]
    got, state = [], None
    for steps in (2, 1, 0, 1, None, None):  # None: to the end of an epoch, saved there
        stream = loader(sets, workers=workers)
        if state is not None:
            stream.load_state_dict(state)
        got += [(batch.record, batch.values.tolist()) for batch in take(stream, steps)]
        state = stream.state_dict()
        stream.close()
    assert got == expected[:10]
    assert (state["epoch"], state["step"], state["read"]) == (2, 0, 0)


def test_state_is_of_batches_trained_on(sets):
    waiting = [0]
    stream = loader(sets, links=LoaderLinks(unfinished=lambda: waiting[0]))
    batches = iter(stream)
    next(batches)
    next(batches)
    waiting[0] = 1  # the second is on its way through the step
    state = stream.state_dict()
    assert (state["step"], state["read"]) == (1, 4)
    again = loader(sets)
    again.load_state_dict(state)
    assert next(iter(again)).record.step == 1


def test_another_order_is_refused_in_mid_epoch_only(sets):
    stream = loader(sets)
    take(stream, 2)
    state = stream.state_dict()
    for other in (loader(sets, global_batch=8), loader(sets[:1])):
        with pytest.raises(UserError, match=r"mid-epoch \(epoch 0, step 2\).*batch size was 4"):
            other.load_state_dict(state)
    take(stream)  # abandons the epoch: the next one is whole
    assert (stream.epoch, stream.step) == (1, 5)
    other = loader(sets, global_batch=8)
    other.load_state_dict(stream.state_dict())
    assert (other.epoch, other.step, other.tally.read) == (2, 0, 0)


def test_repeated_iteration_is_always_the_same(sets):
    order = FixedOrder(((1, 3), (0, 0), (0, 7)))
    stream = StepLoader(sets, encode, collate, order, 2, repeat=True)
    first = [(b.record, b.values.tolist()) for b in stream]
    next(iter(stream))  # begun and left
    assert [(b.record, b.values.tolist()) for b in stream] == first
    assert [uid for record, _ in first for uid in record.uids] == ["b00003", "a00000", "a00007"]


def refuse_two(example: Example, rng: random.Random):
    if example.uid in ("a00003", "b00001"):
        raise SampleError("it has 1 x 2000 pixels")
    return encode(example, rng)


def test_quarantined_samples_are_named_and_counted_across_resumes(sets):
    records, state = [], {}
    stream = loader(sets, encode=refuse_two, max_bad_share=0.2)
    for step in range(5):
        if step:
            stream = loader(sets, encode=refuse_two, max_bad_share=0.2)
            stream.load_state_dict(state)
        batch = take(stream, 1)[0]
        records.append(batch.record)
        assert batch.uids == [uid for uid in batch.record.uids if uid not in dict(batch.record.quarantined)]
        state = stream.state_dict()
    named = [pair for record in records for pair in record.quarantined]
    assert sorted(named) == [(uid, "it has 1 x 2000 pixels") for uid in ("a00003", "b00001")]
    assert (state["epoch"], state["step"], state["quarantined"]) == (1, 0, 0)
    tally = stream.account()
    assert (tally.read, tally.quarantined, sorted(tally.named)) == (17, 2, sorted(named))


def test_too_many_quarantined_stop_the_run_at_once(sets):
    stream = loader(sets, encode=refuse_two, max_bad_share=0.1)
    with pytest.raises(UserError, match=r"at most 10.00%.*2 of the 19 of epoch 0 are: [ab]0000[13] \(it has 1 x 2000"):
        take(stream)


def test_account_does_not_close_when_a_batch_is_lost(sets):
    stream = loader(sets)
    take(stream)
    stream.account()
    take(stream, 3)
    stream.load_state_dict({**stream.state_dict(), "step": 4})  # counts of three steps, place of four
    take(stream)
    with pytest.raises(UserError, match="each of its 19 samples once, but 15 were read"):
        stream.account()


def test_ranks_add_up(sets):
    ranks = [loader(sets, rank=rank, world=3) for rank in range(3)]
    for stream in ranks:
        take(stream)
    counts = [[stream.tally.read, stream.tally.quarantined] for stream in ranks]
    summed = [sum(column) for column in zip(*counts, strict=True)]
    for stream in ranks:
        stream.links.total = lambda _: summed
    assert ranks[0].account().read == 19


class Sums:
    """Adds up the counts of ranks that are threads; each waits for the others, and all fail when one stays away."""

    def __init__(self, world: int) -> None:
        self.rows: list[list[int]] = [[] for _ in range(world)]
        self.barrier, self.calls = threading.Barrier(world, timeout=20), 0

    def of(self, rank: int, counts: list[int]) -> list[int]:
        self.rows[rank] = counts
        self.barrier.wait()
        summed = [sum(column) for column in zip(*self.rows, strict=True)]
        self.calls += rank == 0
        self.barrier.wait()
        return summed


def together(sets, places, encode, share, world=2) -> tuple[list[int], list[str], int]:
    """Runs the ranks to their end: the batches that each gave, how each was stopped, and how often they summed."""
    sums, given, ends = Sums(world), [0] * world, [""] * world

    def run(rank: int) -> None:
        links = LoaderLinks(total=lambda counts: sums.of(rank, counts))
        stream = StepLoader(sets, encode, collate, FixedOrder(tuple(places)), world, rank=rank, world=world)
        stream.links, stream.max_bad_share = links, share
        try:
            for _ in stream:
                given[rank] += 1
        except UserError as error:
            ends[rank] = str(error)

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(world)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return given, ends, sums.calls


def test_all_ranks_stop_at_the_same_step(sets):
    places = [(0, step % 3) for step in range(4 * AGREE_EVERY)]
    places[10::2] = [(0, 3)] * len(places[10::2])  # the first rank meets nothing else from its sixth step on
    given, ends, sums = together(sets, places, refuse_two, 0.1)
    assert given == [AGREE_EVERY - 1] * 2
    assert sums == 1
    assert all(f"{AGREE_EVERY - 5} of the {4 * AGREE_EVERY} of epoch 0 are: " in end for end in ends)
    assert "a00003 (it has 1 x 2000 pixels)" in ends[0]
    assert "are: other ranks name them." in ends[1]


def test_the_share_of_unusable_samples_is_that_of_all_ranks(sets):
    places = [(0, 0)] * 20
    places[4] = places[7] = (0, 3)  # one of them on each rank, which is 5 % of the epoch
    assert together(sets, places, refuse_two, 0.1)[:2] == ([10, 10], ["", ""])
    given, ends, _ = together(sets, places, refuse_two, 0.06)
    assert given == [9, 9]
    assert all("2 of the 20" in end for end in ends)


def with_pid(example: Example, rng: random.Random):
    time.sleep(0.02)
    return str(os.getpid()), 0.0


def test_killed_worker_is_an_error(sets):
    stream = loader(sets, encode=with_pid, global_batch=1, workers=1, links=LoaderLinks(timeout=3))
    batches = iter(stream)
    os.kill(int(next(batches).uids[0]), signal.SIGKILL)
    with pytest.raises(RuntimeError, match=r"worker.*(killed|exited)"):
        list(batches)
    stream.close()


def hang_up():
    raise ConnectionResetError(104, "Connection reset by peer")


class Interrupted:
    """A batch whose worker is gone before its tensors have been handed over."""

    def __reduce__(self):
        return hang_up, ()


def test_worker_killed_while_it_hands_over_is_an_error(sets):
    stream = loader(sets, collate=lambda items, record: Interrupted(), workers=1)
    with pytest.raises(RuntimeError, match=r"worker.*(killed|exited)"):
        next(iter(stream))
    stream.close()


def asleep(example: Example, rng: random.Random):
    time.sleep(100)


def test_hung_worker_is_an_error(sets):
    stream = loader(sets, encode=asleep, workers=1, links=LoaderLinks(timeout=0.5))
    with pytest.raises(RuntimeError, match=r"timed out after 0\.5 seconds"):
        next(iter(stream))
    stream.close()


def test_dataset_travels_to_a_worker_that_is_started_afresh(sets):
    stream = loader(sets)
    copy = pickle.loads(pickle.dumps(stream._loader.dataset))
    assert copy[stream.share(0, 0)].record == take(stream, 1)[0].record


def test_bad_settings_are_refused(sets: list[ShardSet], tmp_path: Path):
    for options in ({"global_batch": 0}, {"workers": -1}, {"max_bad_share": 1.5}):
        with pytest.raises(UserError, match="batch_size of at least 1"):
            loader(sets, **options)


def rows_of(example: Example, rng: random.Random) -> torch.Tensor:
    return torch.full((rng.randrange(4), 3), rng.random())


def join_rows(items, record):
    values = joined(items)
    return Numbers(values, [str(values.is_shared())], record)


def test_joined_is_cat_in_any_process(sets):
    inside, here = (take(loader(sets, encode=rows_of, collate=join_rows, workers=workers), 3) for workers in (1, 0))
    for one, other in zip(inside, here, strict=True):
        assert torch.equal(one.values, other.values)
        assert (one.uids, other.uids) == (["True"], ["False"])


@pytest.mark.parametrize("workers", [0, 1])
def test_other_samples_take_the_place_of_those_before_as_an_epoch_begins(sets, workers):
    first, other = ShuffledOrder(5, ((13,),), (1.0,)), ShuffledOrder(5, ((6,),), (1.0,), epoch_length=13)
    stream = StepLoader(sets[:1], encode, collate, first, 4, workers=workers)

    def begins(epoch: int) -> None:
        if epoch == 1:
            stream.renew(sets[1:], other)

    stream.links.begins = begins
    before, after, _ = epochs_of(stream, 3)
    assert {uid[0] for record, _ in before for uid in record.uids} == {"a"}
    uids = [uid for record, _ in after for uid in record.uids]
    assert {uid[0] for uid in uids} == {"b"}
    assert (len(uids), len(set(uids))) == (13, 6)
    with pytest.raises(ValueError, match="must stay 13 samples long, got an order of 6"):
        stream.renew(sets[1:], ShuffledOrder(5, ((6,),), (1.0,)))
    stream.close()
