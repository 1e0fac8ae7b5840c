from __future__ import annotations

import random
from dataclasses import replace

from fgvr.metrics.ladder import Asked
from fgvr.pictures.ladder import ladder_tables


def photos(seed: int, n: int = 60, gate: str = "asked") -> list[Asked]:
    rng = random.Random(seed)
    found: list[Asked] = []
    for _ in range(n):
        reached = rng.random() < 0.9
        greedy, vote, choice = (reached and rng.random() < share for share in (0.5, 0.6, 0.8))
        found.append(
            Asked("birds", greedy, vote, choice, reached, "choice", gate, rng.random(), rng.random(), 9, 200, 30)
        )
    return found


def test_a_ladder_tells_each_rung_and_what_it_is_due_to():
    before = {"novel": photos(0), "seen": photos(1), "unseen": photos(2)}
    tables = {table.title: table for table in ladder_tables(before)}
    assert len(tables["Ladder, scope not known"].rows) == 3 * 4
    assert len(tables["The same photos, rung by rung"].rows) == 3 * 3
    for _, _, recall, of_these, accuracy, *by in tables["Why"].rows:
        assert abs(float(recall or 0) * float(of_these or 0) - float(accuracy or 0)) < 1e-9
        assert sum(int(count or 0) for count in by) == 60
    assert "Harmonic mean of seen and novel, untrained, scope not known" in tables
    assert "Gates, untrained" in tables
    assert all(table.markdown() for table in tables.values())


def test_training_adds_rungs_of_its_own_on_the_same_photos():
    before, after = {"seen": photos(1)}, {"seen": photos(5)}
    tables = {table.title: table for table in ladder_tables(before, after)}
    names = [row[1] for row in tables["Ladder, scope not known"].rows]
    assert names[:3] == ["greedy untrained", "vote untrained", "two steps untrained"]
    assert "two steps trained" in names
    pairs = [row[1:3] for row in tables["The same photos, rung by rung"].rows]
    assert ("greedy untrained", "two steps trained") in pairs
    own = [("greedy", "vote"), ("greedy", "two steps"), ("vote", "two steps")]
    for weights in ("untrained", "trained"):  # of the same weights, each with each
        assert [(f"{first} {weights}", f"{second} {weights}") for first, second in own] == [
            pair for pair in pairs if all(str(name).endswith(f" {weights}") for name in pair)
        ]
    assert {"Gates, trained", "Accuracy by confidence, trained"} <= set(tables)


def test_behind_a_gate_its_cost_is_not_told():
    (gates,) = [t for t in ladder_tables({"seen": photos(1, gate="margin")}) if t.title == "Gates, untrained"]
    assert gates.rows == ()
    assert "seen was asked behind a gate" in gates.note


def test_a_margin_is_chosen_on_other_photos_than_it_is_told_on():
    """Where the vote is right about every second photo, the margin that is free for these is not for the others."""
    free = Asked("birds", True, True, True, True, "choice", "asked", 0.2, 0.5, 9, 200, 30)
    costly = replace(free, vote=False)
    (gates,) = [t for t in ladder_tables({"seen": [free, costly] * 20}) if t.title == "Gates, untrained"]
    assert "Margin 0.1 saves most at no loss for every second photo" in gates.note
    assert "seen saves 100%, accuracy -1.000" in gates.note


def test_of_one_photo_no_margin_is_told():
    (gates,) = [t for t in ladder_tables({"seen": photos(1, n=1)}) if t.title == "Gates, untrained"]
    assert "saves" not in gates.note
    assert "takes two of each cohort" in gates.note
