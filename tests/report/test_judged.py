from __future__ import annotations

from typing import Any

from toy_birds import BIRDS

from fgvr.report.judged import accuracies, changes, commonest_mistakes


def row(uid: str, label: str, node: str | None, verdict: str | None, **changes: Any) -> dict[str, Any]:
    own = {"uid": uid, "dataset": "birds", "cohort": "seen", "label": label, "answer": node, "node": node}
    return own | {"verdict": verdict} | changes


ROWS = [
    row("a", "Red Finch", "Red Finch", "specific"),
    row("b", "Red Finch", "Blue Finch", "wrong"),
    row("c", "Red Finch", "Blue Finch", "wrong"),
    row("d", "Blue Finch", "Finches", "less specific"),
    row("e", "Plain Wren", "Tall Finch", "wrong"),
    row("f", "Plain Wren", None, None),
    row("g", "Tall Finch", None, "wrong"),
]


def test_mistakes_are_counted_by_pair_the_commonest_first():
    found, pairs = commonest_mistakes(ROWS, 1)
    (one,) = found
    assert (one.label, one.taken_for, one.times, one.asked, pairs) == ("Red Finch", "Blue Finch", 2, 3, 2)
    assert one.uid in "bc"


def test_a_name_is_right_when_it_or_a_name_below_it_was_answered():
    at = {node.name: (node.right, node.n, node.exact) for node in accuracies(ROWS, BIRDS)}
    # of the five finches a, b, c and d were answered by a finch, g by nothing; d's answer stops above Roundbill
    assert at["Finches"] == (4, 5, 1)
    assert at["Roundbill"] == (3, 4, 1)
    assert at["Red Finch"] == (1, 3, 1)
    assert at["Blue Finch"] == (0, 1, 0)
    assert at["Wrens"] == (0, 2, 0)
    assert at["bird"] == (5, 7, 1)  # a, b, c, d, and e, which is a bird too
    assert "Barred Wren" not in at, "nobody asked"


def test_parents_come_before_their_children_and_have_a_rank():
    nodes = accuracies(ROWS, BIRDS)
    seen = {""}
    for node in nodes:
        assert node.parent in seen
        seen.add(node.name)
    ranks = {node.name: node.rank for node in nodes}
    assert (ranks["bird"], ranks["Finches"], ranks["Roundbill"], ranks["Red Finch"]) == (
        "",
        "family",
        "genus",
        "species",
    )
    assert accuracies([row("x", "Dodo", None, "wrong")], BIRDS) == []


def test_changes_are_of_the_same_photos_and_of_right_and_wrong_alone():
    after = [
        row("a", "Red Finch", "Blue Finch", "wrong"),
        row("b", "Red Finch", "Red Finch", "specific"),
        row("c", "Red Finch", "Tall Finch", "wrong"),
        row("a", "Red Finch", "Red Finch", "specific", cohort="unseen"),
    ]
    turned, both = changes(ROWS, after)
    assert both == 3
    assert [(one.uid, one.helped, one.before, one.after) for one in turned] == [
        ("b", True, "Blue Finch", "Red Finch"),
        ("a", False, "Red Finch", "Blue Finch"),
    ]
