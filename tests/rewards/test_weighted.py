import logging
import math
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jsonargparse import ArgumentError, ArgumentParser

from fgvr.data.tasks import parse_completion
from fgvr.errors import UserError
from fgvr.rewards import AnsweredGroup, Exact, Format, Reward, Term, WeightedSum
from fgvr.taxonomy.tree import Taxonomy
from fgvr.types import Example

BIRDS = Taxonomy.flat(["Robin", "Wren"], "bird")
YAML = """
reward:
  class_path: fgvr.rewards.WeightedSum
  init_args:
    terms:
      exact: {reward: {class_path: fgvr.rewards.Exact}, weight: 0.9}
      format: {reward: {class_path: fgvr.rewards.Format}, weight: 0.1}
      length: {reward: {class_path: fgvr.rewards.SoftLength, init_args: {limit: 64, buffer: 16}}}
"""


class Given(Reward):
    """The scores it was made with, whatever the groups."""

    def __init__(self, *scores: list[float | None]) -> None:
        self.scores = list(scores)

    def score(self, groups: Sequence[AnsweredGroup]) -> list[list[float | None]]:
        return self.scores


def replies(*texts: str, label: str = "Robin", uid: str = "a/1", cut: bool = False) -> AnsweredGroup:
    example = Example(uid, (b"",), label, (label,), "train", "seen", "a")
    answers = [parse_completion(text) for text in texts]
    return AnsweredGroup(example, list(texts), answers, [5] * len(texts), [cut] * len(texts))


def same(found: Sequence[torch.Tensor], expected: Sequence[Sequence[float]]) -> None:
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, torch.tensor(other, dtype=torch.float32), rtol=0, atol=0, equal_nan=True)


def test_the_released_weights_by_hand():
    # 0.9 * exact + 0.1 * format: right and whole 0.9 + 0.1 = 1.0; right and cut short 0.9 + 0 = 0.9;
    # wrong and whole 0 + 0.1 = 0.1; no answer tag 0 + 0 = 0
    reward = WeightedSum({"exact": Term(Exact(), 0.9), "format": Term(Format(), 0.1)}).bind(BIRDS)
    right, wrong = "<answer>a robin.</answer>", "<answer>Wren</answer>"
    scores = reward.judge([replies(right, wrong, "Robin"), replies(right, wrong, cut=True)])
    same(scores.components["exact"], [[1, 0, 0], [1, 0]])
    same(scores.components["format"], [[1, 1, 0], [0, 0]])
    same(scores.totals, [[1.0, 0.1, 0.0], [0.9, 0.0]])
    assert all(total.dtype == torch.float32 for total in scores.totals)
    assert (scores.missing, scores.faulty) == (0, 0)


def test_a_total_is_missing_where_a_weighted_component_is(caplog: pytest.LogCaptureFixture):
    # 2 * 1 + -1 * 0.5 = 1.5; the third term weighs nothing, so that its gaps cost nothing
    reward = WeightedSum(
        {
            "one": Term(Given([1.0, None], [1.0]), 2.0),
            "two": Term(Given([0.5, 0.5], [None]), -1.0),
            "shown": Term(Given([None, 7.0], [3.0]), 0.0),
        }
    )
    scores = reward.judge([replies("", ""), replies("")])
    nan = math.nan
    same(scores.totals, [[1.5, nan], [nan]])
    same(scores.components["shown"], [[nan, 7.0], [3.0]])
    assert (scores.missing, scores.faulty) == (3, 0)
    assert not caplog.records


def test_faulty_scores_are_missing_counted_apart_and_named_once(caplog: pytest.LogCaptureFixture):
    reward = WeightedSum(
        {
            "sound": Term(Given([1.0, 1.0, 1.0], [1.0, None])),
            "broken": Term(Given([math.nan, 1.0, -math.inf], [1e39, 0.0])),  # 1e39 is no float32
        }
    )
    with caplog.at_level(logging.WARNING, "fgvr.rewards.weighted"):
        scores = reward.judge([replies("", "", "", uid="a/1"), replies("", "", uid="a/2")])
    same(scores.totals, [[math.nan, 2.0, math.nan], [math.nan, math.nan]])
    assert (scores.missing, scores.faulty) == (1, 3)
    (record,) = caplog.records
    for fault in ("broken of a/1 is nan", "broken of a/1 is -inf", "broken of a/2 is 1e+39"):
        assert fault in record.getMessage()
    assert "more" not in record.getMessage()


def test_a_flood_of_faults_is_one_short_warning(caplog: pytest.LogCaptureFixture):
    scores = WeightedSum({"broken": Term(Given([math.inf] * 500))}).judge([replies(*[""] * 500)])
    assert scores.faulty == 500
    (record,) = caplog.records
    assert record.getMessage().endswith("and 495 more")
    assert len(record.getMessage()) < 300


def test_the_fault_of_a_weightless_component_spares_the_total():
    scores = WeightedSum({"one": Term(Given([1.0])), "shown": Term(Given([math.nan]), 0.0)}).judge([replies("")])
    same(scores.totals, [[1.0]])
    assert scores.faulty == 1


