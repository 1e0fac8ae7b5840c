import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fgvr.errors import UserError
from fgvr.objectives import Advantage, GroupFilter, group_advantages, informative, zero_variance

NAN = math.nan
SETTINGS = [("mean", "none"), ("mean", "sample"), ("mean", "population"), ("leave_one_out", "none")]
rewards_of_groups = st.integers(2, 6).flatmap(
    lambda size: st.lists(
        st.lists(st.one_of(st.integers(-8, 8).map(lambda n: n / 4), st.just(NAN)), min_size=size, max_size=size),
        min_size=1,
        max_size=4,
    )
)


def group(*rewards: float) -> torch.Tensor:
    return torch.tensor([rewards], dtype=torch.float64)


def slow_advantages(rewards: list[float], baseline: str, scale: str, eps: float) -> list[float]:
    present = [r for r in rewards if not math.isnan(r)]
    if len(present) < 2:
        return [0.0] * len(rewards)
    mean = sum(present) / len(present)
    squares = sum((r - mean) ** 2 for r in present)
    deviation = {"none": 1 - eps, "sample": (squares / (len(present) - 1)) ** 0.5, "population": 0.0}[scale]
    if scale == "population":
        deviation = (squares / len(present)) ** 0.5
    out = []
    for index, r in enumerate(rewards):
        others = [other for place, other in enumerate(rewards) if place != index and not math.isnan(other)]
        off = mean if baseline == "mean" else sum(others) / len(others)
        out.append(0.0 if math.isnan(r) else (r - off) / (deviation + eps))
    return out


@pytest.mark.parametrize(
    ("rewards", "scale", "expected"),
    [
        # mean 7.3 / 10 = 0.73; squares 7 * 0.27^2 + 3 * 0.63^2 = 1.701; sqrt(1.701 / 9) = 0.434741
        ([1.0] * 7 + [0.1] * 3, "sample", [0.62106] * 7 + [-1.44914] * 3),
        # mean 0.55; squares 10 * 0.45^2 = 2.025; sqrt(2.025 / 9) = 0.474342
        ([1.0] * 5 + [0.1] * 5, "sample", [0.948683] * 5 + [-0.948683] * 5),
        # the same without Bessel: sqrt(2.025 / 10) = 0.45, so exactly one deviation
        ([1.0] * 5 + [0.1] * 5, "population", [1.0] * 5 + [-1.0] * 5),
        # mean 0.4; squares 2 * 0.36 + 3 * 0.16 = 1.2; sqrt(1.2 / 4) = 0.547723
        ([1, 1, 0, 0, 0], "sample", [1.0954, 1.0954, -0.7303, -0.7303, -0.7303]),
        ([1, 1, 0, 0, 0], "none", [0.6, 0.6, -0.4, -0.4, -0.4]),
        # mean 0.2; squares 0.64 + 4 * 0.04 = 0.8; sqrt(0.8 / 4) = 0.447214
        ([1, 0, 0, 0, 0], "sample", [1.7889, -0.4472, -0.4472, -0.4472, -0.4472]),
        # a penalty of -1 lifts the wrong answers: mean -0.2
        ([0, 0, 0, 0, -1], "sample", [0.4472, 0.4472, 0.4472, 0.4472, -1.7889]),
        # ... and no longer does when it is a missing reward instead
        ([0, 0, 0, 0, NAN], "sample", [0, 0, 0, 0, 0]),
        # mean 0; squares 2; sqrt(2 / 4) = 0.707107
        ([1, -1, 0, 0, 0], "sample", [1.4142, -1.4142, 0, 0, 0]),
        # the missing one apart: mean (3 + 1) / 2 = 2; squares 2; sqrt(2 / 1) = 1.414214
        ([3, NAN, 1], "sample", [0.7071, 0, -0.7071]),
    ],
)
def test_by_hand(rewards, scale, expected):
    out = group_advantages(group(*rewards), scale=scale, eps=1e-6)
    torch.testing.assert_close(out, group(*expected), rtol=0, atol=6e-5)


