from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fgvr.metrics.ladder import (
    RUNGS,
    Asked,
    best_margin,
    gates,
    harmonic,
    mcnemar,
    paired,
    risk_coverage,
    rungs,
    split_of,
    wilson,
)


def asked(**changes: Any) -> Asked:
    own: dict[str, Any] = {
        "dataset": "birds", "greedy": False, "vote": False, "choice": False, "reached": False, "by": "choice",
        "gate": "asked", "lead": 0.1, "confidence": 0.5, "greedy_tokens": 10, "sampled_tokens": 200,
        "choosing_tokens": 30,
    }  # fmt: skip
    return Asked(**(own | changes))


def some(seed: int, n: int = 40, dataset: str = "birds") -> list[Asked]:
    rng = random.Random(seed)
    found: list[Asked] = []
    for _ in range(n):
        reached = rng.random() < 0.8
        right, vote = (reached and rng.random() < 0.7 for _ in range(2))
        lead, confidence = rng.random(), rng.choice([0.2, 0.5, 0.9])
        found.append(asked(dataset=dataset, reached=reached, choice=right, vote=vote, lead=lead, confidence=confidence))
    return found


@given(st.integers(0, 999))
def test_accuracy_is_recall_times_what_is_right_of_it(seed: int):
    split = split_of(some(seed))
    assert split.accuracy == pytest.approx(split.recall * split.right_of_reached)
    assert split_of([]).accuracy == 0


@given(st.integers(0, 999), st.integers(1, 40))
def test_every_rung_counts_every_photo(seed: int, n: int):
    rows = some(seed, n)
    found = {rung.name: rung for rung in rungs(rows)}
    assert {rung.n for rung in found.values()} == {n}
    assert found["two steps"].accuracy == pytest.approx(sum(one.choice for one in rows) / n)
    assert found["two steps"].accuracy <= found["options"].accuracy
    assert all(0 <= rung.low <= rung.accuracy <= rung.high <= 1 for rung in found.values())
    covered = risk_coverage(rows, (0.3, 1.0))
    assert covered[1.0] == pytest.approx(found["two steps"].accuracy)
    pair = paired("vote", "two steps", [one.vote for one in rows], [one.choice for one in rows])
    gained = found["two steps"].accuracy - found["vote"].accuracy
    assert (pair.helped - pair.hurt) / n == pytest.approx(gained)


def test_the_rungs_have_all_photos_as_their_denominator():
    rows = [
        asked(greedy=True, vote=True, choice=True, reached=True),
        asked(vote=True, reached=True),
        asked(by="abstain"),
    ]
    found = {rung.name: rung for rung in rungs(rows)}
    assert [found[name].accuracy for name in ("greedy", "vote", "two steps", "options")] == [1 / 3, 2 / 3, 1 / 3, 2 / 3]
    assert {rung.n for rung in found.values()} == {3}
    assert [found[name].tokens for name in ("greedy", "vote", "two steps")] == [10, 200, 230]
    assert all(rung.low <= rung.accuracy <= rung.high for rung in found.values())


def test_paired_tests():
    # three turns, all one way: 2 x 1/8; two one way and one the other: 2 x (1 + 3) / 8 = 1
    assert mcnemar(3, 0) == 0.25
    assert mcnemar(1, 2) == 1.0
    assert mcnemar(0, 0) == 1.0
    assert mcnemar(10, 1) == pytest.approx(2 * (1 + 11) / 2**11)
    pair = paired("vote", "two steps", [True, False, False, True], [True, True, False, False])
    assert (pair.helped, pair.hurt, pair.p) == (1, 1, 1.0)
    with pytest.raises(ValueError, match="shorter"):
        paired("a", "b", [True], [])


def test_wilson():
    # n = 10, 8 right, z = 1.96: (0.8 + 0.19207 ± 1.96 sqrt(0.016 + 0.0096036)) / 1.38415
    assert wilson(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert wilson(0, 5)[0] == 0
    assert wilson(5, 5)[1] == 1
    assert wilson(0, 0) == (0.0, 1.0)


def test_a_gate_saves_the_questions_it_closes_and_takes_the_vote_there():
    rows = [
        asked(lead=0.9, vote=True, choice=False, reached=True),
        asked(lead=0.4, vote=False, choice=True, reached=True),
        asked(lead=0.0, vote=True, choice=True, reached=True),
        asked(gate="unanimous", lead=1.0, vote=True, choice=True, reached=True, choosing_tokens=0),
    ]
    found = {gate.margin: gate for gate in gates(rows, (0.3, 0.8, 1.0))}
    assert [(gate.accuracy, gate.saved) for gate in found.values()] == [
        (0.75, pytest.approx(2 / 3)), (1.0, pytest.approx(1 / 3)), (0.75, 0.0),
    ]  # fmt: skip
    assert best_margin([rows], (0.3, 0.8, 1.0)) == 0.3, "of those that cost nothing against asking always"
    hurting = [asked(lead=0.2, vote=False, choice=True, reached=True)] * 3
    assert best_margin([rows, hurting], (0.1, 0.2, 0.3)) == 0.3, "one margin, that costs no cohort anything"
    assert best_margin([hurting], (0.1,)) == 1.0, "what closes nothing is always free"
    assert [gate.saved for gate in gates(hurting, [1.0])] == [0.0]
    with pytest.raises(ValueError, match="set margin to null"):
        gates([asked(gate="margin")])


def test_risk_and_coverage():
    rows = [asked(confidence=0.9, choice=True), asked(confidence=0.9), *[asked(confidence=0.1)] * 2]
    assert risk_coverage(rows, (0.25, 0.5, 1.0)) == {0.25: 0.5, 0.5: 0.5, 1.0: 0.25}
    assert risk_coverage([], (0.5,)) == {0.5: 0.0}


@given(st.integers(0, 999), st.integers(0, 999))
def test_a_harmonic_mean_is_2bn_over_b_plus_n(one: int, other: int):
    base, novel = some(one), some(other, 25)
    b, n = (sum(row.choice for row in rows) / len(rows) for rows in (base, novel))
    found = harmonic(base, novel, RUNGS["two steps"])
    assert found.of_means == found.mean_of == pytest.approx(2 * b * n / (b + n) if b + n else 0.0)
    assert min(b, n) - 1e-9 <= found.of_means <= (b + n) / 2 + 1e-9
    assert found.joint == pytest.approx((40 * b + 25 * n) / 65)


def test_both_harmonic_means():
    def rows(right: int, n: int, dataset: str) -> list[Asked]:
        return [asked(choice=k < right, dataset=dataset) for k in range(n)]

    base = rows(8, 10, "cars") + rows(6, 10, "pets")
    novel = rows(4, 10, "cars") + rows(9, 10, "pets")
    found = harmonic(base, novel, RUNGS["two steps"])
    assert found.of_means == pytest.approx(2 * 0.7 * 0.65 / 1.35)
    assert found.mean_of == pytest.approx((2 * 0.8 * 0.4 / 1.2 + 2 * 0.6 * 0.9 / 1.5) / 2)
    assert found.joint == pytest.approx(27 / 40)
    assert found.low < found.of_means < found.high
    assert harmonic(base, [], RUNGS["vote"]).of_means == 0
    one = harmonic(base[:10], novel[:10], RUNGS["two steps"])
    assert one.of_means == pytest.approx(one.mean_of)
