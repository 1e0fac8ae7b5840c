import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scripted import TAXONOMY

from fgvr.errors import UserError
from fgvr.judges import Judge, Judgement, TaxonomyJudge, Unjudged
from fgvr.objectives import group_advantages
from fgvr.rewards import AnsweredGroup, Specificity, SpecificityReward, Term, WeightedSum
from fgvr.rewards.specificity import LADDERS, STEPS, anchor, best_in_group, noisy, on_ladder
from fgvr.types import Answer, Example, Verdict

W, A, G, L, S, M = Verdict
PF = None


class Spoken(Judge):
    """Answers are verdicts by name; "?" cannot be judged."""

    def verdicts(self, pairs):
        return [Unjudged("asked for") if said == "?" else Judgement(Verdict[said]) for _, said in pairs]


def group(*verdicts: Verdict | str | None, uid: str = "u", texts: Sequence[str] | None = None) -> AnsweredGroup:
    said = [None if v is None else Answer(v if isinstance(v, str) else v.name) for v in verdicts]
    replies = list(texts or [f"{n}: {answer and answer.text}" for n, answer in enumerate(said)])
    example = Example(uid, (b"",), "Azure Finch", ("Finch", "Azure Finch"), "train", "seen", "birds")
    return AnsweredGroup(example, replies, said, [3] * len(said), [False] * len(said))


def scored(settings: Specificity, *verdicts: Verdict | str | None) -> list[float | None]:
    return SpecificityReward(Spoken(), settings).score([group(*verdicts)])[0]


# The fact sheet's table, as released: (r - mean) / (sample std + 1e-6), and r - mean. By hand, the first: mean 2/5, the
# squares of .6, .6, -.4, -.4, -.4 sum to 1.2, / 4, root .54772; .6 / .54772 = 1.0954 and -.4 / .54772 = -.7303.
TABLE = [
    ((S, M, G, W, W), (1, 1, 0, 0, 0), (1.0954, 1.0954, -0.7303, -0.7303, -0.7303), (0.6, 0.6, -0.4, -0.4, -0.4)),
    ((G, G, W, A, W), (1, 1, 0, 0, 0), (1.0954, 1.0954, -0.7303, -0.7303, -0.7303), (0.6, 0.6, -0.4, -0.4, -0.4)),
    ((A, W, W, W, W), (1, 0, 0, 0, 0), (1.7889, -0.4472, -0.4472, -0.4472, -0.4472), (0.8, -0.2, -0.2, -0.2, -0.2)),
    ((W, W, W, W, W), (0, 0, 0, 0, 0), (0, 0, 0, 0, 0), (0, 0, 0, 0, 0)),
    ((W, W, W, W, PF), (0, 0, 0, 0, -1), (0.4472, 0.4472, 0.4472, 0.4472, -1.7889), (0.2, 0.2, 0.2, 0.2, -0.8)),
    ((L, L, L, L, L), (1, 1, 1, 1, 1), (0, 0, 0, 0, 0), (0, 0, 0, 0, 0)),
    ((S, PF, L, G, A), (1, -1, 0, 0, 0), (1.4142, -1.4142, 0, 0, 0), (1, -1, 0, 0, 0)),
    ((PF, PF, PF, PF, PF), (-1, -1, -1, -1, -1), (0, 0, 0, 0, 0), (0, 0, 0, 0, 0)),
]


@pytest.mark.parametrize(("verdicts", "rewards", "scaled", "centred"), TABLE)
def test_the_rewards_and_advantages_of_the_released_code(verdicts, rewards, scaled, centred):
    found = scored(Specificity(unparsable="minus_one"), *verdicts)
    assert found == [float(reward) for reward in rewards]
    given_ = torch.tensor([found])
    torch.testing.assert_close(
        group_advantages(given_, eps=1e-6)[0], torch.tensor(scaled, dtype=torch.float32), atol=5e-5, rtol=0
    )
    torch.testing.assert_close(
        group_advantages(given_, scale="none")[0], torch.tensor(centred, dtype=torch.float32), atol=1e-6, rtol=0
    )


@pytest.mark.parametrize(("verdict", "expected"), [(A, 1.0), (G, 1.0), (S, 1.0), (W, 0.0)])
def test_an_answer_by_itself_is_its_own_best(verdict, expected):
    """Which is why this reward says nothing of a validation with one answer a photo."""
    assert best_in_group([verdict]) == [expected]


