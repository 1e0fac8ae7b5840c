import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fgvr.errors import UserError
from fgvr.objectives import KL, KLEstimator, k1, k2, k3, kl_penalty
from fgvr.objectives.kl import ESTIMATORS

NAMES = ["k1", "k2", "k3"]
gaps = st.lists(st.floats(-30, 30), min_size=1, max_size=8)


def apart(gaps: list[float]) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probs that need a gradient, and those of a reference, `gaps` nats below them."""
    ref = torch.full((len(gaps),), -2.0, dtype=torch.float64)
    return (ref + torch.tensor(gaps, dtype=torch.float64)).requires_grad_(), ref


def two_policies(seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits of a policy over 6 tokens, its log-probs, and a reference's."""
    logits, ref = torch.randn(2, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    logits.requires_grad_()
    return logits, logits.log_softmax(-1), ref.log_softmax(-1)


def divergence(log_a: torch.Tensor, log_b: torch.Tensor) -> torch.Tensor:
    return (log_a.exp() * (log_a - log_b)).sum()


@pytest.mark.parametrize(
    ("gap", "values", "slopes"),
    [
        # d; d, d^2 / 2, e^-d - 1 + d; their slopes 1, d, 1 - e^-d
        (0.0, [0.0, 0.0, 0.0], [1.0, 0.0, 0.0]),
        (1.0, [1.0, 0.5, 0.367879], [1.0, 1.0, 0.632121]),
        (-1.0, [-1.0, 0.5, 0.718282], [1.0, -1.0, -1.718282]),
        (3.0, [3.0, 4.5, 2.049787], [1.0, 3.0, 0.950213]),
    ],
)
def test_by_hand(gap, values, slopes):
    for estimator, value, slope in zip((k1, k2, k3), values, slopes, strict=True):
        logp, ref = apart([gap])
        out = estimator(logp, ref)
        assert out.item() == pytest.approx(value, abs=1e-6)
        assert torch.autograd.grad(out.sum(), logp)[0].item() == pytest.approx(slope, abs=1e-6)


@pytest.mark.parametrize("estimator", [k1, k2, k3])
def test_gradcheck(estimator):
    logp, ref = apart([-2.0, -0.3, 0.0, 0.4, 5.0])
    assert torch.autograd.gradcheck(estimator, (logp, ref.requires_grad_()))


def test_a_huge_log_ratio_is_clamped_and_has_no_gradient():
    # d = 50 counts as 20: e^-20 - 1 + 20; d = -50 as -20: e^20 - 1 - 20
    logp, ref = apart([50.0, -50.0])
    out = k3(logp, ref)
    torch.testing.assert_close(out, torch.tensor([math.exp(-20) + 19, math.exp(20) - 21], dtype=torch.float64))
    assert torch.autograd.grad(out.sum(), logp)[0].tolist() == [0, 0]


def test_small_divergences_keep_their_digits_in_float32():
    # d = -2^-10: e^-d - 1 + d = d^2 / 2 - d^3 / 6 + ..., of which exp(-d) - 1 + d would keep but one digit
    d = -(2.0**-10)
    out = k3(torch.tensor([d]), torch.tensor([0.0]))
    assert out.item() == pytest.approx(d**2 / 2 - d**3 / 6, rel=2e-4)


@given(gaps=gaps)
def test_k2_and_k3_are_never_negative_and_0_at_equality(gaps):
    logp, ref = apart(gaps)
    for estimator in (k2, k3):
        assert bool((estimator(logp, ref) >= 0).all())
        assert estimator(ref, ref).tolist() == [0.0] * len(gaps)


@given(gaps=gaps, value=st.sampled_from(NAMES), learned=st.sampled_from(NAMES))
def test_the_value_is_one_estimators_and_the_gradient_anothers(gaps, value, learned):
    logp, ref = apart(gaps)
    out = kl_penalty(logp, ref.requires_grad_(), KL(0.04, value, learned))
    torch.testing.assert_close(out, ESTIMATORS[value](logp, ref), rtol=0, atol=0)
    expected = torch.autograd.grad(ESTIMATORS[learned](logp, ref.detach()).sum(), logp)[0]
    got, of_reference = torch.autograd.grad(out.sum(), (logp, ref), allow_unused=True)
    torch.testing.assert_close(got, expected, rtol=0, atol=0)
    assert of_reference is None


@given(seed=st.integers(0, 9999))
def test_over_all_tokens_k1_and_k3_average_to_the_divergence(seed):
    _, logp, ref = two_policies(seed)
    for estimator in (k1, k3):
        average = (logp.exp() * estimator(logp, ref)).sum()
        torch.testing.assert_close(average, divergence(logp, ref), rtol=1e-10, atol=1e-12)


@given(seed=st.integers(0, 9999))
def test_over_all_tokens_the_gradients_average_to_what_is_said_of_them(seed):
    logits, logp, ref = two_policies(seed)
    truths = {"k1": 0 * logits.sum(), "k2": divergence(logp, ref), "k3": divergence(ref, logp)}
    for name, truth in truths.items():
        average = (logp.detach().exp() * ESTIMATORS[name](logp, ref)).sum()
        got, expected = (torch.autograd.grad(x, logits, retain_graph=True)[0] for x in (average, truth))
        torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-12)


