import pytest
import torch
from hellinger import Hellinger
from hypothesis import given
from hypothesis import strategies as st


def test_by_hand():
    # r = 1/4, 1, 4: (1/2 - 1)^2, (1 - 1)^2, (2 - 1)^2
    ratios = torch.tensor([0.25, 1.0, 4.0], dtype=torch.float64)
    logp = torch.tensor([0.5, 0.5, 0.1], dtype=torch.float64).log()
    assert Hellinger().estimates(logp, logp + ratios.log()).tolist() == pytest.approx([0.25, 0, 1])


def test_its_gradient():
    logp = torch.tensor([-3.0, -1.0, -0.2], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(Hellinger().estimates, (logp, torch.full_like(logp, -1.0)))


@given(seed=st.integers(0, 9999))
def test_over_all_tokens_it_averages_to_the_distance(seed: int):
    policy, ref = torch.randn(2, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).log_softmax(-1)
    average = (policy.exp() * Hellinger().estimates(policy, ref)).sum()
    torch.testing.assert_close(average, ((policy / 2).exp() - (ref / 2).exp()).square().sum())