@pytest.mark.parametrize(
    ("verdicts", "rewards", "apart"),
    [
        # one of five did not parse: the others are compared among themselves, it is pushed down by 4/5
        ((W, W, W, W, PF), (0, 0, 0, 0, None), (0, 0, 0, 0, -0.8)),
        ((S, PF, L, PF, A), (1, None, 0, None, 0), (0, -0.6, 0, -0.6, 0)),
        ((PF, PF, PF, PF, PF), (None,) * 5, (0, 0, 0, 0, 0)),
        ((S, W, W, W, W), (1, 0, 0, 0, 0), (0, 0, 0, 0, 0)),
    ],
)
def test_by_default_unparsable_replies_stand_apart(verdicts, rewards, apart):
    reward = SpecificityReward(Spoken())
    assert reward.score([group(*verdicts)]) == [list(rewards)]
    assert reward.own_advantages([group(*verdicts)]) == [pytest.approx(list(apart))]
    doubled = SpecificityReward(Spoken(), Specificity(penalty=2.0)).own_advantages([group(*verdicts)])
    assert doubled == [pytest.approx([2 * value for value in apart])]
    assert SpecificityReward(Spoken(), Specificity(unparsable="minus_one")).own_advantages([group(*verdicts)]) == [
        [0.0] * 5
    ]


def test_no_wrong_answer_is_lifted_by_a_reply_that_did_not_parse():
    scores = WeightedSum({"specificity": Term(SpecificityReward(Spoken()))}).judge([group(W, W, W, W, PF)])
    assert (group_advantages(scores.totals[0][None])[0] + scores.own_advantages[0]).tolist() == pytest.approx(
        [0, 0, 0, 0, -0.8]
    )


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("binary", (1, 1, 0, 0, 0, 0)),
        ("scala1", (1, 1, 0.75, 0.5, 0.25, 0)),
        ("scala2", (1, 1, 0.75, 0.5, 0, 0)),
        ("scala3", (1, 1, 0.75, 0, 0, 0)),
        ("correct", (1, 1, 1, 1, 0, 0)),
    ],
)
def test_ladders(rule, expected):
    assert scored(Specificity(rule=rule), M, S, L, G, A, W) == [float(value) for value in expected]
    assert scored(Specificity(rule=rule, unparsable="minus_one"), PF) == [-1.0]


def test_the_quantile_anchor_by_hand():
    verdicts = [S, L, L, G, W, W, W, W]
    # reached by one: S; by two or three: less specific (S reaches it too); by four: generic; by five: all wrong
    assert [anchor(verdicts, k) for k in (1, 2, 3, 4, 5)] == [S, L, L, G, W]
    assert best_in_group(verdicts, reached_by=2) == [1, 1, 1, 0, 0, 0, 0, 0]
    assert best_in_group(verdicts, reached_by=4) == [1, 1, 1, 1, 0, 0, 0, 0]
    assert best_in_group(verdicts, reached_by=5) == [0] * 8
    assert anchor([M, S, None], reached_by=5) == S  # two answers: both must reach it
    assert anchor([None, None]) == W


def test_abstaining_can_be_kept_from_being_the_best():
    assert best_in_group([A, W, W]) == [1, 0, 0]
    assert best_in_group([A, W, W], abstention=False) == [0, 0, 0]
    assert best_in_group([G, A, W], abstention=False) == [1, 0, 0]


def test_a_group_with_an_unjudged_answer_has_no_scores():
    rows = SpecificityReward(Spoken()).score([group(S, "?", W), group(S, W, W)])
    assert rows == [[None] * 3, [1, 0, 0]]


verdict_or_none = st.one_of(st.none(), st.sampled_from(Verdict))
groups = st.lists(verdict_or_none, min_size=1, max_size=12)


@given(groups, st.integers(1, 12), st.randoms(use_true_random=False))
def test_order_within_the_group_does_not_matter(verdicts, reached_by, rng):
    order = rng.sample(range(len(verdicts)), len(verdicts))
    straight = best_in_group(verdicts, reached_by)
    assert best_in_group([verdicts[n] for n in order], reached_by) == [straight[n] for n in order]


@given(groups, st.integers(1, 12))
def test_a_better_verdict_never_earns_less_and_never_above_one(verdicts, reached_by):
    rows = [(v, r) for v, r in zip(verdicts, best_in_group(verdicts, reached_by), strict=True) if v is not None]
    for verdict, reward in rows:
        assert reward is not None
        assert reward in (0.0, 1.0)
        assert all(other is not None and other >= reward for better, other in rows if better >= verdict)
        assert verdict != W or reward == 0
    assert anchor(verdicts, reached_by + 1) <= anchor(verdicts, reached_by)


@given(groups, st.integers(1, 12))
def test_enough_replies_reach_what_is_asked(verdicts, reached_by):
    judged = [verdict for verdict in verdicts if verdict is not None]
    best = anchor(verdicts, reached_by)
    assert sum(verdict >= best for verdict in judged) >= min(reached_by, len(judged))
    if best < S and judged:  # and no better verdict is reached by as many
        assert sum(verdict > best for verdict in judged) < min(reached_by, len(judged))


