from pathlib import Path

import pytest
from toy_stream import write_set

from fgvr.errors import UserError
from fgvr.shards.part import part_of
from fgvr.shards.reading import ShardSet


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    folder = write_set(Path(tmp_path_factory.mktemp("part")) / "set", {"train-seen": [7, 5, 9]})
    return ShardSet(folder, "train", ("seen",))


def test_a_part_reads_its_samples_under_new_numbers(whole: ShardSet):
    part = part_of(whole, 8, seed=0)
    assert len(part) == sum(part.shard_sizes) == 8
    assert [part.uid(n) for n in range(8)] == [part.read(n).uid for n in range(8)]
    assert [whole.uid(number) for number in part.numbers] == [part.uid(n) for n in range(8)]
    bounds = (range(7), range(7, 12), range(12, 21))
    assert part.shard_sizes == tuple(k for k in (sum(n in b for n in part.numbers) for b in bounds) if k)


def test_parts_of_one_seed_contain_each_other_and_differ_between_seeds(whole: ShardSet):
    few, more, others = part_of(whole, 4, 0), part_of(whole, 12, 0), part_of(whole, 4, 1)
    assert set(few.numbers) < set(more.numbers)
    assert few.numbers != others.numbers
    assert len({few.fingerprint, more.fingerprint, others.fingerprint, whole.fingerprint}) == 4
    assert part_of(whole, 4, 0).fingerprint == few.fingerprint
    assert part_of(whole, 21, 0).shard_sizes == whole.shard_sizes


@pytest.mark.parametrize("count", [0, 22])
def test_a_part_must_be_there(whole: ShardSet, count: int):
    with pytest.raises(UserError, match=f"has 21 train samples.*got {count}"):
        part_of(whole, count, 0)
