import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from toy_answers import BINS, answered

from fgvr.metrics import (
    INTERVALS,
    PARSE_FAILURE,
    SPECIFICITY_WEIGHTS,
    UNJUDGED,
    VERDICT_FIGURES,
    VerdictHistogram,
    summary,
    verdict_values,
)
from fgvr.metrics.verdicts import resampled
from fgvr.rewards.specificity import best_in_group
from fgvr.types import Verdict

VERDICTS = st.lists(st.sampled_from(BINS), max_size=40)


def histogram(verdicts: Sequence[int], several: int = 0, **options) -> dict[str, float]:
    metric = VerdictHistogram(**options)
    metric.update(torch.tensor(verdicts, dtype=torch.long), several)
    return metric.compute()


def test_histogram_by_hand() -> None:
    figures = histogram([-2, -1, 0, 1, 2, 3, 3, 4, 4, 5], several=1)
    # n = 10; correct are G, S-, S-, S, S, S+: 6 of 10.
    # Their weights: 1/3 + 2 * 2/3 + 2 * 1 + 1 = 14/3; over 6: 7/9; over 10: 7/15.
    # Harmonic mean: 2 * 3/5 * 7/9 / (3/5 + 7/9) = (14/15) / (62/45) = 21/31.
    assert {name: value for name, value in figures.items() if not name.endswith(("_low", "_high"))} == pytest.approx(
        {
            "n": 10,
            "correctness": 0.6,
            "specificity": 7 / 9,
            "harmonic_mean": 21 / 31,
            "validation_reward": 7 / 15,
            "unjudged": 0.1,
            "parse_failures": 0.1,
            "wrong": 0.1,
            "abstain": 0.1,
            "generic": 0.1,
            "less_specific": 0.2,
            "specific": 0.2,
            "more_specific": 0.1,
            "several": 0.1,
        }
    )


def test_what_stands_for_no_verdict_is_told_apart() -> None:
    entries = [answered(value) for value in BINS]
    assert verdict_values(entries).tolist() == BINS == [UNJUDGED, PARSE_FAILURE, *Verdict]


def test_other_weights_change_specificity_and_the_reward_alone() -> None:
    # G, S-, S, W with weights 0, 0.6, 1: specificity (0 + 0.6 + 1) / 3, reward 1.6 / 4.
    figures = histogram([2, 3, 4, 0], weights=(0.0, 0.6, 1.0, 1.0))
    assert figures["specificity"] == pytest.approx(1.6 / 3)
    assert figures["validation_reward"] == pytest.approx(0.4)
    assert figures["correctness"] == 0.75
    for bad in ((1.0,), (0, 0, 0, 1.5), (-0.1, 0, 0, 0)):
        with pytest.raises(ValueError, match="four weights"):
            VerdictHistogram(bad)


@pytest.mark.parametrize("value", [UNJUDGED, PARSE_FAILURE, Verdict.WRONG, Verdict.ABSTAIN])
def test_a_model_that_is_never_correct_scores_nothing(value: int) -> None:
    figures = histogram([int(value)] * 5)
    assert {figures[f"{name}{end}"] for name in INTERVALS for end in ("", "_low", "_high")} == {0}
    assert figures["validation_reward"] == 0
    assert figures[VERDICT_FIGURES[int(value) - UNJUDGED]] == 1


@given(VERDICTS)
def test_whoever_is_ever_correct_beats_one_who_always_abstains(verdicts: list[int]) -> None:
    abstainer = histogram([int(Verdict.ABSTAIN)] * len(verdicts))["validation_reward"]
    reward = histogram(verdicts)["validation_reward"]
    assert abstainer == 0
    assert (reward > abstainer) == any(verdict >= Verdict.GENERIC for verdict in verdicts)


def test_the_training_reward_would_let_the_abstainer_win() -> None:
    """The trap: of groups of one, each reply is its own best, and 1 is the most there is."""
    abstainer = [best_in_group([Verdict.ABSTAIN])[0] for _ in range(4)]
    learner = [best_in_group([verdict])[0] for verdict in (Verdict.SPECIFIC, Verdict.SPECIFIC, Verdict.WRONG)]
    assert abstainer == [1, 1, 1, 1]
    assert learner == [1, 1, 0]
    assert histogram([Verdict.ABSTAIN] * 4)["validation_reward"] == 0
    assert histogram([Verdict.SPECIFIC] * 2 + [Verdict.WRONG])["validation_reward"] == pytest.approx(2 / 3)


