"""Mining: the same replies whatever batch or interruption; memory that runs out, photos that fail."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
import torch
from conftest import NAMES, QUESTION, photo, tiny_policy
from forked_ranks import run_script

from fgvr.data.tasks import OpenWorld
from fgvr.errors import UserError
from fgvr.models import Policy
from fgvr.models.sampling import Sampling
from fgvr.options.store import Made, ReplyStore, Sampled, read_store
from fgvr.ranks import Ranks
from fgvr.rollouts import InProcess, RolloutEngine
from fgvr.rollouts.mining import Miner, weights_digest
from fgvr.shards.manifest import load_index
from fgvr.shards.packing import pack
from fgvr.shards.reading import ShardSet
from fgvr.sources import ImageFolder
from fgvr.types import PromptBatch, RolloutGroup

SAMPLING = Sampling(group_size=4, max_new_tokens=6)


class Scarce(RolloutEngine):
    """As `InProcess` on a device that holds so many completions at a time; remembers what it was asked for."""

    def __init__(self, holds: int) -> None:
        self.holds, self.engine, self.asked = holds, InProcess(), list[tuple[int, int]]()

    def sample(
        self, policy: Policy, batch: PromptBatch, sampling: Sampling, seeds: Sequence[int]
    ) -> list[RolloutGroup]:
        self.asked.append((len(batch.examples), sampling.group_size))
        if len(batch.examples) * sampling.group_size > self.holds:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
        return self.engine.sample(policy, batch, sampling, seeds)


@pytest.fixture(scope="module")
def policy() -> Policy:
    torch.manual_seed(0)
    return tiny_policy().eval()


@pytest.fixture
def shards(tmp_path: Path) -> ShardSet:
    for number, name in enumerate(NAMES):
        folder = tmp_path / "photos" / "train" / name
        folder.mkdir(parents=True)
        for index in range(2):
            photo(90, 70, seed=10 * number + index).save(folder / f"{index}.png")
    pack(ImageFolder(tmp_path / "photos"), tmp_path / "shards")
    return ShardSet(tmp_path / "shards", "train", ("seen",), max_bad_share=1.0)


def made_for(shards: ShardSet, at_once: int = 3) -> Made:
    taxonomy = shards.taxonomy
    classes = dict.fromkeys(taxonomy.paths, "seen")
    return Made("m", "p", {"k": 4}, 0, "d", "train", ("seen",), len(shards), at_once, "b", taxonomy.to_dict(), classes)


def mined(
    policy: Policy,
    shards: ShardSet,
    path: Path,
    engine: RolloutEngine = InProcess(),  # noqa: B008 - settings only
    at_once: int = 3,
) -> list[Sampled]:
    task = OpenWorld(QUESTION).bind(shards.taxonomy)
    with ReplyStore(path, made_for(shards, at_once)) as store:
        Miner(policy, engine, task, SAMPLING).mine(shards, range(len(shards)), store)
    return read_store(path)[1]


def test_each_photo_gets_its_replies_with_what_they_are_made_of(policy: Policy, shards: ShardSet, tmp_path: Path):
    found = mined(policy, shards, tmp_path / "replies.jsonl")
    assert [one.uid for one in found] == [entry.key for entry in shards.entries()]
    assert {one.label for one in found} == {*NAMES}
    for one in found:
        assert len(one.replies) == 4
        assert len(one.picture) == 64
        assert one.parts == 1
        assert all(1 <= reply.tokens <= 6 and reply.logprob < 0 for reply in one.replies)
    assert len({reply.text for one in found for reply in one.replies}) > 8


def test_replies_belong_to_the_photo_and_not_to_the_batch(policy: Policy, shards: ShardSet, tmp_path: Path):
    together, alone = (mined(policy, shards, tmp_path / f"{n}.jsonl", at_once=n) for n in (8, 1))
    assert [[reply.text for reply in one.replies] for one in together] == [
        [reply.text for reply in one.replies] for one in alone
    ]


class Stop(Exception):
    pass


def test_mining_goes_on_where_it_stopped_with_the_same_bytes(policy: Policy, shards: ShardSet, tmp_path: Path):
    mined(policy, shards, tmp_path / "whole.jsonl")
    task = OpenWorld(QUESTION).bind(shards.taxonomy)
    path = tmp_path / "stopped.jsonl"

    def stop(done: int, planned: int) -> None:
        if done == 3:
            raise Stop

    with ReplyStore(path, made_for(shards)) as store, pytest.raises(Stop):
        Miner(policy, InProcess(), task, SAMPLING).mine(shards, range(len(shards)), store, stop)
    with path.open("ab") as file:
        file.write(b'{"uid":"torn')
    mined(policy, shards, path)
    assert path.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_a_batch_that_memory_does_not_hold_is_halved_and_says_the_same(
    policy: Policy, shards: ShardSet, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    engine = Scarce(holds=4)
    found = mined(policy, shards, tmp_path / "scarce.jsonl", engine, at_once=4)
    assert engine.asked[:3] == [(4, 4), (2, 4), (1, 4)]
    assert found == mined(policy, shards, tmp_path / "plenty.jsonl", at_once=1)
    assert "Memory does not hold 4 photos at a time: they are halved" in caplog.text


def test_replies_that_memory_does_not_hold_are_sampled_in_parts(policy: Policy, shards: ShardSet, tmp_path: Path):
    found = mined(policy, shards, tmp_path / "parts.jsonl", Scarce(holds=1), at_once=1)
    assert {(len(one.replies), one.parts) for one in found} == {(4, 4)}
    assert any(len({reply.text for reply in one.replies}) > 2 for one in found), "each part has a seed of its own"


def test_a_photo_without_room_for_a_reply_is_refused_and_counted(policy: Policy, shards: ShardSet, tmp_path: Path):
    found = mined(policy, shards, tmp_path / "none.jsonl", Scarce(holds=0))
    assert len(found) == len(shards)
    assert all("memory does not hold one reply" in one.refused and not one.replies for one in found)


def test_another_error_of_the_engine_is_not_taken_for_memory(policy: Policy, shards: ShardSet, tmp_path: Path):
    class Broken(RolloutEngine):
        def sample(
            self, policy: Policy, batch: PromptBatch, sampling: Sampling, seeds: Sequence[int]
        ) -> list[RolloutGroup]:
            raise RuntimeError("size mismatch")

    with pytest.raises(RuntimeError, match="size mismatch"):
        mined(policy, shards, tmp_path / "broken.jsonl", Broken())


def test_a_photo_that_cannot_be_read_keeps_its_place_and_its_class(
    policy: Policy, shards: ShardSet, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    whole = mined(policy, shards, tmp_path / "whole.jsonl")
    (shard,) = shards.shards
    entry = load_index(shards.folder, shard)[4]
    with (shards.folder / shard.file).open("r+b") as file:
        file.seek(entry.members[0].offset + 20)
        file.write(b"damage")
    shards.close()
    found = mined(policy, shards, tmp_path / "damaged.jsonl")
    assert (found[4].uid, found[4].label, found[4].cohort) == (entry.key, entry.label, "seen")
    assert "checksum" in found[4].refused
    assert "left out of mining" in caplog.text
    texts = [[reply.text for reply in one.replies] for one in found]
    assert texts[:4] + texts[5:] == [[reply.text for reply in one.replies] for one in whole[:4] + whole[5:]]


class Gathered:
    """Brings the lists of two threads together, as the processes of a run do."""

    def __init__(self) -> None:
        self.barrier, self.parts = Barrier(2, timeout=60), dict[int, list[Any]]()

    def of(self, rank: int) -> Ranks:
        def gather(rows: list[Any]) -> list[Any]:
            self.parts[rank] = rows
            self.barrier.wait()
            joined = [row for part in (0, 1) for row in self.parts[part]]
            self.barrier.wait()
            return joined

        return Ranks(2, gather)


def test_processes_that_share_the_work_write_what_one_writes(policy: Policy, shards: ShardSet, tmp_path: Path):
    alone, both = tmp_path / "alone.jsonl", tmp_path / "both.jsonl"
    task, numbers, gathered = OpenWorld(QUESTION).bind(shards.taxonomy), range(len(shards)), Gathered()

    policies = [copy.deepcopy(policy) for _ in range(2)]  # each process has its own

    def work(rank: int) -> list[Sampled]:
        miner = Miner(policies[rank], InProcess(), task, SAMPLING)
        return miner.mine_together(shards, numbers, both, made_for(shards), gathered.of(rank), rank)

    miner = Miner(policy, InProcess(), task, SAMPLING)
    found = miner.mine_together(shards, numbers, alone, made_for(shards), Ranks(), 0)
    with ThreadPoolExecutor() as pool:
        shared = [*pool.map(work, (0, 1))]
    assert shared == [found, found]
    assert both.read_bytes() == alone.read_bytes()


def test_replies_are_sampled_from_the_photo_itself(policy: Policy):
    with pytest.raises(UserError, match=r"sampling\.positives must be left out, got 2"):
        Miner(policy, InProcess(), OpenWorld(), Sampling(4, positives=2))


def test_a_step_makes_other_weights():
    torch.manual_seed(0)
    policy = tiny_policy()
    before = weights_digest(policy)
    assert weights_digest(policy) == before
    _, weight = next(iter(policy.trainable()))
    with torch.no_grad():
        weight.view(-1)[0] += 1e-6
    assert weights_digest(policy) != before


# Prints the digest of the weights as one, two and three processes that share them find it, before and after a step.
DIGESTS = """
from types import SimpleNamespace
import torch
from forked_ranks import Net, group, say
from torch.distributed.fsdp import fully_shard
from fgvr.rollouts.mining import weights_digest

def digest(rank, ranks):
    torch.manual_seed(0)
    net = Net(7, 5, 3)
    fully_shard(net)
    backbone = SimpleNamespace(origin=lambda: {"kind": "random"})
    policy = SimpleNamespace(config=SimpleNamespace(backbone=backbone), trainable=net.named_parameters)
    before = weights_digest(policy)
    for weight in net.parameters():
        weight.data.mul_(2)
    say([before, weights_digest(policy)])

for world in (1, 2, 3):
    assert group(world, digest) == [0] * world
"""


@pytest.mark.slow
def test_weights_that_processes_share_have_the_digest_of_weights_that_one_has() -> None:
    digests = run_script(DIGESTS)
    assert len(digests) == 1 + 2 + 3
    assert len({before for before, _ in digests}) == len({after for _, after in digests}) == 1
    assert digests[0][0] != digests[0][1]
