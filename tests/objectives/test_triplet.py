import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fgvr.errors import UserError
from fgvr.objectives import Triplet, divergence, k3, triplet_loss

gaps = st.lists(st.floats(-30, 30), min_size=1, max_size=8)


def apart(gaps: list[float]) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probs under the own photo, `gaps` nats above those under the negative's; both need a gradient."""
    negative = torch.full((len(gaps),), -2.0, dtype=torch.float64, requires_grad=True)
    logp = (negative.detach() + torch.tensor(gaps, dtype=torch.float64)).requires_grad_()
    return logp, negative


@pytest.mark.parametrize(
    ("gap", "value", "slope"),
    [  # e^-d + d - 1 up to 10, and 1 - e^-d
        (0.0, 0.0, 0.0),
        (1.0, 0.367879, 0.632121),
        (-1.0, 0.718282, -1.718282),
        (3.0, 2.049787, 0.950213),
        (-3.0, 10.0, 0.0),  # e^3 - 3 - 1 = 16.1
        (12.0, 10.0, 0.0),  # 11.0
        (25.0, 10.0, 0.0),  # u is -20 first: 19
        (-2.61, 9.989051, -12.599051),  # just within: e^2.61 - 2.61 - 1 = 13.599051 - 3.61
    ],
)
def test_divergence_by_hand(gap, value, slope):
    logp, negative = apart([gap])
    out = divergence(logp, negative)
    assert out.item() == pytest.approx(value, abs=1e-6)
    own, of_negative = torch.autograd.grad(out.sum(), (logp, negative))
    assert own.item() == pytest.approx(slope, abs=1e-6)
    assert of_negative.item() == pytest.approx(-slope, abs=1e-6)


def test_divergence_gradcheck():
    logp, negative = apart([-2.0, -0.3, 0.0, 0.4, 5.0])
    assert torch.autograd.gradcheck(divergence, (logp, negative))


@given(gaps=gaps)
def test_divergence_lies_between_0_and_10_and_is_k3_below_that(gaps):
    logp, negative = apart(gaps)
    out = divergence(logp, negative)
    assert bool(((out >= 0) & (out <= 10)).all())
    torch.testing.assert_close(out, k3(logp, negative).clamp(max=10.0), rtol=0, atol=0)
    assert divergence(logp, logp).tolist() == [0.0] * len(gaps)


def test_divergence_is_taken_in_float32():
    logp = torch.tensor([-2.0, -1.0], dtype=torch.bfloat16)
    assert divergence(logp, logp - 1).dtype == torch.float32


def test_a_nan_reaches_value_and_gradient():
    logp = torch.tensor([math.nan, -1.0], requires_grad=True)
    out = divergence(logp, torch.tensor([-1.0, -2.0]))
    assert out.isnan().tolist() == [True, False]
    assert torch.autograd.grad(out.sum(), logp)[0].isnan().tolist() == [True, False]


COMPARED = torch.tensor([True, False, True])


def test_loss_by_hand():
    # l = -1, -2, -3, the first and last compared with m = -2 and -2: d = 1 and -1, k = .367879 and .718282
    logp = torch.tensor([-1.0, -2.0, -3.0], dtype=torch.float64)
    negative = torch.tensor([-2.0, -2.0], dtype=torch.float64)
    values, apart = triplet_loss(logp, negative, COMPARED, 0.5, Triplet(eta1=0.1, eta2=0.2))
    assert apart.tolist() == pytest.approx([0.367879, 0.718282], abs=1e-6)
    # .1 x 1 - .5 x .367879 + .2 x 2; .1 x 2; .1 x 3 - .5 x .718282 + .2 x 2
    assert values.tolist() == pytest.approx([0.316060, 0.2, 0.340859], abs=1e-6)
    alone, none = triplet_loss(logp, None, None, 0.5, Triplet(eta1=0.1))
    assert alone.tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert none.shape == (0,)