@pytest.mark.parametrize(
    ("returned", "sentence"),
    [
        ([[1.0, 1.0]], "the reward 'short' must score every group, got scores of 1 for 2"),
        ([[1.0, 1.0], [1.0], []], "the reward 'short' must score every group, got scores of 3 for 2"),
        ([[1.0], [1.0]], "the reward 'short' must score every completion of a/1, got 1 scores for 2 completions"),
        ([[1.0, 1.0], []], "the reward 'short' must score every completion of a/2, got 0 scores for 1 completions"),
    ],
)
def test_a_wrong_number_of_scores_is_refused(returned: list[list[float | None]], sentence: str):
    reward = WeightedSum({"short": Term(Given(*returned))})
    with pytest.raises(ValueError, match=sentence):
        reward.judge([replies("", "", uid="a/1"), replies("", uid="a/2")])


def test_no_groups_are_no_scores():
    scores = WeightedSum({"exact": Term(Exact())}).bind(BIRDS).judge([])
    assert (scores.components, scores.totals) == ({"exact": []}, [])


def test_binding_leaves_the_sum_as_it_was():
    reward = WeightedSum({"exact": Term(Exact())})
    reward.bind(BIRDS).judge([replies("")])
    with pytest.raises(ValueError, match=r"call bind\(taxonomy\)"):
        reward.judge([replies("")])


@pytest.mark.parametrize(
    ("terms", "sentence"),
    [
        ({}, "at least one term, got none"),
        ({"exact": Exact()}, "the term 'exact' must be a reward and its weight"),
        ({"exact": Term(print)}, "the term 'exact' must be a reward and its weight"),  # pyright: ignore[reportArgumentType]
        ({"exact": Term(Exact(), math.nan)}, "the weight of 'exact' must be a finite number, got nan"),
        ({"exact": Term(Exact(), -math.inf)}, "the weight of 'exact' must be a finite number, got -inf"),
        ({"exact": Term(Exact(), 0), "format": Term(Format(), 0)}, "but exact, format all weigh 0"),
    ],
)
def test_unusable_terms_are_refused(terms: dict[str, Term], sentence: str):
    with pytest.raises(UserError, match=sentence):
        WeightedSum(terms)


def test_a_groups_lists_must_agree():
    with pytest.raises(ValueError, match=r"a/1: .* one entry per completion, got \[2, 1, 2, 2\]"):
        AnsweredGroup(replies("").example, ["", ""], [None], [1, 1], [False, False])


def parser() -> ArgumentParser:
    parser = ArgumentParser(parser_mode="omegaconf", exit_on_error=False)
    parser.add_argument("--reward", type=WeightedSum)
    return parser


def test_a_config_builds_the_sum():
    config = parser().parse_string(YAML)
    reward = parser().instantiate(config).reward
    assert [(name, type(term.reward).__name__, term.weight) for name, term in reward.terms.items()] == [
        ("exact", "Exact", 0.9),
        ("format", "Format", 0.1),
        ("length", "SoftLength", 1.0),
    ]
    assert parser().instantiate(parser().parse_string(parser().dump(config))).reward.terms.keys() == reward.terms.keys()
    same(reward.bind(BIRDS).judge([replies("<answer>Robin</answer>")]).totals, [[1.0]])


def test_a_config_with_an_unknown_class_or_key_is_refused():
    for wrong in (YAML.replace("rewards.Exact", "rewards.Exakt"), YAML.replace("weight: 0.1", "wait: 0.1")):
        with pytest.raises(ArgumentError, match=r"Exakt|wait"):
            parser().parse_string(wrong)


SCORE = st.one_of(st.none(), st.floats(-5, 5, width=32), st.sampled_from([math.nan, math.inf]))


@given(
    rows=st.lists(st.tuples(SCORE, SCORE), min_size=1, max_size=6),
    weights=st.tuples(st.floats(-3, 3), st.floats(-3, 3)).filter(any),
    rng=st.randoms(use_true_random=False),
)
def test_totals_follow_their_completions(rows, weights, rng):
    def totals(rows: Sequence[tuple[float | None, float | None]]) -> torch.Tensor:
        terms = {str(i): Term(Given([row[i] for row in rows]), weights[i]) for i in range(2)}
        return WeightedSum(terms).judge([replies(*[""] * len(rows))]).totals[0]

    order = rng.sample(range(len(rows)), len(rows))
    same([totals([rows[i] for i in order])], [totals(rows)[order].tolist()])
    for row, total in zip(rows, totals(rows).tolist(), strict=True):
        weighted = [(score, weight) for score, weight in zip(row, weights, strict=True) if weight]
        had = all(score is not None and math.isfinite(score) for score, _ in weighted)
        assert math.isfinite(total) == had
        if had:
            assert total == pytest.approx(sum(weight * (score or 0) for score, weight in weighted), rel=1e-6, abs=1e-6)