@given(gaps=st.lists(st.floats(-15, 15), min_size=1, max_size=8))
def test_k3_times_the_ratio_has_the_gradient_of_k2_on_policy(gaps):
    logp, ref = apart(gaps)
    corrected = (logp - logp.detach()).exp() * k3(logp, ref)
    penalty = kl_penalty(logp, ref, KL(0.04, "k3", "k2"))
    torch.testing.assert_close(penalty, corrected, rtol=0, atol=0)
    got, expected = (torch.autograd.grad(x.sum(), logp)[0] for x in (penalty, corrected))
    torch.testing.assert_close(got, expected, rtol=1e-7, atol=1e-7)


def test_nan_reaches_value_and_gradient():
    logp = torch.tensor([math.nan, -1.0], requires_grad=True)
    out = k3(logp, torch.tensor([-1.0, -2.0]))
    assert out.isnan().tolist() == [True, False]
    assert torch.autograd.grad(out.sum(), logp)[0].isnan().tolist() == [True, False]


class Halved(KLEstimator):
    """Half of k2, or its mean, which is no estimator."""

    def __init__(self, reduced: bool = False) -> None:
        self.reduced = reduced

    def estimates(self, logp: torch.Tensor, ref_logp: torch.Tensor) -> torch.Tensor:
        found = (logp - ref_logp).square() / 4
        return found.mean(0, keepdim=True) if self.reduced else found


def test_an_estimator_of_ones_own_is_reported_learned_from_or_both():
    # d = 1, -2: d^2 / 4 and its slope d / 2; k3 and its slope 1 - e^-d
    for kl, values, slopes in (
        (KL(0.04, Halved(), Halved()), [0.25, 1.0], [0.5, -1.0]),
        (KL(0.04, "k3", Halved()), [0.367879, 4.389056], [0.5, -1.0]),
        (KL(0.04, Halved(), "k3"), [0.25, 1.0], [0.632121, -6.389056]),
    ):
        logp, ref = apart([1.0, -2.0])
        out = kl_penalty(logp, ref.requires_grad_(), kl)
        assert out.tolist() == pytest.approx(values, abs=1e-6)
        got, of_reference = torch.autograd.grad(out.sum(), (logp, ref), allow_unused=True)
        assert got.tolist() == pytest.approx(slopes, abs=1e-6)
        assert of_reference is None


@pytest.mark.usefixtures("unchecked")
def test_an_estimator_that_reduces_is_refused():
    with pytest.raises(ValueError, match=r"Halved must give one estimate for each target, shape \(3,\), got \(1,\)"):
        kl_penalty(torch.zeros(3), torch.zeros(3), KL(0.04, Halved(reduced=True), "k3"))


def test_no_targets_have_no_divergence():
    assert kl_penalty(torch.zeros(0), torch.zeros(0), KL(0.04)).shape == (0,)


@pytest.mark.usefixtures("unchecked")
def test_shapes_that_disagree_are_refused():
    with pytest.raises(ValueError, match=r"got \(3,\) and \(1,\)"):
        kl_penalty(torch.zeros(3), torch.zeros(1), KL(0.04))


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"coefficient": -0.1}, "not below 0"),
        ({"coefficient": math.inf}, "finite"),
        ({"coefficient": math.nan}, "finite"),
        ({"coefficient": 0.1, "value": "k4"}, "k1, k2 and k3"),
        ({"coefficient": 0.1, "gradient": "full"}, "k1, k2 and k3"),
    ],
)
def test_other_settings_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        KL(**settings)