@pytest.mark.parametrize("negative", ["detached", "full"])
def test_loss_gradient(negative):
    logp, m = (x.requires_grad_() for x in torch.tensor([[-1.0, -2.0, -3.0], [-2.0, -2.0, 0.0]], dtype=torch.float64))
    m = m[:2].detach().requires_grad_()
    values, _ = triplet_loss(logp, m, COMPARED, 0.5, Triplet(eta1=0.1, eta2=0.2, negative=negative))
    own, other = torch.autograd.grad(values.sum(), (logp, m), allow_unused=True)
    # -eta1 - gamma (1 - e^-d): -.1 - .5 x .632121, -.1, -.1 + .5 x 1.718282
    assert own.tolist() == pytest.approx([-0.416060, -0.1, 0.759141], abs=1e-6)
    if negative == "detached":
        assert other is None
    else:  # gamma (1 - e^-d) - eta2
        assert other.tolist() == pytest.approx([0.116060, -1.059141], abs=1e-6)
    settings = Triplet(eta1=0.1, eta2=0.2, negative="full")
    assert torch.autograd.gradcheck(lambda x, y: triplet_loss(x, y, COMPARED, 0.5, settings)[0], (logp, m))


@given(gaps=gaps, seed=st.integers(0, 99), gamma=st.floats(0, 1), eta=st.floats(0, 1))
def test_the_detached_second_entropy_moves_the_loss_and_no_gradient(gaps, seed, gamma, eta):
    logp, negative = apart(gaps)
    compared = torch.rand(len(gaps), generator=torch.Generator().manual_seed(seed)) < 0.5
    settings = [Triplet(eta2=eta), Triplet(eta2=0.0)]
    losses = [triplet_loss(logp, negative[compared], compared, gamma, one)[0].sum() for one in settings]
    first, second = (torch.autograd.grad(loss, logp, retain_graph=True)[0] for loss in losses)
    assert torch.equal(first, second)
    torch.testing.assert_close(losses[0] - losses[1], eta * -negative[compared].sum(), rtol=1e-9, atol=1e-9)


def test_gamma_falls_linearly_to_0_over_its_share_of_the_steps():
    fixed, annealed = Triplet(gamma=0.02), Triplet(gamma=0.02, annealed_over=0.5)
    assert [fixed.gamma_at(step, None) for step in (0, 50)] == [0.02, 0.02]
    # half of 100 steps: 1 - 0/50, 1 - 25/50, 1 - 50/50, and 0 from there on
    assert [annealed.gamma_at(step, 100) for step in (0, 25, 50, 80)] == pytest.approx([0.02, 0.01, 0.0, 0.0])
    with pytest.raises(ValueError, match="last step"):
        annealed.gamma_at(0, None)


@given(share=st.floats(0.01, 1), total=st.integers(1, 1000), step=st.integers(0, 1000))
def test_gamma_never_rises(share, total, step):
    triplet = Triplet(annealed_over=share)
    assert triplet.gamma >= triplet.gamma_at(step, total) >= triplet.gamma_at(step + 1, total) >= 0


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"gamma": -0.1}, "triplet.gamma must be finite and not below 0, got -0.1"),
        ({"eta1": math.nan}, "triplet.eta1"),
        ({"eta2": math.inf}, "triplet.eta2"),
        ({"annealed_over": 0.0}, "above 0 and at most 1, got 0"),
        ({"annealed_over": 1.5}, "leave it out"),
        ({"annealed_over": True}, "above 0 and at most 1, got True"),
        ({"gamma": True}, "triplet.gamma must be finite and not below 0, got True"),
        ({"negative": "half"}, "detached or full"),
        ({"scope": "wrong"}, "all or correct_only"),
    ],
)
def test_other_settings_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        Triplet(**settings)


@pytest.mark.usefixtures("unchecked")
def test_shapes_that_disagree_are_refused():
    with pytest.raises(ValueError, match=r"got \(3,\) and \(1,\)"):
        divergence(torch.zeros(3), torch.zeros(1))
