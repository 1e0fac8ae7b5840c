from __future__ import annotations

from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from toy_birds import BIRDS

from fgvr.report.groups import evenly, groups_of


def row(step: int, place: int, **changes: Any) -> dict[str, Any]:
    own = {"epoch": 0, "step": step, "global_step": step, "place": place, "uid": f"u{place}", "label": "Red Finch",
           "answer": "Red Finch", "completion": "", "reward": 1.0, "advantage": 0.0, "learned": True}  # fmt: skip
    return own | changes


@given(st.integers(0, 200), st.integers(1, 50))
def test_some_of_many_are_spread_evenly(count: int, most: int):
    chosen = evenly(count, most)
    assert len(chosen) == len(set(chosen)) == min(count, most)
    assert chosen == sorted(chosen)
    if count and most > 1:
        assert (chosen[0], chosen[-1]) == (0, count - 1)
        gaps = [after - before for before, after in pairwise(chosen)]
        assert not gaps or max(gaps) - min(gaps) <= 1


def test_as_many_groups_are_kept_as_have_so_many_completions_in_all():
    rows = [row(step, step) for step in range(10) for _ in range(4)]
    kept = groups_of(rows, 12, None)
    assert [group.step for group in kept.shown] == [0, 4, 9]  # 12 / 4 = 3 of 10: 0, 4.5, 9; halves go to the even one
    assert (kept.groups, kept.rollouts) == (10, 40)
    assert len(groups_of(rows, 1, None).shown) == 1


def test_what_was_sampled_before_a_refill_counts_once():
    rows = [row(0, 5, learned=False), row(1, 5), row(1, 6), row(0, 7, learned=False)]
    assert [(group.step, group.uid) for group in groups_of(rows, 9, None).shown] == [(1, "u5"), (1, "u6")]


def test_verdicts_are_the_judge_s_own_where_they_were_kept_else_the_taxonomy_s():
    kept = groups_of([row(0, 0, verdict="generic"), row(0, 0, verdict=None, answer=None)], 9, BIRDS).shown[0]
    assert (kept.verdicts, kept.by_taxonomy) == (("generic", "no answer"), False)
    rows = [row(0, 0), row(0, 0, answer="Finches"), row(0, 0, answer="Plain Wren"), row(0, 0, answer=None)]
    kept = groups_of(rows, 9, BIRDS).shown[0]
    assert kept.verdicts == ("specific", "less specific", "wrong", "no answer")
    assert kept.by_taxonomy
    assert groups_of([row(0, 0, label="Dodo")], 9, BIRDS).shown[0].verdicts == (None,)


def test_a_group_knows_its_options_and_partners():
    group = groups_of([row(0, 0, shown=["A", "B"], positive="p", negative="n")], 9, None).shown[0]
    assert group.options == ["A", "B"]
    assert group.partners == {"positive": "p", "negative": "n"}
    assert groups_of([row(0, 0, shown="AB")], 9, None).shown[0].options == []
