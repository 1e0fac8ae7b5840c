import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sourced import touch

from fgvr.errors import UserError
from fgvr.shards.plan import (
    PackOptions,
    class_cohorts,
    few_shot,
    make_plan,
    picture_splits,
    sample_key,
    told_of_shares,
)
from fgvr.sources import ImageFolder
from fgvr.sources.base import PartnerRecord, Record, Source
from fgvr.taxonomy.tree import Taxonomy


def record(name: str, label: str, split: str | None = None, cohort: str | None = None, stamp: str = "") -> Record:
    return Record(name, label, (label,), split, cohort, lambda: b"", {}, stamp)


def records(classes: int, pictures: int, split: str | None = None) -> list[Record]:
    return [record(f"{label:02}/{n}.jpg", f"c{label:02}", split) for label in range(classes) for n in range(pictures)]


class Listed(Source):
    dataset = "listed"

    def __init__(self, found: Sequence[Record], labels: Sequence[str] | None = None) -> None:
        self.found, self.labels = found, labels

    def taxonomy(self):
        return Taxonomy.flat(sorted(self.labels or {one.label for one in self.found}))

    def records(self):
        yield from self.found

    def describe(self):
        return {"kind": "Listed"}


def test_unseen_classes_are_drawn_by_the_seed():
    many = records(10, 1)
    for unseen, count in ((3, 3), (0.25, 3), (0.01, 1), (0, 0), (0.0, 0)):
        assert Counter(class_cohorts(many, PackOptions(unseen=unseen)).values())["unseen"] == count
    drawn = {tuple(class_cohorts(many, PackOptions(unseen=3, seed=seed)).items()) for seed in range(5)}
    assert len(drawn) > 1
    assert class_cohorts(many[::-1], PackOptions(unseen=3)) == class_cohorts(many, PackOptions(unseen=3))


def test_base_is_the_first_half_of_the_sorted_labels():
    cohorts = class_cohorts(records(5, 2), PackOptions(class_split="base-novel"))
    assert cohorts == {"c00": "base", "c01": "base", "c02": "base", "c03": "novel", "c04": "novel"}


def test_the_sources_own_cohorts_stand():
    mixed = [record("a", "a", cohort="unseen"), record("b", "b")]
    assert class_cohorts(mixed, PackOptions()) == {"a": "unseen", "b": "seen"}
    with pytest.raises(UserError, match="source says itself"):
        class_cohorts(mixed, PackOptions(unseen=1))
    with pytest.raises(UserError, match="'a' is unseen and, at c, seen"):
        class_cohorts([*mixed, record("c", "a", cohort="seen")], PackOptions())
    with pytest.raises(UserError, match="either seen or base"):
        class_cohorts([record("b", "b", cohort="seen"), record("c", "c", cohort="base")], PackOptions())
    beside = [record("a", "a", cohort="unseen"), record("b", "b", cohort="seen"), record("c", "c", cohort="novel")]
    assert set(class_cohorts(beside, PackOptions()).values()) == {"seen", "unseen", "novel"}


@given(st.integers(1, 40), st.floats(0, 0.49), st.floats(0, 0.49), st.integers(0, 3))
def test_each_class_is_divided_by_the_shares(count, val, test, seed):
    many = records(2, count)
    options = PackOptions(val=val, test=test, seed=seed)
    splits = picture_splits(many, {"c00": "seen", "c01": "seen"}, options)
    for label in ("00", "01"):
        found = Counter(split for name, split in splits.items() if name.startswith(label))
        assert found.total() == count
        assert abs(found["val"] - val * count) <= 1
        assert abs(found["test"] - test * count) <= 1
        assert found["train"] >= 1
        if count >= 3:
            assert (found["val"] > 0) == (val > 0)
            assert (found["test"] > 0) == (test > 0)


def test_held_out_classes_have_no_training_pictures():
    many = records(1, 20)
    splits = picture_splits(many, {"c00": "unseen"}, PackOptions(val=0.1, test=0.3))
    assert Counter(splits.values()) == {"val": 5, "test": 15}  # 1 : 3
    only = picture_splits(many, {"c00": "unseen"}, PackOptions(val=0, test=0))
    assert Counter(only.values()) == {"test": 20}


