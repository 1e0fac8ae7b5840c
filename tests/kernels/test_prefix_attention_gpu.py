"""The fast kernels in bfloat16 against the float32 reference, on a GPU."""

import importlib.util

import pytest
import torch

from fgvr.kernels.attention import PackedAttention
from fgvr.kernels.prefix_attention import prefix_attention

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]
GROUPS = [(356, [64, 17, 40, 64]), (129, [5, 256, 1, 90])]


@pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated")  # torch 2.11's own, while it compiles
@pytest.mark.parametrize(
    ("backend", "varlen"), [("split", None), ("varlen", "torch"), ("varlen", "flash"), ("flex", None)]
)
def test_bfloat16_kernels_stay_within_its_rounding(backend, varlen):
    if varlen == "flash" and importlib.util.find_spec("flash_attn") is None:
        pytest.skip("needs flash-attn")
    width = max(prompt + sum(lengths) for prompt, lengths in GROUPS)
    segments = torch.full((len(GROUPS), width), -1)
    for row, (prompt, lengths) in enumerate(GROUPS):
        numbers = [0] * prompt + [g for g, n in enumerate(lengths, 1) for _ in range(n)]
        segments[row, : len(numbers)] = torch.tensor(numbers)
    segments = segments.cuda()
    generator = torch.Generator("cuda").manual_seed(0)
    shapes = [(2, 16, width, 128), (2, 2, width, 128), (2, 2, width, 128)]
    qkv = [torch.randn(s, device="cuda", generator=generator, requires_grad=True) for s in shapes]
    half = [x.detach().bfloat16().requires_grad_() for x in qkv]
    real = (segments >= 0)[:, None, :, None]
    up = torch.randn(shapes[0], device="cuda", generator=generator) * real
    slow = prefix_attention(segments, "dense").attend(0, *qkv, scale=128**-0.5)
    fast = prefix_attention(segments, backend, varlen).attend(0, *half, scale=128**-0.5)
    assert ((fast.float() - slow) * real).norm() < 0.01 * (slow * real).norm()
    theirs = torch.autograd.grad((slow * up).sum(), qkv)
    ours = torch.autograd.grad((fast.float() * up).sum(), half)
    for mine, reference in zip(ours, theirs, strict=True):
        assert (mine.float() - reference).norm() < 0.02 * reference.norm()


@pytest.mark.parametrize("key_heads", [2, 16])
def test_packed_rows_in_torchs_own_kernel(key_heads):
    segments = torch.tensor([[1] * 100 + [2] * 300 + [0] * 112, [1] * 511 + [2]], device="cuda")
    generator = torch.Generator("cuda").manual_seed(0)
    shapes = [(2, 16, 512, 128), (2, key_heads, 512, 128), (2, key_heads, 512, 128)]
    qkv = [torch.randn(s, device="cuda", generator=generator, requires_grad=True) for s in shapes]
    half = [x.detach().bfloat16().requires_grad_() for x in qkv]
    real = (segments > 0)[:, None, :, None]
    up = torch.randn(shapes[0], device="cuda", generator=generator) * real
    slow = PackedAttention(segments, "loop").attend(0, *qkv, scale=128**-0.5)
    fast = PackedAttention(segments, "torch").attend(0, *half, scale=128**-0.5)
    assert ((fast.float() - slow) * real).norm() < 0.01 * (slow * real).norm()
    theirs = torch.autograd.grad((slow * up).sum(), qkv)
    ours = torch.autograd.grad((fast.float() * up).sum(), half)
    for mine, reference in zip(ours, theirs, strict=True):
        assert (mine.float() - reference).norm() < 0.02 * reference.norm()