@given(groups, st.sampled_from(sorted(LADDERS)))
def test_a_ladder_looks_at_no_one_else(verdicts, name):
    alone = [on_ladder([verdict], LADDERS[name])[0] for verdict in verdicts]
    assert on_ladder(verdicts, LADDERS[name]) == alone
    assert list(LADDERS[name]) == sorted(LADDERS[name])


def test_permuting_the_batch_leaves_every_reward_as_it_was():
    rng, settings = random.Random(0), Specificity(noise=0.3, reached_by=2)
    made = [group(*rng.choices([*Verdict, None], k=6), uid=f"u{n}") for n in range(40)]
    straight = SpecificityReward(Spoken(), settings).score(made)
    order = rng.sample(range(40), 40)
    assert SpecificityReward(Spoken(), settings).score([made[n] for n in order]) == [straight[n] for n in order]
    alone = [SpecificityReward(Spoken(), settings).score([one])[0] for one in made]
    assert alone == straight
    turned = [
        AnsweredGroup(one.example, one.texts[::-1], one.answers[::-1], one.lengths[::-1], one.truncated[::-1])
        for one in made
    ]
    assert SpecificityReward(Spoken(), settings).score(turned) == [row[::-1] for row in straight]


def test_noise_moves_one_step_as_often_as_it_says():
    rng = random.Random(0)
    moved = Counter(noisy(L, 0.25, rng) for _ in range(20_000))
    assert set(moved) == {L, S, G}
    # of 20,000 a quarter is moved: 5,000 +- 61 (one deviation of the binomial), half of them either way: 2,500 +- 47
    assert abs(moved[S] + moved[G] - 5000) < 300
    assert abs(moved[S] - moved[G]) < 300
    assert {noisy(M, 1.0, random.Random(n)) for n in range(20)} == {L}
    assert {noisy(W, 1.0, random.Random(n)) for n in range(20)} == {A}
    assert all(noisy(verdict, 0.0, rng) == verdict for verdict in Verdict)
    for verdict in STEPS:
        assert {abs(STEPS.index(noisy(verdict, 1.0, random.Random(n))) - STEPS.index(verdict)) for n in range(9)} == {1}


def test_the_same_answer_twice_in_a_group_has_noise_of_its_own():
    same = group(*[L] * 64, texts=["<answer>finch</answer>"] * 64)
    (row,) = SpecificityReward(Spoken(), Specificity(rule="scala1", noise=0.25)).score([same])
    assert 4 < sum(score != 0.75 for score in row) < 32


def test_noise_is_drawn_anew_in_each_epoch():
    reward = SpecificityReward(Spoken(), Specificity(rule="scala1", noise=0.25))
    rows = [reward.score([replace(group(*[L] * 32), epoch=epoch)])[0] for epoch in (0, 0, 1)]
    assert rows[0] == rows[1] != rows[2]


def test_what_was_seen_is_counted_and_asked_for_once():
    reward = SpecificityReward(TaxonomyJudge()).bind(TAXONOMY)
    example = Example("u", (b"",), "Azure Finch", ("Finch", "Azure Finch"), "train", "seen", "birds")
    said = [Answer("Finch"), Answer("Azure Finch or Jade Owl"), None]
    reward.score([AnsweredGroup(example, ["", "", ""], said, [1, 1, 1], [False] * 3)])
    found = reward.tally()
    assert {name: count for name, count in found.items() if count} == {
        "verdicts/less_specific": 1, "verdicts/wrong": 1, "verdicts/parse_failures": 1, "anchors/less_specific": 1,
        "judge/several": 1,
    }  # fmt: skip
    assert found["verdicts/abstain"] == found["anchors/wrong"] == 0
    assert reward.tally() == {}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rule": "best"}, "best_in_group or one of"),
        ({"reached_by": 0}, "at least 1"),
        ({"unparsable": "zero"}, "apart or minus_one"),
        ({"penalty": float("nan")}, "0 or more"),
        ({"noise": 1.5}, "from 0 to 1"),
    ],
)
def test_settings_are_checked(change, message):
    with pytest.raises(UserError, match=message):
        Specificity(**change)


def test_a_group_is_told_its_verdicts_as_they_were_judged_before_any_noise() -> None:
    judged = group(S, W, PF)
    SpecificityReward(Spoken(), Specificity(noise=1.0)).score([judged])
    assert judged.verdicts == [S, W, PF]
    lost = group(S, "?")
    SpecificityReward(Spoken()).score([lost])
    assert lost.verdicts == [], "a group that could not be judged whole has none"
