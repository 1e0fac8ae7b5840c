from __future__ import annotations

import random
import time

import pytest
from toy_birds import PATHS
from toy_replies import made, sampled

from fgvr.options.store import Sampled
from fgvr.options.sweep import sweep
from fgvr.options.votes import cut, rank

LABELS = sorted(PATHS)


def photos(count: int, replies: int, seed: int = 0) -> list[Sampled]:
    """Half of the replies are right, the others anything."""
    draw = random.Random(seed)
    found: list[Sampled] = []
    for number in range(count):
        label = draw.choice(LABELS)
        answers = [label if draw.random() < 0.5 else draw.choice([*LABELS, None]) for _ in range(replies)]
        found.append(sampled(f"u{number}", label, *answers))
    return found


def test_all_replies_give_what_ranking_and_cutting_give():
    own, of = photos(30, 9), made(30)
    for cell in sweep(of, own, (2, 3), ks=(9,)):
        options = [cut(rank(photo.replies, of.names), cell.m) for photo in own]
        right = [photo.label in names for photo, names in zip(own, options, strict=True)]
        assert cell.recall == pytest.approx(sum(right) / 30, abs=1e-6)
        guessed = sum(hit / len(names) for hit, names in zip(right, options, strict=True) if names)
        assert cell.guessed == pytest.approx(guessed / 30, abs=1e-6)
        assert cell.tokens == 45


def test_recall_grows_with_m_and_lies_within_its_interval():
    cells = sweep(made(40), photos(40, 8), range(1, 6))
    assert [(cell.k, cell.m) for cell in cells] == [(k, m) for k in (1, 2, 4, 8) for m in range(1, 6)]
    for k in (1, 2, 4, 8):
        own = [cell for cell in cells if cell.k == k]
        assert [cell.recall for cell in own] == sorted(cell.recall for cell in own)
        assert all(cell.low <= cell.recall <= cell.high and cell.guessed <= cell.recall for cell in own)
        assert own[0].tokens == pytest.approx(5 * k)


def test_one_reply_of_many_is_right_as_often_as_all_are_on_average():
    own = photos(200, 8)
    (cell,) = sweep(made(200), own, (1,), ks=(1,))
    share = sum(reply.answer == photo.label for photo in own for reply in photo.replies) / 1600
    assert cell.recall == pytest.approx(share, abs=0.02)


def test_what_was_refused_counts_as_missed_and_what_is_out_of_scope_is_no_option():
    own = [sampled("a", "Red Finch", "Red Finch", "gull"), sampled("b", "Red Finch", refused="gone")]
    (cell,) = sweep(made(2), own, (1,), ks=(2,))
    assert (cell.recall, cell.tokens) == (0.5, 5)
    (cell,) = sweep(made(2), own, (2,), frozenset({"Plain Wren"}), ks=(2,))
    assert (cell.recall, cell.options) == (0, 0)
    with pytest.raises(ValueError, match="needs photos"):
        sweep(made(0), [], (1,))


def test_a_few_photos_that_are_all_right_do_not_make_certain():
    right = [sampled(f"u{number}", "Red Finch", "Red Finch") for number in range(4)]
    (cell,) = sweep(made(4), right, (1,))
    assert (cell.low, cell.high) == (pytest.approx(0.025**0.25, abs=1e-6), 1)  # of 4, as Clopper and Pearson have it
    (cell,) = sweep(made(4), [sampled(f"u{number}", "Red Finch", "Plain Wren") for number in range(4)], (1,))
    assert (cell.low, cell.high) == (0, pytest.approx(1 - 0.025**0.25, abs=1e-6))


def test_a_sweep_takes_seconds_and_is_the_same_twice():
    own, of = photos(200, 20), made(200)
    began = time.perf_counter()
    cells = sweep(of, own, range(1, 6))
    assert time.perf_counter() - began < 10
    assert cells == sweep(of, own, range(1, 6))
    assert cells != sweep(of, own, range(1, 6), seed=1)