def test_a_sources_own_splits_stand_and_val_comes_out_of_train():
    many = [*records(1, 10, "train"), *(record(f"t{n}", "c00", "test") for n in range(5))]
    splits = picture_splits(many, {"c00": "seen"}, PackOptions(val=0.2))
    assert Counter(splits.values()) == {"train": 8, "val": 2, "test": 5}
    assert all(splits[f"t{n}"] == "test" for n in range(5))
    own = picture_splits([*many, record("v", "c00", "val")], {"c00": "seen"}, PackOptions(val=0.2))
    assert Counter(own.values()) == {"train": 10, "val": 1, "test": 5}


def test_k_shot_keeps_k_of_each_class_and_all_that_is_not_training():
    many = records(3, 10)
    splits = picture_splits(many, dict.fromkeys(("c00", "c01", "c02"), "seen"), PackOptions())
    two, four = (few_shot(many, splits, PackOptions(k_shot=k)) for k in (2, 4))
    counts = Counter((one.label, splits[one.name]) for one in four)
    assert counts["c01", "train"] == 4
    assert counts["c01", "val"] == counts["c01", "test"] == 1
    assert {one.name for one in two} < {one.name for one in four}  # a larger k adds and never swaps


@given(st.text(min_size=1, max_size=300))
def test_keys_are_plain_and_differ(name):
    assert re.fullmatch(r"[a-z0-9_-]{12,64}", sample_key(name))
    assert sample_key(name) != sample_key(name + "x")


def test_keys_show_where_a_picture_comes_from():
    assert sample_key("train/Great Tit/IMG.0001.JPG").startswith("train-great-tit-img-0001-")


def test_a_plan_does_not_depend_on_the_order_of_listing():
    many = records(4, 9)
    assert make_plan(Listed(many), PackOptions()) == make_plan(Listed(many[::-1]), PackOptions())


def test_a_plan_has_every_record_once_and_mixed():
    many = records(10, 30)
    plan = make_plan(Listed(many), PackOptions(samples_per_shard=50, unseen=2))
    assert sorted(item.record.name for shard in plan.shards for item in shard.items) == sorted(one.name for one in many)
    assert all(len(shard.items) <= 50 for shard in plan.shards)
    assert {(shard.split, shard.cohort) for shard in plan.shards} == {
        ("train", "seen"),
        ("val", "seen"),
        ("val", "unseen"),
        ("test", "seen"),
        ("test", "unseen"),
    }
    assert len({item.record.label for item in plan.shards[0].items}) == 8


def test_the_hash_follows_whatever_changes_the_shards():
    def hashed(found: list[Record], **options) -> str:
        return make_plan(Listed(found), PackOptions(**options)).hash

    base = hashed(records(3, 5))
    changed = [
        hashed(records(3, 6)),
        hashed(records(3, 5), seed=1),
        hashed(records(3, 5), val=0.3),
        hashed(records(3, 5), samples_per_shard=2),
        hashed([record("00/0.jpg", "c00", stamp="7"), *records(3, 5)[1:]]),
    ]
    assert len({base, *changed}) == 6
    assert base == hashed(records(3, 5))


def test_twins_and_strangers_are_refused_by_name():
    many = [record("a", "x"), record("a", "x"), record("b", "y"), record("c", "x", split="dev")]
    plan = make_plan(Listed(many, ["x", "z"]), PackOptions())
    assert plan.pictures == 1
    assert [(one.sample, one.reason) for one in plan.refused] == [
        ("a", "two pictures must not have one name, but this one came before"),
        ("b", "its label 'y' is not a class of the taxonomy"),
        ("c", "split must be train, val or test, got 'dev'"),
    ]
    with pytest.raises(UserError, match="at least one labelled picture, but 1 were refused"):
        make_plan(Listed([record("b", "y")], ["x"]), PackOptions())


