import math

import torch
from hypothesis import given
from hypothesis import strategies as st

from fgvr.objectives import exact_entropy, sampled_entropy


def draw(rows: int, vocabulary: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (3 * torch.randn(rows, vocabulary, dtype=torch.float64, generator=generator)).requires_grad_()


def test_by_hand():
    # four alike: ln 4; one certain: 0; 3/4 and 1/4: 0.75 ln(4/3) + 0.25 ln 4 = 0.215762 + 0.346574
    inf = math.inf
    logits = torch.tensor([[2.0, 2.0, 2.0, 2.0], [0.0, -inf, -inf, -inf], [math.log(3), 0.0, -inf, -inf]])
    torch.testing.assert_close(exact_entropy(logits), torch.tensor([math.log(4), 0.0, 0.562336]))
    torch.testing.assert_close(sampled_entropy(torch.tensor([0.0, -1.5])), torch.tensor([0.0, 1.5]))


def test_gradcheck():
    assert torch.autograd.gradcheck(exact_entropy, draw(3, 5, 0))


def test_a_token_that_cannot_be_drawn_leaks_no_nan():
    logits = torch.tensor([[1.0, -math.inf, 0.5]], dtype=torch.float64, requires_grad=True)
    rest = torch.tensor([[1.0, 0.5]], dtype=torch.float64, requires_grad=True)
    with_it, without = exact_entropy(logits), exact_entropy(rest)
    torch.testing.assert_close(with_it, without)
    expected = torch.autograd.grad(without.sum(), rest)[0][0]
    got = torch.autograd.grad(with_it.sum(), logits)[0][0]
    torch.testing.assert_close(got, torch.stack([expected[0], torch.zeros_like(expected[0]), expected[1]]))


def test_half_precision_is_computed_in_float32():
    logits = draw(2, 50, 1).detach().bfloat16()
    out = exact_entropy(logits)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, exact_entropy(logits.float()))


@given(vocabulary=st.integers(1, 40), seed=st.integers(0, 999), shift=st.floats(-50, 50))
def test_it_lies_between_0_and_log_v_and_knows_no_offset(vocabulary, seed, shift):
    logits = draw(3, vocabulary, seed)
    out = exact_entropy(logits)
    assert bool((out >= 0).all())
    assert bool((out <= math.log(vocabulary) + 1e-12).all())
    torch.testing.assert_close(exact_entropy(logits + shift), out, rtol=1e-9, atol=1e-9)


@given(vocabulary=st.integers(2, 20), seed=st.integers(0, 999))
def test_over_all_tokens_the_sampled_one_averages_to_the_exact_one_and_its_gradient_to_0(vocabulary, seed):
    logits = draw(1, vocabulary, seed)
    logp = logits[0].log_softmax(-1)
    average = (logp.detach().exp() * sampled_entropy(logp)).sum()
    torch.testing.assert_close(average[None], exact_entropy(logits), rtol=1e-10, atol=1e-12)
    slope = torch.autograd.grad(average, logits)[0]
    torch.testing.assert_close(slope, torch.zeros_like(slope), rtol=0, atol=1e-12)


@given(vocabulary=st.integers(2, 20), seed=st.integers(0, 999))
def test_its_gradient_is_minus_p_times_logp_plus_entropy(vocabulary, seed):
    logits = draw(2, vocabulary, seed)
    entropy = exact_entropy(logits)
    logp = logits.detach().log_softmax(-1)
    expected = -logp.exp() * (logp + entropy.detach()[:, None])
    torch.testing.assert_close(torch.autograd.grad(entropy.sum(), logits)[0], expected, rtol=1e-9, atol=1e-12)
