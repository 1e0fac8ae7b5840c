import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sourced import touch

from fgvr.errors import UserError
from fgvr.shards.plan import (
    PackOptions,
    Plan,
    class_cohorts,
    fill,
    give_splits,
    make_plan,
    sample_key,
    told_of_shares,
)
from fgvr.shards.shelf import Shelf
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


def shelved(found: Sequence[Record], options: PackOptions) -> Shelf:
    source = Listed(found)
    shelf = Shelf(source.taxonomy().paths, options.seed)
    assert fill(shelf, source, source.taxonomy()) == ()
    return shelf


def cohorts_of(found: Sequence[Record], options: PackOptions = PackOptions()) -> dict[str, str]:  # noqa: B008
    return class_cohorts(shelved(found, options), options)


def splits_of(found: Sequence[Record], cohorts: Mapping[Any, str], options: PackOptions) -> dict[str, tuple[str, str]]:
    """The split of each name that is kept, and its label."""
    shelf = shelved(found, options)
    give_splits(shelf, cohorts, options)
    shelf.arrange(cohorts, options.k_shot)
    items = [item for _, _, group in shelf.groups() for item in group]
    return {item.record.name: (item.split, item.record.label) for item in items}


def counted(splits: dict[str, tuple[str, str]]) -> Counter[str]:
    return Counter(split for split, _ in splits.values())


def contents(plan: Plan) -> list[tuple[str, list[tuple[str, str]]]]:
    return [(shard.file, [(item.key, item.record.label) for item in shard.items]) for shard in plan.shards]


def test_unseen_classes_are_drawn_by_the_seed():
    many = records(10, 1)
    for unseen, count in ((3, 3), (0.25, 3), (0.01, 1), (0, 0), (0.0, 0)):
        assert Counter(cohorts_of(many, PackOptions(unseen=unseen)).values())["unseen"] == count
    drawn = {tuple(cohorts_of(many, PackOptions(unseen=3, seed=seed)).items()) for seed in range(5)}
    assert len(drawn) > 1
    assert cohorts_of(many[::-1], PackOptions(unseen=3)) == cohorts_of(many, PackOptions(unseen=3))


def test_base_is_the_first_half_of_the_sorted_labels():
    cohorts = cohorts_of(records(5, 2), PackOptions(class_split="base-novel"))
    assert cohorts == {"c00": "base", "c01": "base", "c02": "base", "c03": "novel", "c04": "novel"}


def test_the_sources_own_cohorts_stand():
    mixed = [record("a", "a", cohort="unseen"), record("b", "b")]
    assert cohorts_of(mixed) == {"a": "unseen", "b": "seen"}
    with pytest.raises(UserError, match="source says itself"):
        cohorts_of(mixed, PackOptions(unseen=1))
    with pytest.raises(UserError, match="'a' is unseen and, at c, seen"):
        cohorts_of([*mixed, record("c", "a", cohort="seen")])
    with pytest.raises(UserError, match="either seen or base"):
        cohorts_of([record("b", "b", cohort="seen"), record("c", "c", cohort="base")])
    beside = [record("a", "a", cohort="unseen"), record("b", "b", cohort="seen"), record("c", "c", cohort="novel")]
    assert set(cohorts_of(beside).values()) == {"seen", "unseen", "novel"}


@given(st.integers(1, 40), st.floats(0, 0.49), st.floats(0, 0.49), st.integers(0, 3))
def test_each_class_is_divided_by_the_shares(count, val, test, seed):
    many = records(2, count)
    options = PackOptions(val=val, test=test, seed=seed)
    splits = splits_of(many, {"c00": "seen", "c01": "seen"}, options)
    for label in ("00", "01"):
        found = Counter(split for name, (split, _) in splits.items() if name.startswith(label))
        assert found.total() == count
        assert abs(found["val"] - val * count) <= 1
        assert abs(found["test"] - test * count) <= 1
        assert found["train"] >= 1
        if count >= 3:
            assert (found["val"] > 0) == (val > 0)
            assert (found["test"] > 0) == (test > 0)


def test_held_out_classes_have_no_training_pictures():
    many = records(1, 20)
    splits = splits_of(many, {"c00": "unseen"}, PackOptions(val=0.1, test=0.3))
    assert counted(splits) == {"val": 5, "test": 15}  # 1 : 3
    only = splits_of(many, {"c00": "unseen"}, PackOptions(val=0, test=0))
    assert counted(only) == {"test": 20}


def test_a_sources_own_splits_stand_and_val_comes_out_of_train():
    many = [*records(1, 10, "train"), *(record(f"t{n}", "c00", "test") for n in range(5))]
    splits = splits_of(many, {"c00": "seen"}, PackOptions(val=0.2))
    assert counted(splits) == {"train": 8, "val": 2, "test": 5}
    assert all(splits[f"t{n}"][0] == "test" for n in range(5))
    own = splits_of([*many, record("v", "c00", "val")], {"c00": "seen"}, PackOptions(val=0.2))
    assert counted(own) == {"train": 10, "val": 1, "test": 5}


def test_k_shot_keeps_k_of_each_class_and_all_that_is_not_training():
    seen = dict.fromkeys(("c00", "c01", "c02"), "seen")
    two, four, all_of_them = (splits_of(records(3, 10), seen, PackOptions(k_shot=k)) for k in (2, 4, None))
    counts = Counter((label, split) for split, label in four.values())
    assert counts["c01", "train"] == 4
    assert counts["c01", "val"] == counts["c01", "test"] == 1
    assert two.items() < four.items() < all_of_them.items()  # a larger k adds and never swaps


@given(st.text(min_size=1, max_size=300))
def test_keys_are_plain_and_differ(name):
    assert re.fullmatch(r"[a-z0-9_-]{12,64}", sample_key(name))
    assert sample_key(name) != sample_key(name + "x")


def test_keys_show_where_a_picture_comes_from():
    assert sample_key("train/Great Tit/IMG.0001.JPG").startswith("train-great-tit-img-0001-")


def test_a_plan_does_not_depend_on_the_order_of_listing():
    many = records(4, 9)
    one, other = (make_plan(Listed(found), PackOptions()) for found in (many, many[::-1]))
    assert (one.hash, contents(one)) == (other.hash, contents(other))


def test_a_plan_has_every_record_once_and_mixed():
    many = records(10, 30)
    plan = make_plan(Listed(many), PackOptions(samples_per_shard=50, unseen=2))
    assert sorted(item.record.name for item in plan.items()) == sorted(one.name for one in many)
    assert all(len(shard.items) <= 50 for shard in plan.shards)
    assert {(shard.split, shard.cohort) for shard in plan.shards} == {
        ("train", "seen"),
        ("val", "seen"),
        ("val", "unseen"),
        ("test", "seen"),
        ("test", "unseen"),
    }
    assert len({label for _, label in contents(plan)[0][1]}) == 8


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
        cohorts_of(records(3, 2), PackOptions(unseen=3))


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
