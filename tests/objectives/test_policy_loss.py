import math

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from fgvr.errors import UserError
from fgvr.objectives import Clip, policy_loss
from fgvr.objectives.policy_loss import policy_loss_reference

DAPO = Clip(0.2, 0.28, 3.0)
OPEN = Clip(1.0, math.inf)
clips = st.builds(
    Clip,
    st.floats(0.05, 1.0),
    st.one_of(st.floats(0.05, 1.5), st.just(math.inf)),
    st.one_of(st.none(), st.floats(1.1, 5.0)),
    st.sampled_from(["token", "sequence"]),
)


def draw(size: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Log-probs with a gradient, old ones, advantages, and which of 4 sequences each is of. The last has A = 0."""
    generator = torch.Generator().manual_seed(seed)
    logp, gap = torch.randn(2, size, dtype=torch.float64, generator=generator) - torch.tensor([[3.0], [0.0]])
    sequence = torch.randint(4, (size,), generator=generator)
    worth = torch.randn(4, dtype=torch.float64, generator=generator).index_fill(0, torch.tensor(3), 0.0)
    return logp.requires_grad_(), logp.detach() + gap, worth[sequence], sequence


def gradient(values: torch.Tensor, logp: torch.Tensor) -> torch.Tensor:
    return torch.autograd.grad(values.sum(), logp)[0]


@pytest.mark.parametrize(
    ("ratio", "advantage", "value", "slope", "cut"),
    [
        # value -A r and slope -A r where nothing is cut; a cut target has the bound's value and no slope
        (1.0, 2.0, -2.0, -2.0, None),
        (1.1, 2.0, -2.2, -2.2, None),
        (1.5, 2.0, -2.56, 0.0, "high"),  # -2 * 1.28
        (0.5, 2.0, -1.0, -1.0, None),  # the lower bound cuts no gain
        (1.0, -2.0, 2.0, 2.0, None),
        (0.5, -2.0, 1.6, 0.0, "low"),  # 2 * 0.8
        (1.5, -2.0, 3.0, 3.0, None),  # the upper bound cuts no loss
        (4.0, -2.0, 6.0, 0.0, "dual"),  # 2 * 3
        (4.0, 2.0, -2.56, 0.0, "high"),  # the dual clip leaves positive advantages alone
        (4.0, 0.0, 0.0, 0.0, None),
    ],
)
def test_by_hand(ratio, advantage, value, slope, cut):
    logp = torch.tensor([ratio], dtype=torch.float64).log().requires_grad_()
    advantages = torch.tensor([advantage], dtype=torch.float64)
    loss = policy_loss(logp, torch.zeros_like(logp), advantages, DAPO, torch.zeros(1, dtype=torch.long))
    torch.testing.assert_close(loss.values, torch.tensor([value], dtype=torch.float64))
    torch.testing.assert_close(gradient(loss.values, logp), torch.tensor([slope], dtype=torch.float64))
    torch.testing.assert_close(loss.ratio, torch.tensor([ratio], dtype=torch.float64))
    assert [name for name in ("low", "high", "dual") if bool(getattr(loss, name))] == ([cut] if cut else [])


def test_a_sequence_has_one_ratio_by_hand():
    # sequence 5: (ln 1.2 + ln 0.9) / 2 = ln sqrt(1.08), so both ratios are 1.0392; sequence 2: ln 1.6, which the upper
    # bound cuts at 1.28. Each of the first two values pulls on either token by half: their sum's slope is -A r
    logp = torch.tensor([1.2, 1.6, 0.9], dtype=torch.float64).log().requires_grad_()
    advantages = torch.tensor([2.0, 1.0, 2.0], dtype=torch.float64)
    clip = Clip(0.2, 0.28, level="sequence")
    loss = policy_loss(logp, torch.zeros_like(logp), advantages, clip, torch.tensor([5, 2, 5]))
    r = 1.08**0.5
    torch.testing.assert_close(loss.ratio, torch.tensor([r, 1.6, r], dtype=torch.float64))
    torch.testing.assert_close(loss.values, torch.tensor([-2 * r, -1.28, -2 * r], dtype=torch.float64))
    torch.testing.assert_close(gradient(loss.values, logp), torch.tensor([-2 * r, 0, -2 * r], dtype=torch.float64))
    assert loss.high.tolist() == [False, True, False]


@given(size=st.integers(0, 12), seed=st.integers(0, 999), clip=clips)
def test_value_and_gradient_equal_the_papers_formula(size, seed, clip):
    logp, old, advantages, sequence = draw(size, seed)
    loss = policy_loss(logp, old, advantages, clip, sequence)
    if size == 0:
        assert loss.values.shape == (0,)
        return
    slow = policy_loss_reference(logp, old, advantages, clip, sequence)
    torch.testing.assert_close(loss.values, slow, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(gradient(loss.values, logp), gradient(slow, logp), rtol=1e-10, atol=1e-12)


@given(size=st.integers(1, 12), seed=st.integers(0, 999), clip=clips)
def test_on_policy_the_loss_is_reinforce(size, seed, clip):
    logp, _, advantages, sequence = draw(size, seed)
    loss = policy_loss(logp, logp, advantages, clip, sequence)  # the old ones carry a graph, which is not followed
    torch.testing.assert_close(loss.values, -advantages)
    torch.testing.assert_close(gradient(loss.values, logp), -advantages)
    assert not bool((loss.low | loss.high | loss.dual).any())
    assert not loss.ratio.requires_grad


@given(size=st.integers(1, 12), seed=st.integers(0, 999), clip=clips)
def test_clipping_promises_no_more_than_is_there(size, seed, clip):
    logp, old, advantages, sequence = draw(size, seed)
    plain = policy_loss(logp, old, advantages, Clip(1.0, math.inf, level=clip.level), sequence)
    once = policy_loss(logp, old, advantages, Clip(clip.low, clip.high, level=clip.level), sequence)
    twice = policy_loss(logp, old, advantages, clip, sequence)
    assert bool((once.values >= plain.values).all())
    assert bool((twice.values <= once.values).all())
    if clip.dual is not None:
        assert bool((twice.values <= clip.dual * advantages.abs() * (1 + 1e-12)).all())
    changed = once.values != plain.values
    assert bool((changed == (once.low | once.high)).all())
    assert bool((twice.values[twice.dual] < once.values[twice.dual]).all())


@given(size=st.integers(1, 12), seed=st.integers(0, 999), clip=clips)
def test_a_cut_token_has_no_gradient(size, seed, clip):
    assume(clip.level == "token")
    logp, old, advantages, sequence = draw(size, seed)
    loss = policy_loss(logp, old, advantages, clip, sequence)
    still = loss.low | loss.high | loss.dual | (advantages == 0)
    assert (gradient(loss.values, logp) == 0).tolist() == still.tolist()


@given(size=st.integers(1, 12), seed=st.integers(0, 999), clip=clips, data=st.data())
def test_neither_order_nor_labels_matter(size, seed, clip, data):
    logp, old, advantages, sequence = draw(size, seed)
    order = torch.tensor(data.draw(st.permutations(range(size))))
    loss = policy_loss(logp, old, advantages, clip, sequence)
    other = policy_loss(logp[order], old[order], advantages[order], clip, 70 - 10 * sequence[order])
    torch.testing.assert_close(other.values, loss.values[order], rtol=1e-12, atol=1e-12)


@given(size=st.integers(1, 8), seed=st.integers(0, 99), clip=clips)
def test_sequences_of_one_token_are_tokens(size, seed, clip):
    logp, old, advantages, _ = draw(size, seed)
    token, sequence = (
        policy_loss(logp, old, advantages, Clip(clip.low, clip.high, clip.dual, level), torch.arange(size))
        for level in ("token", "sequence")
    )
    torch.testing.assert_close(sequence.values, token.values)


@pytest.mark.parametrize("level", ["token", "sequence"])
def test_gradcheck(level):
    logp, old, advantages, sequence = draw(6, 4)
    clip = Clip(0.2, 0.28, 3.0, level)
    assert torch.autograd.gradcheck(lambda x: policy_loss(x, old, advantages, clip, sequence).values, logp)


def test_a_huge_log_ratio_is_clamped_and_has_no_gradient():
    logp = torch.tensor([0.0, -100.0, 0.0], requires_grad=True)
    old = torch.tensor([-100.0, 0.0, -math.inf])
    loss = policy_loss(logp, old, torch.tensor([1.0, 1.0, -1.0]), OPEN, torch.arange(3))
    torch.testing.assert_close(loss.ratio, torch.tensor([20.0, -20.0, 20.0]).exp())
    assert gradient(loss.values, logp).tolist() == [0, 0, 0]


@pytest.mark.parametrize("level", ["token", "sequence"])
def test_a_target_without_advantage_leaks_no_nan(level):
    logp = torch.tensor([math.nan, -math.inf, -1.0], requires_grad=True)
    old = torch.tensor([-1.0, -math.inf, -1.0])
    clip = Clip(level=level)
    loss = policy_loss(logp, old, torch.tensor([0.0, 0.0, 2.0]), clip, torch.tensor([0, 0, 1]))
    assert loss.values.tolist() == [0, 0, -2]
    assert gradient(loss.values, logp).tolist() == [0, 0, -2]


@pytest.mark.parametrize("which", ["logp", "old"])
def test_a_nan_that_counts_reaches_value_and_gradient(which):
    logp, old = torch.zeros(2), torch.zeros(2)
    (logp if which == "logp" else old)[0] = math.nan
    logp.requires_grad_()
    loss = policy_loss(logp, old, torch.ones(2), Clip(dual=3.0), torch.arange(2))
    assert loss.values.isnan().tolist() == [True, False]
    assert gradient(loss.values, logp).isnan().tolist() == [True, False]


@pytest.mark.parametrize("advantage", [math.nan, math.inf, -math.inf])
def test_an_advantage_that_is_not_finite_is_refused(advantage):
    with pytest.raises(ValueError, match="must be finite"):
        policy_loss(torch.zeros(2), torch.zeros(2), torch.tensor([0.0, advantage]), Clip(), torch.arange(2))


@pytest.mark.usefixtures("unchecked")
def test_shapes_that_disagree_are_refused():
    with pytest.raises(ValueError, match=r"got shapes \[\(3,\), \(3,\), \(1,\), \(3,\)\]"):
        policy_loss(torch.zeros(3), torch.zeros(3), torch.ones(1), Clip(), torch.arange(3))


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"low": 0.0}, "0 < low <= 1"),
        ({"low": 1.1}, "0 < low <= 1"),
        ({"high": 0.0}, "high > 0"),
        ({"high": math.nan}, "high > 0"),
        ({"dual": 1.0}, "above 1"),
        ({"dual": math.nan}, "above 1"),
        ({"level": "row"}, "of a token or of a sequence"),
    ],
)
def test_bounds_outside_their_ranges_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        Clip(**settings)