def test_a_single_class_is_refused():
    with pytest.raises(UserError, match="at least two classes to tell apart, but it has 'x' alone: name the folder"):
        make_plan(Listed([record("a", "x")], ["x"]), PackOptions())
    assert make_plan(Listed([record("a", "x")], ["x", "not pictured"]), PackOptions()).pictures == 1


@pytest.mark.parametrize(
    ("folder", "words"),
    [
        ("B\x1b", r"B\\x1b/0\.jpg: a label must hold no control characters"),
        ("B\udcff", r"B\\xff/0\.jpg: a label must hold no control characters"),
        ("B" * 240, r"B{240}/0\.jpg: a label must have 1 to 200 characters, but it has 240"),
    ],
)
def test_folders_whose_names_cannot_be_labels_are_named_where_one_class_is_left(tmp_path, folder, words):
    root = touch(tmp_path / "in", "A/0.jpg", f"{folder}/0.jpg", f"{folder}/1.jpg")
    sentence = rf"it has 'A' alone, and 2 refused \({words}.*\): mend these, or name the folder or the table"
    with pytest.raises(UserError, match=sentence):
        make_plan(ImageFolder(root), PackOptions())
    touch(root, "C\x07/0.jpg")
    with pytest.raises(UserError, match=rf"and 3 refused \({words}.*; C\\x07/0\.jpg: a label must hold no"):
        make_plan(ImageFolder(root), PackOptions())
    (root / "A/0.jpg").unlink()
    with pytest.raises(UserError, match=rf"at least one labelled picture, but 3 were refused \({words}.*; C\\x07/0"):
        make_plan(ImageFolder(root), PackOptions())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"unseen": 1.0}, "below 1.0"),
        ({"unseen": -1}, "below 1.0"),
        ({"unseen": float("nan")}, "below 1.0"),
        ({"class_split": "odd-even"}, "seen-unseen or base-novel"),
        ({"class_split": "base-novel", "unseen": 2}, "always halves"),
        ({"k_shot": 0}, "at least 1"),
        ({"val": 0.5, "test": 0.5}, "leave some for training"),
        ({"val": -0.1}, "leave some for training"),
        ({"samples_per_shard": 0}, "between 1 and"),
    ],
)
def test_options_out_of_range_are_refused(options, words):
    with pytest.raises(UserError, match=words):
        PackOptions(**options)


def test_holding_out_all_classes_is_refused():
    with pytest.raises(UserError, match="at least one class to train on, got 3 of 3"):
        class_cohorts(records(3, 2), PackOptions(unseen=3))


@pytest.mark.parametrize(("splits", "options", "told"), [
    (("train", "train"), PackOptions(val=0.3, test=0.2), ["the share test of 0.2 has no say", "none is for test"]),
    (("train", "val", "test"), PackOptions(), []),
    (("train", "val", "test"), PackOptions(val=0, test=0), []),
    (("train", "val", "test"), PackOptions(val=0.3), ["the share val of 0.3 has no say", "2 are for val"]),
    (("train", "val"), PackOptions(), ["the share test of 0.1 has no say", "none is for test"]),
    ((None, None, None), PackOptions(val=0.3, test=0.3), []),
    (("train", "test", None), PackOptions(val=0.3, test=0.3), []),
])  # fmt: skip
def test_a_share_is_told_of_that_the_source_itself_decides(splits, options: PackOptions, told: list[str]):
    found = [record(f"{label}/{n}.jpg", label, split) for label in "ab" for n, split in enumerate(splits)]
    said = told_of_shares(make_plan(Listed(found), options), options)
    assert len(said) == bool(told)
    assert all(part in said[0] for part in told)


def test_triplets_of_a_source_s_own_are_all_to_train_on_whatever_the_shares():
    partner = PartnerRecord("p", "", lambda: (b"",))
    found = [replace(record(f"{label}/{n}.jpg", label, "train"), positive=partner) for label in "ab" for n in range(4)]
    val, test = told_of_shares(make_plan(Listed(found), PackOptions()), PackOptions())
    assert "the share val of 0.1 has no say: the source itself says what each picture is for, and none is for" in val
    assert "test of 0.1" in test