def test_leave_one_out_by_hand():
    # 4 - (1 + 1) / 2 = 3; 1 - (4 + 1) / 2 = -1.5; the missing one is nobody's other
    out = group_advantages(group(4, 1, NAN, 1), baseline="leave_one_out", scale="none")
    torch.testing.assert_close(out, group(3, -1.5, 0, -1.5))


def test_eps_is_added_to_the_deviation():
    # mean 1, deviation sqrt(2 / 1) = 1.4142..., so 1 / (1.4142 + 0.5) = 0.52240
    torch.testing.assert_close(group_advantages(group(2, 0), eps=0.5), group(0.52240, -0.52240), rtol=0, atol=1e-5)


def test_equal_rewards_give_exact_zeros():
    # in float32 the mean of 0.9 three times is 0.9 - 6e-8, which a small eps would blow up
    rewards = torch.tensor([[0.9] * 3])
    assert bool((rewards != rewards.sum() / 3).any())
    for baseline, scale in SETTINGS:
        assert group_advantages(rewards, baseline=baseline, scale=scale, eps=1e-12).tolist() == [[0.0] * 3]  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("rewards", [[NAN, NAN, NAN], [NAN, 5.0, NAN]])
def test_a_group_without_comparison_is_worth_nothing(rewards):
    for baseline, scale in SETTINGS:
        assert group_advantages(group(*rewards), baseline=baseline, scale=scale).tolist() == [[0.0] * 3]  # pyright: ignore[reportArgumentType]


@given(rewards=rewards_of_groups, setting=st.sampled_from(SETTINGS))
def test_equals_the_plain_loop(rewards, setting):
    out = group_advantages(torch.tensor(rewards, dtype=torch.float64), baseline=setting[0], scale=setting[1])
    slow = torch.tensor([slow_advantages(row, *setting, eps=1e-4) for row in rewards], dtype=torch.float64)
    torch.testing.assert_close(out, slow, rtol=1e-9, atol=1e-9)


@given(rewards=rewards_of_groups, setting=st.sampled_from(SETTINGS), shift=st.integers(-20, 20), data=st.data())
def test_sums_to_zero_whatever_the_offset_and_follows_the_order(rewards, setting, shift, data):
    tensor, options = torch.tensor(rewards, dtype=torch.float64), {"baseline": setting[0], "scale": setting[1]}
    out = group_advantages(tensor, **options)
    torch.testing.assert_close(out.sum(-1), torch.zeros(len(rewards), dtype=torch.float64), rtol=0, atol=1e-9)
    torch.testing.assert_close(group_advantages(tensor + shift, **options), out, rtol=1e-9, atol=1e-9)
    order = torch.tensor(data.draw(st.permutations(range(tensor.shape[1]))))
    torch.testing.assert_close(group_advantages(tensor[:, order], **options), out[:, order], rtol=1e-9, atol=1e-9)
    assert bool((out[tensor.isnan()] == 0).all())


@given(rewards=rewards_of_groups, factor=st.integers(1, 50), scale=st.sampled_from(["sample", "population"]))
def test_a_scaled_advantage_has_no_unit(rewards, factor, scale):
    tensor = torch.tensor(rewards, dtype=torch.float64)
    out, times = (group_advantages(r, scale=scale, eps=1e-12) for r in (tensor, tensor * factor))
    torch.testing.assert_close(times, out, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("baseline", "share"), [("leave_one_out", 1.0), ("mean", 2 / 3)])
