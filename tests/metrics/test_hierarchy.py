from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy_answers import ANSWERS, BIRDS, JUDGE, example, judged

from fgvr.judges.base import Judged
from fgvr.metrics import CohortScores
from fgvr.metrics.hierarchy import Hierarchy, stated_ranks
from fgvr.types import Answer

# Songbirds > Finches > Ruby, Ash; Songbirds > Wrens > Barred; Ratites > Emu (a short path)


def figures(*entries: Judged) -> dict[str, float]:
    metric = Hierarchy(BIRDS)
    metric.update(entries)
    return metric.compute()


def thought_through(label: str, thought: str, answer: str) -> Judged:
    (judgement,) = JUDGE.verdicts([(label, answer)])
    return Judged(example(label), "", Answer(answer, thought), judgement)


def test_precision_and_recall_by_hand() -> None:
    found = figures(
        judged("Ruby", "Ruby"),  # answer {Songbirds, Finches, Ruby}, label the same: 3 in common of 3 and 3
        judged("Ruby", "Ash"),  # {Songbirds, Finches, Ash}: 2 of 3, 3
        judged("Ruby", "finches"),  # {Songbirds, Finches}: 2 of 2, 3
        judged("Ruby", "Barred"),  # {Songbirds, Wrens, Barred}: 1 of 3, 3
        judged("Barred", "Emu"),  # {Ratites, Emu}: 0 of 2, 3
        judged("Emu", "Emu"),  # 2 of 2, 2
        judged("Emu", "dodo"),  # names no node: 0 of 0, 2
        judged("Emu", None),  # did not parse: 0 of 0, 2
    )
    # in common 3+2+2+1+0+2 = 10; answers 3+3+2+3+2+2 = 15; labels 3+3+3+3+3+2+2+2 = 21; right at every rank 2 of 8
    assert found["hierarchical_precision"] == pytest.approx(10 / 15)
    assert found["hierarchical_recall"] == pytest.approx(10 / 21)
    assert found["hca"] == pytest.approx(2 / 8)
    assert found["contradicted"] == 0


def test_a_right_name_with_a_wrong_rank_before_it_is_not_consistent() -> None:
    found = figures(
        thought_through("Ruby", "Order: Songbirds. Family: Finches. Species: Ruby.", "Ruby"),
        thought_through("Ruby", "Order: Songbirds. Family: Wrens. Species: Ruby.", "Ruby"),
        thought_through("Ruby", "Order: Ratites. Family: finches.", "Ruby"),
        thought_through("Ruby", "A red one.", "Ruby"),  # states no rank
        thought_through("Ruby", "Order: Songbirds. Family: Finches.", "Ash"),  # every stated rank right, the name not
    )
    # right at every rank: the first and the fourth of five; right names with a wrong rank: the second and the third
    assert found["hca"] == pytest.approx(2 / 5)
    assert found["contradicted"] == pytest.approx(2 / 5)


def test_ranks_are_read_where_they_are_stated() -> None:
    assert stated_ranks("Order: Songbirds. Family: St. Finch.\nspecies : Ruby", BIRDS) == {
        "order": "Songbirds",
        "family": "St. Finch",
        "species": "Ruby",
    }
    assert stated_ranks("The suborder: none. Family: Wrens. No, family: Finches.", BIRDS) == {"family": "Finches"}
    assert stated_ranks("", BIRDS) == {}


def test_nothing_is_zero() -> None:
    assert set(figures().values()) == {0.0}
    assert figures(judged("Ruby", None))["hierarchical_precision"] == 0


@given(st.lists(st.tuples(st.sampled_from(sorted(BIRDS.paths)), st.sampled_from(ANSWERS)), max_size=12), st.randoms())
def test_permuted_batches_give_the_same_bits(pairs: list[tuple[str, str | None]], rng: random.Random) -> None:
    entries = [judged(*pair) for pair in pairs]
    whole, parts = CohortScores(BIRDS), CohortScores(BIRDS)
    whole.update(entries)
    rng.shuffle(entries)
    for entry in entries:
        parts.update([entry])
    assert whole.figures() == parts.figures()
    named = {name: whole.figures()[name] for name in ("hierarchical_precision", "hierarchical_recall", "hca")}
    assert all(0 <= value <= 1 for value in named.values())
    assert (named["hierarchical_recall"] == 1) == (named["hca"] == 1)  # no answer of these lies below a label