@given(VERDICTS, st.integers(0, 39), st.sampled_from(list(Verdict)))
def test_a_better_verdict_never_lowers_the_reward(verdicts: list[int], place: int, verdict: Verdict) -> None:
    better = [max(one, int(verdict)) if n == place else one for n, one in enumerate(verdicts)]
    assert histogram(better)["validation_reward"] >= histogram(verdicts)["validation_reward"] - 1e-12


@given(VERDICTS)
def test_shares_add_up_and_the_harmonic_mean_lies_between(verdicts: list[int]) -> None:
    figures = histogram(verdicts)
    low, high = sorted((figures["correctness"], figures["specificity"]))
    assert low - 1e-12 <= figures["harmonic_mean"] <= high + 1e-12
    assert figures["validation_reward"] == pytest.approx(figures["correctness"] * figures["specificity"])
    shares = [figures[name] for name in VERDICT_FIGURES]
    assert sum(shares) == pytest.approx(1 if verdicts else 0)
    assert sum(shares[4:]) == pytest.approx(figures["correctness"])


@given(VERDICTS)
def test_intervals_lie_in_the_unit_range_and_say_the_same_each_time(verdicts: list[int]) -> None:
    figures, again = histogram(verdicts), histogram(verdicts[::-1])
    for name in INTERVALS:
        assert 0 <= figures[f"{name}_low"] <= figures[f"{name}_high"] <= 1
        assert figures[f"{name}_low"] == again[f"{name}_low"]
    if len(set(verdicts)) == 1:  # every resample is the same
        assert {figures[f"correctness_{end}"] for end in ("low", "high")} == {figures["correctness"]}


@pytest.mark.parametrize(("n", "correct"), [(40, 30), (400, 60), (1000, 1000)])
def test_the_interval_of_correctness_is_that_of_resampled_photos(n: int, correct: int) -> None:
    """Resampled with replacement, the number of correct answers is binomial: its own quantiles are known."""
    figures = histogram([4] * correct + [0] * (n - correct))
    share = correct / n
    chances = [math.comb(n, k) * share**k * (1 - share) ** (n - k) for k in range(n + 1)]
    for end, below in (("low", 0.025), ("high", 0.975)):
        exact = next(k for k in range(n + 1) if sum(chances[: k + 1]) >= below) / n
        # 1,000 resamples know a quantile of the tail to about a tenth of a standard deviation
        assert figures[f"correctness_{end}"] == pytest.approx(
            exact, abs=1 / n + 0.2 * math.sqrt(share * (1 - share) / n)
        )


def test_the_bootstrap_resamples_the_photos() -> None:
    """The slow twin draws photos, not counts: both give the same distribution of each figure."""
    photos = np.array([0, 0, 0, 1, 2, 2, 3, 4, 4, 4, 4, 5, -1, -2] * 5)
    counts = np.bincount(photos - UNJUDGED, minlength=8)
    fast = resampled(counts, SPECIFICITY_WEIGHTS, 0)
    rng = np.random.default_rng(1)
    drawn = [np.bincount(rng.choice(photos, len(photos)) - UNJUDGED, minlength=8) for _ in range(1000)]
    slow = summary(np.array(drawn, dtype=np.float64), SPECIFICITY_WEIGHTS)
    for name in INTERVALS:
        spread = float(np.std(slow[name]))
        assert abs(np.mean(fast[name]) - np.mean(slow[name])) < 5 * spread * math.sqrt(2 / 1000)
        assert np.std(fast[name]) == pytest.approx(spread, rel=0.12)


@given(st.lists(VERDICTS, min_size=1, max_size=4))
def test_many_histograms_are_summed_up_at_once_as_one_by_one(several: list[list[int]]) -> None:
    counts = np.array([np.bincount(np.array(one, dtype=int) - UNJUDGED, minlength=8) for one in several], dtype=float)
    together = summary(counts, SPECIFICITY_WEIGHTS)
    for row, verdicts in enumerate(several):
        alone = histogram(verdicts)
        assert {name: values[row] for name, values in together.items()} == {name: alone[name] for name in together}