def test_the_expected_policy_gradient(baseline, share):
    # over all 4^3 groups of 3 draws from 4 answers: leave-one-out gives the gradient of the expected reward, the
    # group's own mean (G - 1) / G of it
    logits = torch.tensor([0.3, -1.0, 0.8, 0.1], dtype=torch.float64, requires_grad=True)
    rewards = torch.tensor([1.0, 0.0, 0.25, -2.0], dtype=torch.float64)
    draws = torch.tensor(list(itertools.product(range(4), repeat=3)))
    logp = logits.log_softmax(-1)
    chance = logp.detach()[draws].sum(-1).exp()
    advantages = group_advantages(rewards[draws], baseline=baseline, scale="none")
    estimate = torch.autograd.grad((chance * (advantages * logp[draws]).mean(-1)).sum(), logits)[0]
    truth = torch.autograd.grad((logits.softmax(-1) * rewards).sum(), logits)[0]
    torch.testing.assert_close(estimate, share * truth, rtol=1e-10, atol=1e-12)


def test_a_missing_reward_leaks_into_no_gradient():
    rewards = group(1, NAN, 0).requires_grad_()
    group_advantages(rewards, baseline="leave_one_out", scale="none")[0, 0].backward()
    assert rewards.grad is not None
    assert rewards.grad.tolist() == [[1, 0, -1]]  # r_1 - r_3


def test_informative_by_hand():
    scores = torch.tensor([[0.0, 0, 0], [1, 1, 1], [1, 0, 1], [NAN, 1, 0], [NAN, 1, 1], [NAN, NAN, NAN]])
    assert informative(scores, 0.0, 1.0).tolist() == [False, False, True, True, False, False]
    # the means of the third and fourth are 0.667 and 0.5: the upper bound 0.5 itself is outside
    assert informative(scores, 0.01, 0.5).tolist() == [False] * 6


@given(rewards=rewards_of_groups)
def test_zero_variance_is_what_has_no_advantage(rewards):
    tensor = torch.tensor(rewards, dtype=torch.float64)
    assert zero_variance(tensor).tolist() == (group_advantages(tensor) == 0).all(-1).tolist()


@given(rewards=rewards_of_groups, data=st.data())
def test_a_group_is_judged_by_what_is_present_whatever_the_order(rewards, data):
    tensor = torch.tensor(rewards, dtype=torch.float64)
    present = [[r for r in row if not math.isnan(r)] for row in rewards]
    expected = [bool(row) and -1 < sum(row) / len(row) < 0.5 for row in present]
    order = torch.tensor(data.draw(st.permutations(range(tensor.shape[1]))))
    assert informative(tensor[:, order], -1.0, 0.5).tolist() == expected


def test_no_groups_give_no_advantages():
    assert group_advantages(torch.zeros(0, 4)).shape == (0, 4)


@pytest.mark.parametrize("function", [group_advantages, zero_variance, lambda r: informative(r, 0.0, 1.0)])
def test_infinite_rewards_are_refused(function):
    with pytest.raises(ValueError, match="must be finite"):
        function(torch.tensor([[0.0, math.inf]]))


@pytest.mark.parametrize("baseline", ["mean", "leave_one_out"])
def test_a_group_of_one_is_refused(baseline):
    with pytest.raises(ValueError, match="at least 2"):
        group_advantages(torch.zeros(3, 1), baseline=baseline, scale="none")


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"baseline": "leave_one_out"}, "is not scaled"),
        ({"baseline": "median"}, "mean or leave_one_out"),
        ({"scale": "std"}, "none, sample or population"),
        ({"eps": 0.0}, "above 0"),
        ({"eps": NAN}, "above 0"),
        ({"eps": math.inf}, "above 0"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        Advantage(**settings)


def test_the_function_refuses_what_its_settings_refuse():
    with pytest.raises(ValueError, match="is not scaled"):
        group_advantages(torch.zeros(1, 2), baseline="leave_one_out")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"low": 1.0}, "below its high"),
        ({"high": NAN}, "below its high"),
        ({"max_tries": 0}, "at least one try"),
    ],
)
def test_a_filter_that_lets_nothing_through_is_refused(settings, message):
    with pytest.raises(UserError, match=message):
        GroupFilter(**settings)
