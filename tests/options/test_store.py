"""A store goes on from its last whole batch, and takes replies of one model to one question only."""

from __future__ import annotations

from pathlib import Path

import pytest
from toy_birds import classes
from toy_replies import made, sampled, stored

from fgvr.errors import UserError
from fgvr.options.deriving import Rules, derive, write_options
from fgvr.options.store import ReplyStore, confusions, read_store, remove_if_of_others

PHOTOS = [
    sampled("a", "Red Finch", "Red Finch", "rubra", "Blue Finch", None),
    sampled("b", "Blue Finch", "Red Finch", "Blue Finch", "gull", "Ash Finch"),
    sampled("c", "Ash Finch", refused="the bytes do not have the checksum of the index"),
    sampled("d", "Plain Wren", "Plain Wren", "a < b", "Barred Wren", "Barred Wren", parts=2),
    sampled("e", "Plain Wren", "Plain Wren", "\u2028\ud800", "Barred Wren", None),
]


def test_what_is_read_is_what_was_written(tmp_path: Path):
    of = stored(tmp_path / "replies.jsonl", PHOTOS)
    assert read_store(tmp_path / "replies.jsonl") == (of, PHOTOS)


@pytest.mark.parametrize("photos", range(5))
@pytest.mark.parametrize("torn", [0, 40])
def test_a_killed_store_goes_on_to_the_same_bytes(tmp_path: Path, photos: int, torn: int):
    stored(tmp_path / "whole.jsonl", PHOTOS)
    whole = (tmp_path / "whole.jsonl").read_bytes()
    lines = whole.splitlines(keepends=True)
    path = tmp_path / "killed.jsonl"
    path.write_bytes(b"".join(lines[: photos + 1]) + lines[photos + 1][:torn])
    with ReplyStore(path, made(len(PHOTOS))) as store:
        assert store.done == photos - photos % 2, "a batch that was begun is sampled again"
    stored(path, PHOTOS)
    assert path.read_bytes() == whole


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model": "x"}, "model"),
        ({"prompt": "x"}, "question"),
        ({"data": "x", "seed": 3}, "seed and another shard set"),
    ],
)
def test_replies_of_another_model_or_to_another_question_are_refused(tmp_path: Path, change: dict[str, str], said: str):
    stored(tmp_path / "replies.jsonl", PHOTOS)
    with pytest.raises(UserError, match=f"made with another {said}"):
        ReplyStore(tmp_path / "replies.jsonl", made(len(PHOTOS), **change))


def test_damage_before_the_end_is_named_and_nothing_is_lost(tmp_path: Path):
    path = tmp_path / "replies.jsonl"
    of = stored(path, PHOTOS)
    data = path.read_bytes().replace(b"Blue Finch", b"Blue Winch", 1)
    for at in (data, b"", b"{}\n"):
        path.write_bytes(at)
        with pytest.raises(UserError, match=r"replies\.jsonl must be a store of replies"):
            ReplyStore(path, of)
        with pytest.raises(UserError, match=r"replies\.jsonl must be a store of replies"):
            read_store(path)
        assert path.read_bytes() == at


def test_a_file_of_options_is_told_from_a_store(tmp_path: Path):
    of, rules = made(len(PHOTOS)), Rules()
    write_options(tmp_path / "options.jsonl", of, rules, derive(of, PHOTOS, rules, classes()))
    with pytest.raises(UserError, match=r"it holds options: the replies they were made of are in a replies\.jsonl"):
        read_store(tmp_path / "options.jsonl")


def test_only_one_process_writes(tmp_path: Path):
    with ReplyStore(tmp_path / "replies.jsonl", made(2)), pytest.raises(UserError, match="one process at a time"):
        ReplyStore(tmp_path / "replies.jsonl", made(2))


def test_an_unfinished_store_is_no_store_to_read(tmp_path: Path):
    path = tmp_path / "replies.jsonl"
    with pytest.raises(UserError, match="there is no such file"):
        read_store(path)
    with ReplyStore(path, made(4)) as store:
        store.append(PHOTOS[:2])
    with pytest.raises(UserError, match="all 4 photos, but it holds those to 2"):
        read_store(path)


def test_scopes_hold_the_classes_that_they_say():
    of = made(1)
    assert of.scope("open") is None
    assert of.scope("all") == frozenset(of.classes)
    assert of.scope("base") == frozenset(of.classes) - {"Tall Finch"} == frozenset(of.classes) - of.held_out


def test_confusions_count_other_classes_only():
    assert confusions(made(5), PHOTOS) == {
        "Red Finch": {"Blue Finch": 1},
        "Blue Finch": {"Red Finch": 1, "Ash Finch": 1},
        "Ash Finch": {},
        "Plain Wren": {"Barred Wren": 3},
    }


def test_only_a_store_that_was_made_with_anything_else_is_removed(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    path = tmp_path / "replies.jsonl"
    remove_if_of_others(path, made(5))
    of = stored(path, PHOTOS)
    remove_if_of_others(path, of)
    assert path.exists()
    assert not caplog.text
    remove_if_of_others(path, made(5, model="other", seed=1))
    assert not path.exists()
    assert "it was made with another model and another seed" in caplog.text
