from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from fgvr.kernels import token_logprobs as head
from fgvr.kernels.token_logprobs import (
    head_dtype,
    suppression,
    token_logprobs,
    token_logprobs_and_entropy,
    token_logprobs_and_entropy_reference,
    token_logprobs_reference,
)


def make(rows: int, width: int, vocabulary: int, dtype: torch.dtype = torch.float64, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(rows, width, dtype=dtype, generator=generator, requires_grad=True)
    weight = torch.randn(vocabulary, width, dtype=dtype, generator=generator, requires_grad=True)
    targets = torch.randint(vocabulary, (rows,), generator=generator)
    return hidden, weight, targets


def test_by_hand():
    # one hidden unit 1, weights [0, ln 3]: softmax = [1, 3] / 4, so the log-probs are ln(1/4) and ln(3/4)
    hidden, weight = torch.ones(2, 1), torch.tensor([[0.0], [3.0]]).log().clamp(min=0)
    out = token_logprobs(hidden, weight, torch.tensor([0, 1]))
    torch.testing.assert_close(out, torch.tensor([0.25, 0.75]).log())


@given(
    rows=st.integers(1, 9),
    vocabulary=st.sampled_from([2, 13, 97, 101]),
    row_chunk=st.integers(1, 10),
    vocab_chunk=st.integers(1, 110),
)
def test_value_and_gradients_equal_the_reference(rows, vocabulary, row_chunk, vocab_chunk):
    hidden, weight, targets = make(rows, 5, vocabulary)
    twin_hidden, twin_weight = (t.detach().clone().requires_grad_() for t in (hidden, weight))
    upstream = torch.linspace(-1, 2, rows, dtype=torch.float64)
    fast = token_logprobs(hidden, weight, targets, row_chunk=row_chunk, vocab_chunk=vocab_chunk)
    slow = token_logprobs_reference(twin_hidden, twin_weight, targets)
    torch.testing.assert_close(fast, slow, rtol=1e-12, atol=1e-12)
    (fast * upstream).sum().backward()
    (slow * upstream).sum().backward()
    torch.testing.assert_close(hidden.grad, twin_hidden.grad, rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(weight.grad, twin_weight.grad, rtol=1e-11, atol=1e-12)


def test_gradcheck_with_a_prime_vocabulary():
    hidden, weight, targets = make(3, 4, 7)
    assert torch.autograd.gradcheck(
        lambda h, w: token_logprobs(h, w, targets, row_chunk=2, vocab_chunk=3), (hidden, weight)
    )


def test_a_frozen_head_gets_no_gradient():
    hidden, weight, targets = make(4, 3, 11)
    frozen = weight.detach()
    token_logprobs(hidden, frozen, targets).sum().backward()
    assert frozen.grad is None
    assert hidden.grad is not None


def test_half_precision_inputs_are_summed_in_float32():
    hidden, weight, targets = make(6, 16, 1009, torch.bfloat16)
    fast = token_logprobs(hidden, weight, targets, vocab_chunk=100)
    assert fast.dtype == torch.float32
    torch.testing.assert_close(fast, token_logprobs_reference(hidden, weight, targets), rtol=1e-5, atol=1e-5)
    fast.sum().backward()
    assert hidden.grad is not None
    assert hidden.grad.dtype == torch.bfloat16


def test_autocast_does_not_round_the_products():
    hidden, weight, targets = make(6, 64, 503, torch.float32)
    plain = token_logprobs(hidden, weight, targets, vocab_chunk=100)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = token_logprobs(hidden, weight, targets, vocab_chunk=100)
        gradients = torch.autograd.grad(mixed.sum(), (hidden, weight))  # the backward pass too is inside
    torch.testing.assert_close(mixed, plain, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(gradients, torch.autograd.grad(plain.sum(), (hidden, weight)), rtol=1e-6, atol=1e-6)


def test_an_empty_selection_is_differentiable():
    hidden, weight, _ = make(0, 3, 5)
    out = token_logprobs(hidden, weight, torch.zeros(0, dtype=torch.long))
    out.sum().backward()
    assert out.shape == (0,)
    assert hidden.grad is not None


def test_extreme_logits_stay_finite():
    hidden = torch.tensor([[1e4]], requires_grad=True)
    out = token_logprobs(hidden, torch.tensor([[1.0], [-1.0]]), torch.tensor([1]), vocab_chunk=1)
    out.sum().backward()
    torch.testing.assert_close(out, torch.tensor([-2e4]))
    assert hidden.grad is not None
    assert bool(hidden.grad.isfinite().all())


def test_chunks_below_one_are_refused():
    hidden, weight, targets = make(1, 1, 2)
    with pytest.raises(ValueError, match="chunk sizes"):
        token_logprobs(hidden, weight, targets, row_chunk=0)


def test_entropy_temperature_and_suppression_by_hand():
    # logits ln 1, ln 3, ln 4; the last is suppressed: p = 1/4, 3/4; H = ln 4 / 4 + 3/4 ln(4/3) = .5623 nats
    hidden, weight = torch.ones(1, 1, dtype=torch.float64), torch.tensor([[1.0], [3.0], [4.0]], dtype=torch.float64)
    weight = weight.log()
    logp, entropy = token_logprobs_and_entropy(hidden, weight, torch.tensor([1]), suppression([2], 3))
    torch.testing.assert_close(logp, torch.tensor([0.75], dtype=torch.float64).log())
    torch.testing.assert_close(entropy, torch.tensor([0.5623351446], dtype=torch.float64))
    # at temperature 1/2 the logits double: p = 1/10, 9/10
    logp, _ = token_logprobs_and_entropy(hidden, weight, torch.tensor([1]), suppression([2], 3), 0.5)
    torch.testing.assert_close(logp, torch.tensor([0.9], dtype=torch.float64).log())


@given(
    rows=st.integers(1, 9),
    vocabulary=st.sampled_from([7, 13, 97, 101]),
    row_chunk=st.integers(1, 10),
    vocab_chunk=st.integers(1, 110),
    temperature=st.sampled_from([0.3, 1.0, 1.7]),
    suppressed=st.sets(st.integers(0, 5), max_size=4),
)
def test_entropy_and_its_gradients_equal_the_reference(
    rows, vocabulary, row_chunk, vocab_chunk, temperature, suppressed
):
    hidden, weight, targets = make(rows, 5, vocabulary)
    targets = torch.full_like(targets, 6)
    out = suppression(sorted(suppressed), vocabulary)
    chunks = {"row_chunk": row_chunk, "vocab_chunk": vocab_chunk}
    fast = token_logprobs_and_entropy(hidden, weight, targets, out, temperature, **chunks)
    slow = token_logprobs_and_entropy_reference(hidden, weight, targets, out, temperature)
    up = torch.linspace(-1, 2, rows, dtype=torch.float64)
    torch.testing.assert_close(fast, slow, rtol=1e-11, atol=1e-11)
    for weights in ((up, 3 * up.flip(0)), (up, 0 * up), (0 * up, up)):
        loss = [sum((v * w).sum() for v, w in zip(pair, weights, strict=True)) for pair in (fast, slow)]
        ours, theirs = (torch.autograd.grad(value, (hidden, weight), retain_graph=True) for value in loss)  # pyright: ignore
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def test_a_suppressed_target_is_impossible():
    hidden, weight, _ = make(2, 4, 7)
    logp, _ = token_logprobs_and_entropy(hidden, weight, torch.tensor([3, 4]), suppression([3], 7))
    assert logp[0] == -torch.inf
    assert logp[1].isfinite()


def test_entropy_lies_between_nothing_and_that_of_a_fair_die():
    hidden, weight, targets = make(5, 4, 13)
    _, entropy = token_logprobs_and_entropy(hidden, 0 * weight, targets, None)
    torch.testing.assert_close(entropy, torch.full_like(entropy, 13).log())
    _, entropy = token_logprobs_and_entropy(hidden, 1e4 * weight, targets, None)
    torch.testing.assert_close(entropy, torch.zeros_like(entropy), atol=1e-6, rtol=0)


def test_a_large_common_part_of_the_logits_does_not_blur_the_entropy():
    # logits 1000 + ln 1, ln 3: p = 1/4, 3/4 whatever the 1000; H = 1/4 ln 4 + 3/4 ln(4/3) = .5623 nats. In float32
    # 1000 + ln 3 is 1001.0986 to 6e-5: so near are p and H, whether one tile holds both tokens or each its own
    hidden, weight = torch.ones(1, 1), torch.tensor([[1000.0], [1000.0]]) + torch.tensor([[1.0], [3.0]]).log()
    for chunk in (1, 2):
        logp, entropy = token_logprobs_and_entropy(hidden, weight, torch.tensor([1]), None, vocab_chunk=chunk)
        torch.testing.assert_close(logp, torch.tensor([0.75]).log(), atol=3e-5, rtol=0)
        torch.testing.assert_close(entropy, torch.tensor([0.5623351446]), atol=3e-5, rtol=0)


@pytest.mark.parametrize(("scale", "common"), [(1.0, 0.0), (3.0, 0.0), (1.0, 30.0)])
def test_with_a_large_model_s_vocabulary_the_entropy_is_as_good_as_the_plain_twin_s(scale: float, common: float):
    hidden, weight, targets = make(32, 16, 151_936, torch.float32)
    hidden, weight = hidden.detach() * scale, weight.detach()
    hidden[:, 0], weight[:, 0] = 1.0, common
    suppressed = suppression([151_650, 151_655], 151_936)
    exact = token_logprobs_and_entropy_reference(hidden.double(), weight.double(), targets, suppressed)
    fast, slow = (
        [float((value.double() - true).abs().max()) for value, true in zip(found, exact, strict=True)]
        for found in (
            token_logprobs_and_entropy(hidden, weight, targets, suppressed),
            token_logprobs_and_entropy_reference(hidden, weight, targets, suppressed),
        )
    )
    assert fast[0] <= max(1.5 * slow[0], 2e-5), "log-probs"
    assert fast[1] <= max(1.5 * slow[1], 1e-5), "entropy"


@given(
    seed=st.integers(0, 2**31), scale=st.sampled_from([0.1, 3.0, 30.0, 1e4]), vocab_chunk=st.sampled_from([1, 7, 4096])
)
def test_no_token_is_likelier_than_certain_and_no_entropy_below_nothing(seed, scale, vocab_chunk):
    hidden, weight = (tensor.detach() for tensor in make(16, 33, 37, torch.float32, seed)[:2])
    targets = (hidden @ weight.T).argmax(-1)
    for row_chunk in (5, 16):
        chunks = {"row_chunk": row_chunk, "vocab_chunk": vocab_chunk}
        logp, entropy = token_logprobs_and_entropy(scale * hidden, weight, targets, None, **chunks)
        assert float(logp.max()) <= 0
        assert float(entropy.min()) >= 0
        torch.testing.assert_close(logp, token_logprobs(scale * hidden, weight, targets, **chunks), rtol=0, atol=0)


def test_tiles_that_are_suppressed_as_a_whole_change_nothing():
    hidden, weight, _ = make(4, 5, 12)
    targets, out = torch.tensor([4, 5, 11, 4]), suppression([0, 1, 2, 3, 8, 9], 12)  # the first tile is one of them
    fast = token_logprobs_and_entropy(hidden, weight, targets, out, vocab_chunk=2)
    slow = token_logprobs_and_entropy_reference(hidden, weight, targets, out)
    torch.testing.assert_close(fast, slow, rtol=1e-12, atol=1e-12)
    gradients = [torch.autograd.grad(pair[0].sum() + 2 * pair[1].sum(), (hidden, weight)) for pair in (fast, slow)]
    torch.testing.assert_close(*gradients, rtol=1e-11, atol=1e-12)


TEMPERATURE = 0.8
ROUNDING = 2.0**-8  # of a number to bfloat16: at most this share of it
TILES = [{}, {"row_chunk": 7, "vocab_chunk": 100}]


@pytest.fixture
def rounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Heads are multiplied in bfloat16, as on a GPU under autocast."""
    monkeypatch.setattr(head, "head_dtype", lambda hidden: torch.bfloat16)


def learnable() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Hidden states, a head, targets and a suppression."""
    hidden, weight, targets = make(24, 48, 997, torch.float32)
    return hidden, (0.3 * weight).detach().requires_grad_(), targets.clamp(min=7), suppression([3, 5], 997)


def in_bfloat16(*tensors: torch.Tensor) -> list[torch.Tensor]:
    """The same numbers rounded, in float32."""
    return [x.detach().bfloat16().float().requires_grad_() for x in tensors]


def test_a_cpu_rounds_no_head():
    for dtype, kept in ((torch.float32,) * 2, (torch.bfloat16, torch.float32), (torch.float64,) * 2):
        with torch.autocast("cpu", torch.bfloat16):
            assert head_dtype(torch.zeros(1, 1, dtype=dtype)) == kept


@pytest.mark.usefixtures("rounded")
@pytest.mark.parametrize("chunks", TILES)
def test_in_bfloat16_nothing_is_rounded_but_what_is_multiplied(chunks):
    hidden, weight, targets, suppressed = learnable()
    fast = token_logprobs_and_entropy(hidden, weight, targets, suppressed, TEMPERATURE, **chunks)
    same, true = (
        token_logprobs_and_entropy_reference(states, read, targets, suppressed, TEMPERATURE)
        for states, read in (in_bfloat16(hidden, weight), (hidden, weight))
    )
    assert fast[0].dtype == fast[1].dtype == torch.float32
    torch.testing.assert_close(fast, same, rtol=2e-6, atol=1e-5)
    # a logit is off by (2 r + r^2) |h| |w| at most, a log-prob by what its own and the total are off by
    logit = (2 * ROUNDING + ROUNDING**2) * (hidden.abs() @ weight.abs().T).amax(-1) / TEMPERATURE
    assert ((fast[0] - true[0]).abs() <= 2 * logit).all()
    assert (fast[0] - true[0]).abs().mean() < 0.01
    assert (fast[1] - true[1]).abs().max() < 0.05


@pytest.mark.usefixtures("rounded")
@pytest.mark.parametrize("chunks", TILES)
@pytest.mark.parametrize("shares", [(1.0, 0.0), (0.0, 1.0), (1.0, -0.3)])
def test_gradients_in_bfloat16_are_added_up_in_float32(chunks, shares):
    hidden, weight, targets, suppressed = learnable()
    up = torch.linspace(-1, 2, len(hidden))

    def loss(logp: torch.Tensor, entropy: torch.Tensor) -> torch.Tensor:
        return shares[0] * (logp * up).sum() + shares[1] * (entropy * up).sum()

    def slow(states: torch.Tensor, read: torch.Tensor) -> torch.Tensor:
        return loss(*token_logprobs_and_entropy_reference(states, read, targets, suppressed, TEMPERATURE))

    fast = loss(*token_logprobs_and_entropy(hidden, weight, targets, suppressed, TEMPERATURE, **chunks))
    ours, true = (torch.autograd.grad(x, (hidden, weight)) for x in (fast, slow(hidden, weight)))
    h, w = in_bfloat16(hidden, weight)
    same = torch.autograd.grad(slow(h, w), (h, w))
    logits = (h @ w.T).detach().requires_grad_()
    (d_logits,) = torch.autograd.grad(slow(logits, torch.eye(len(weight))), logits)
    # those of the logits are rounded once more, so that a sum of them is off by r times the sum of their sizes at most
    most = (d_logits.abs() @ w.abs(), d_logits.abs().T @ h.abs())
    for mine, rounded, bound, exact in zip(ours, same, most, true, strict=True):
        assert mine.dtype == torch.float32
        assert ((mine - rounded).abs() <= ROUNDING * bound + 1e-5).all()
        assert (mine - exact).norm() < 0.02 * exact.norm()


@pytest.mark.usefixtures("rounded")
@pytest.mark.parametrize("chunk", [1, 7, 4096])
def test_in_bfloat16_too_no_token_is_likelier_than_certain(chunk):
    hidden, weight = (x.detach() for x in make(64, 32, 37, torch.float32)[:2])
    targets = (hidden @ weight.T).argmax(-1)
    for scale in (0.1, 3.0, 1e4):
        logp, entropy = token_logprobs_and_entropy(scale * hidden, weight, targets, None, vocab_chunk=chunk)
        assert float(logp.max()) <= 0
        assert float(entropy.min()) >= 0


class Casts(TorchDispatchMode):
    """The shapes of all that is cast to bfloat16."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: list[list[int]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if (kwargs or {}).get("dtype") == torch.bfloat16:
            self.shapes.append(list(args[0].shape))
        return func(*args, **(kwargs or {}))


class Waits(TorchDispatchMode):
    """The operations that a GPU would have to be waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.__name__.split(".")[0]
        if name in ("_local_scalar_dense", "nonzero", "index", "index_put_", "masked_select"):
            self.names.append(name)
        return func(*args, **(kwargs or {}))


@pytest.mark.usefixtures("rounded")
def test_hidden_states_and_head_are_cast_once_a_pass():
    hidden, weight, targets, suppressed = learnable()
    operands = [[24, 48], *[[100, 48]] * 9, [97, 48]]
    with Casts() as forward:
        logp, _ = token_logprobs_and_entropy(hidden, weight, targets, suppressed, row_chunk=5, vocab_chunk=100)
    assert forward.shapes == operands
    with Casts() as backward:
        logp.sum().backward()
    assert [shape for shape in backward.shapes if shape[1] == 48] == operands


def test_what_nothing_is_learned_from_is_not_looked_at():
    hidden, weight, targets, suppressed = learnable()
    logp, _ = token_logprobs_and_entropy(hidden, weight, targets, suppressed)
    with Waits() as waits:
        logp.sum().backward()
    assert not waits.names
