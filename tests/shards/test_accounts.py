from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from fgvr.shards.accounts import Accounts, _range, timm_info
from fgvr.shards.manifest import SampleEntry, ShardIndex
from fgvr.shards.plan import PackOptions, Plan, PlannedShard
from fgvr.sources.base import Refusal, Source
from fgvr.taxonomy.tree import Taxonomy


class Nothing(Source):
    dataset = "nothing"

    def taxonomy(self):
        return Taxonomy.flat(["a", "b"])

    def records(self):
        yield from ()

    def describe(self):
        return {}


def sample(key: str, label: str, picture: str, width: int = 1) -> SampleEntry:
    return SampleEntry(key, label, (), picture * 32, width, 2)


def summed(max_bad_share: float = 0.5):
    plan = Plan(
        "p", Taxonomy.flat(["a", "b"]), {"a": "seen", "b": "seen"}, (), (Refusal("z", "z", "?"),), {"left out": 4}
    )
    accounts = Accounts()
    train = (sample("k1", "a", "11", 9), sample("k2", "b", "22", 5), sample("k3", "a", "11", 7))
    accounts.add(
        PlannedShard("train-seen-000000.tar", "train", "seen", ()), ShardIndex("p", "t", 8, "f", train, (), {"n": 1})
    )
    test = (sample("k4", "b", "22", 3),)
    refused = (Refusal("y", "y", "!"),)
    accounts.add(
        PlannedShard("test-seen-000000.tar", "test", "seen", ()), ShardIndex("p", "e", 4, "f", test, refused, {"n": 2})
    )
    return accounts.manifest(Nothing(), PackOptions(), plan, max_bad_share)


def test_sums_over_shards():
    manifest = summed()
    assert manifest.counts == {"train": {"a": 2, "b": 1}, "test": {"b": 1}}
    assert manifest.image_pixels == {"width": [3, 7, 9], "height": [2, 2, 2]}
    assert [refusal.sample for refusal in manifest.refused] == ["y", "z"]
    assert manifest.notes == {"n": 3, "left out": 4, "same picture again in its split": 1}


def test_a_picture_in_two_splits_is_a_leak_and_one_twice_in_a_split_is_not():
    leaks = summed().leaks
    assert [(leak.picture, leak.samples) for leak in leaks] == [("22" * 32, ("test/k4", "train/k2"))]


def test_accepted_up_to_the_share_and_not_beyond():
    assert summed(2 / 6).accepted  # 2 refused, 4 kept
    assert not summed(0.33).accepted


def test_timm_finds_its_splits():
    assert timm_info(summed())["splits"]["train-seen"] == {
        "name": "train-seen",
        "filenames": ["train-seen-000000.tar"],
        "shard_lengths": [3],
        "num_samples": 3,
    }


@given(st.lists(st.integers(1, 9), max_size=30))
def test_the_median_is_that_of_all_values_in_their_order(values: list[int]):
    ordered = sorted(values)
    assert _range(Counter(values)) == ([ordered[0], ordered[len(values) // 2], ordered[-1]] if values else [])
