"""On a GPU: the head in bfloat16 and in float32 against the plain twin."""

import pytest
import torch

from fgvr.kernels.token_logprobs import (
    head_dtype,
    suppression,
    token_logprobs_and_entropy,
    token_logprobs_and_entropy_reference,
)

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]
ROUNDING = 2.0**-8  # of a number to bfloat16: at most this share of it


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("chunks", [{}, {"row_chunk": 100, "vocab_chunk": 4096}])
def test_values_and_gradients_are_those_of_the_plain_twin(half, chunks):
    generator = torch.Generator("cuda").manual_seed(0)
    hidden = torch.randn(300, 256, device="cuda", generator=generator, requires_grad=True)
    weight = (0.1 * torch.randn(30_011, 256, device="cuda", generator=generator)).requires_grad_()  # a prime vocabulary
    targets = torch.randint(9, 30_011, (300,), device="cuda", generator=generator)
    bias, up = suppression([3, 5], 30_011).cuda(), torch.linspace(-1, 2, 300, device="cuda")
    with torch.autocast("cuda", torch.bfloat16, enabled=half):
        assert head_dtype(hidden) == (torch.bfloat16 if half else torch.float32)
        fast = token_logprobs_and_entropy(hidden, weight, targets, bias, 0.8, **chunks)
    states, read = (
        (x.detach().bfloat16().float() if half else x.detach().clone()).requires_grad_() for x in (hidden, weight)
    )
    slow = token_logprobs_and_entropy_reference(states, read, targets, bias, 0.8)
    assert fast[0].dtype == fast[1].dtype == torch.float32
    assert fast[0].detach().max() <= 0
    torch.testing.assert_close(fast, slow, rtol=1e-5, atol=1e-4)
    ours, theirs = (
        torch.autograd.grad((found[0] * up).sum() + 0.3 * (found[1] * up).sum(), operands)
        for found, operands in ((fast, (hidden, weight)), (slow, (states, read)))
    )
    for mine, reference in zip(ours, theirs, strict=True):
        assert mine.dtype == torch.float32
        # in bfloat16 the logits' gradients are rounded once more than the operands
        assert (mine - reference).norm() < (ROUNDING if half else 1e-4) * reference.norm()


@pytest.mark.filterwarnings("ignore:Synchronization debug mode")  # is a prototype, torch says
def test_no_pass_waits_for_the_device():
    hidden, weight = (torch.randn(n, 64, device="cuda", requires_grad=True) for n in (50, 1009))
    targets, bias = torch.arange(50, device="cuda"), suppression([60], 1009).cuda()
    mode = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        with torch.autocast("cuda", torch.bfloat16):
            logp, _ = token_logprobs_and_entropy(hidden, weight, targets, bias, 0.8)
        logp.sum().backward()
    finally:
        torch.cuda.set_sync_debug_mode(mode)
