from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from toy_birds import BIRDS

from fgvr.report.groups import Kept, evenly, groups_of
from fgvr.report.ran import sampled_in
from fgvr.taxonomy.tree import Taxonomy
from fgvr.whole_files import sealed_line


def row(step: int, place: int, **changes: Any) -> dict[str, Any]:
    own = {"epoch": 0, "step": step, "global_step": step, "place": place, "uid": f"u{place}", "label": "Red Finch",
           "answer": "Red Finch", "completion": "", "reward": 1.0, "advantage": 0.0, "learned": True}  # fmt: skip
    return own | changes


def groups(folder: Path, rows: Sequence[dict[str, Any]], most: int = 9, taxonomy: Taxonomy | None = None) -> Kept:
    """What is shown of a run that has left these rows."""
    (folder / "rollouts.jsonl").write_bytes(b"".join(map(sealed_line, rows)))
    return groups_of([*sampled_in(folder / "rollouts.jsonl", [])], most, taxonomy)


@given(st.integers(0, 200), st.integers(1, 50))
def test_some_of_many_are_spread_evenly(count: int, most: int):
    chosen = evenly(count, most)
    assert len(chosen) == len(set(chosen)) == min(count, most)
    assert chosen == sorted(chosen)
    if count and most > 1:
        assert (chosen[0], chosen[-1]) == (0, count - 1)
        gaps = [after - before for before, after in pairwise(chosen)]
        assert not gaps or max(gaps) - min(gaps) <= 1


def test_as_many_groups_are_kept_as_have_so_many_completions_in_all(tmp_path: Path):
    rows = [row(step, step) for step in range(10) for _ in range(4)]
    kept = groups(tmp_path, rows, 12)
    assert [group.step for group in kept.shown] == [0, 4, 9]  # 12 / 4 = 3 of 10: 0, 4.5, 9; halves go to the even one
    assert (kept.groups, kept.rollouts) == (10, 40)
    assert len(groups(tmp_path, rows, 1).shown) == 1


def test_what_was_sampled_before_a_refill_counts_once(tmp_path: Path):
    rows = [row(0, 5, learned=False), row(1, 5), row(1, 6), row(0, 7, learned=False)]
    assert [(group.step, group.uid) for group in groups(tmp_path, rows).shown] == [(1, "u5"), (1, "u6")]


def test_verdicts_are_the_judge_s_own_where_they_were_kept_else_the_taxonomy_s(tmp_path: Path):
    kept = groups(tmp_path, [row(0, 0, verdict="generic"), row(0, 0, verdict=None, answer=None)], 9, BIRDS).shown[0]
    assert (kept.verdicts, kept.by_taxonomy) == (("generic", "no answer"), False)
    rows = [row(0, 0), row(0, 0, answer="Finches"), row(0, 0, answer="Plain Wren"), row(0, 0, answer=None)]
    kept = groups(tmp_path, rows, 9, BIRDS).shown[0]
    assert kept.verdicts == ("specific", "less specific", "wrong", "no answer")
    assert kept.by_taxonomy
    assert groups(tmp_path, [row(0, 0, label="Dodo")], 9, BIRDS).shown[0].verdicts == (None,)


def test_a_group_knows_its_options_and_partners(tmp_path: Path):
    group = groups(tmp_path, [row(0, 0, shown=["A", "B"], positive="p", negative="n")]).shown[0]
    assert group.options == ["A", "B"]
    assert group.partners == {"positive": "p", "negative": "n"}
    assert groups(tmp_path, [row(0, 0, shown="AB")]).shown[0].options == []
