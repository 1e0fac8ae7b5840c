from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from fgvr.kernels.attention import PackedAttention, spans_of, varlen_attention
from fgvr.kernels.packing import block_causal_mask
from fgvr.kernels.prefix_attention import (
    BLOCK,
    FlexPrefix,
    SortedPrefix,
    SplitPrefix,
    prefix_attention,
    prefix_mask,
)

GROUPS = st.lists(st.tuples(st.integers(1, 9), st.lists(st.integers(1, 6), max_size=4)), min_size=1, max_size=3)


def segments_of(groups) -> torch.Tensor:
    width = max(prompt + sum(lengths) for prompt, lengths in groups)
    out = torch.full((len(groups), width), -1)
    for row, (prompt, lengths) in enumerate(groups):
        numbers = [0] * prompt + [g for g, n in enumerate(lengths, 1) for _ in range(n)]
        out[row, : len(numbers)] = torch.tensor(numbers)
    return out


def random_qkv(rows: int, width: int, heads: int = 4, key_heads: int = 2, seed: int = 0) -> Any:
    generator = torch.Generator().manual_seed(seed)
    shapes = [(rows, heads, width, 8), (rows, key_heads, width, 8), (rows, key_heads, width, 8)]
    return [torch.randn(s, dtype=torch.float64, generator=generator, requires_grad=True) for s in shapes]


def one_by_one(groups, qkv, scale: float) -> torch.Tensor:
    """Each completion alone behind a copy of its prompt, with plain softmax: nothing shared, nothing masked away."""
    q, k, v = qkv
    times = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(times, 1), v.repeat_interleave(times, 1)
    out = torch.zeros_like(q)
    for row, (prompt, lengths) in enumerate(groups):
        start = prompt
        for number, length in enumerate([0, *lengths]):
            places = [*range(prompt), *(range(start, start + length) if number else ())]
            scores = q[row, :, places] @ k[row, :, places].transpose(-1, -2) * scale
            upper = torch.ones(len(places), len(places), dtype=torch.bool).triu(1)
            weights = scores.masked_fill(upper, -torch.inf).softmax(-1)
            out = out.clone()
            out[row, :, places] = weights @ v[row, :, places]
            start += length if number else 0
    return out


def test_the_mask_by_hand():
    # prompt a b, completions c d and e, one padding: c sees a b c; d sees a b c d; e sees a b e; padding sees itself
    expected = ["100000", "110000", "111000", "111100", "110010", "000001"]
    mask = prefix_mask(torch.tensor([[0, 0, 1, 1, 2, -1]]))[0, 0]
    assert ["".join(str(int(x)) for x in row) for row in mask] == expected


@pytest.mark.parametrize("backend", ["dense", "split", "varlen"])
@given(groups=GROUPS, key_heads=st.sampled_from([1, 2, 4]))
@settings(deadline=None)
def test_every_backend_equals_one_completion_at_a_time(backend, groups, key_heads):
    segments = segments_of(groups)
    qkv = random_qkv(*segments.shape, key_heads=key_heads)
    real = (segments >= 0)[:, None, :, None]
    up = torch.randn(qkv[0].shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * real
    plan = prefix_attention(segments, backend, "loop")
    fast, slow = plan.attend(0, *qkv, scale=0.3) * real, one_by_one(groups, qkv, 0.3)
    torch.testing.assert_close(fast, slow, rtol=1e-12, atol=1e-12)
    ours, theirs = (torch.autograd.grad((out * up).sum(), qkv) for out in (fast, slow))
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


UNEVEN = [(3, [1, 9, 2]), (5, [4]), (2, [1, 1, 1, 1, 2])]
ALL_WITH_COMPLETIONS = st.lists(
    st.tuples(st.integers(1, 9), st.lists(st.integers(1, 9), min_size=1, max_size=4)), min_size=1, max_size=4
)


@given(groups=ALL_WITH_COMPLETIONS, key_heads=st.sampled_from([1, 2, 4]))
@settings(deadline=None)
def test_completions_sorted_by_length_attend_as_before(groups, key_heads):
    segments = segments_of(groups)
    qkv = random_qkv(*segments.shape, key_heads=key_heads)
    real = (segments >= 0)[:, None, :, None]
    fast, slow = SortedPrefix(segments).attend(0, *qkv, scale=0.3) * real, one_by_one(groups, qkv, 0.3)
    torch.testing.assert_close(fast, slow, rtol=1e-12, atol=1e-12)
    up = torch.randn(qkv[0].shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    ours, theirs = (torch.autograd.grad((out * up).sum(), qkv) for out in (fast, slow))
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_one_rambling_completion_does_not_widen_the_others():
    # 7 completions of 16 tokens and one of 400: as wide as it they would be 8 x 400 = 3,200 tokens for 512
    segments = segments_of([(160, [16] * 7 + [400])])
    plan = prefix_attention(segments, "split")
    assert isinstance(plan, SortedPrefix)
    assert [tuple(alike.places.shape) for alike in plan.alike] == [(1, 400), (7, 16)]
    # of like length, or nearly, all go together as ever
    assert isinstance(prefix_attention(segments_of([(160, [16] * 7 + [30])]), "split"), SplitPrefix)


@given(lengths=st.lists(st.integers(1, 300), min_size=1, max_size=16))
def test_less_than_half_of_what_is_computed_for_completions_is_padding(lengths):
    computed = sum(alike.places.numel() for alike in SortedPrefix(segments_of([(1, lengths)])).alike)
    assert computed < 2 * sum(lengths)


@given(groups=ALL_WITH_COMPLETIONS)
@settings(deadline=None, max_examples=20)
def test_groups_in_one_row_are_kept_apart(groups):
    segments = segments_of(groups)
    qkv = random_qkv(*segments.shape)
    real = segments >= 0
    flat = [x.detach().transpose(0, 1)[:, real][None].requires_grad_() for x in qkv]
    fast = prefix_attention(segments[real][None], "varlen", "loop").attend(0, *flat, scale=0.3)
    slow = one_by_one(groups, qkv, 0.3).transpose(0, 1)[:, real][None]
    torch.testing.assert_close(fast, slow, rtol=1e-12, atol=1e-12)
    up = torch.randn(fast.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    ours, theirs = torch.autograd.grad((fast * up).sum(), flat), torch.autograd.grad((slow * up).sum(), qkv)
    for mine, reference in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, reference.transpose(0, 1)[:, real][None], rtol=1e-11, atol=1e-11)


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@given(groups=GROUPS)
@settings(deadline=None, max_examples=15)
def test_flex_has_the_same_values(groups):
    segments = segments_of(groups)
    qkv = [x.detach() for x in random_qkv(*segments.shape)]
    real = (segments >= 0)[:, None, :, None]
    ours, theirs = (prefix_attention(segments, how).attend(0, *qkv, scale=0.3) for how in ("flex", "dense"))
    torch.testing.assert_close(ours * real, theirs * real, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("groups", [[(3, [2, 1]), (5, [4, 4])], UNEVEN])
@pytest.mark.parametrize("backend", ["dense", "split", "varlen"])
def test_padding_moves_nothing_and_gets_no_gradient(backend, groups):
    segments = segments_of(groups)
    q, k, v = random_qkv(*segments.shape)
    pad = (segments < 0)[:, None, :, None]
    plan = prefix_attention(segments, backend, "loop")
    clean = plan.attend(0, q, k, v, 1.0)
    dirty = plan.attend(0, *(torch.where(pad, 1e3, x) for x in (q, k, v)), scale=1.0)
    torch.testing.assert_close(clean * ~pad, dirty * ~pad, rtol=0, atol=0)
    for grad in torch.autograd.grad((clean * ~pad).sum(), (q, k, v)):
        assert not (grad * pad).any()


@pytest.mark.parametrize("backend", ["split", "varlen"])
def test_gradcheck(backend):
    segments = segments_of([(2, [2, 1])])
    qkv = random_qkv(*segments.shape, heads=2, key_heads=1)
    plan = prefix_attention(segments, backend, "loop")
    assert torch.autograd.gradcheck(lambda *x: plan.attend(0, *x, scale=0.5), qkv)


def test_the_last_query_stands_beside_the_last_key():
    # one query and two keys with value 0 and 1, all scores equal: it sees both, so the mean 1/2
    one, two = torch.zeros(1, 1, 2), torch.zeros(2, 1, 2)
    value = torch.tensor([[[0.0, 0.0]], [[1.0, 1.0]]])
    out = varlen_attention(one, two, value, spans_of([1], [2], torch.device("cpu")), 1.0, "loop")
    torch.testing.assert_close(out, torch.full((1, 1, 2), 0.5))


@given(rows=st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=4), min_size=1, max_size=3))
@settings(deadline=None)
def test_packed_rows_equal_the_masked_reference(rows):
    width = max(sum(row) for row in rows) + 1
    segments = torch.zeros(len(rows), width, dtype=torch.long)
    for r, row in enumerate(rows):
        segments[r, : sum(row)] = torch.repeat_interleave(torch.arange(1, len(row) + 1), torch.tensor(row))
    q, k, v = random_qkv(*segments.shape, heads=2)
    real = (segments > 0)[:, None, :, None]
    fast = PackedAttention(segments, "loop").attend(0, q, k, v, 0.4) * real
    mask = block_causal_mask(segments)
    slow = torch.nn.functional.scaled_dot_product_attention(q, k, v, mask, scale=0.4) * real
    torch.testing.assert_close(fast, slow, rtol=1e-12, atol=1e-12)
    ours, theirs = (torch.autograd.grad(out.square().sum(), (q, k, v), retain_graph=True) for out in (fast, slow))
    torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-12)


BLOCKS_WIDE = st.lists(
    st.tuples(st.integers(1, 300), st.lists(st.integers(1, 280), max_size=4)), min_size=1, max_size=2
)


@given(groups=BLOCKS_WIDE)
@settings(deadline=None, max_examples=40)
def test_flex_looks_at_the_blocks_that_the_whole_mask_has(groups):
    segments = segments_of(groups)
    mask = prefix_mask(segments)
    rows, width = segments.shape
    blocks = -(-width // BLOCK)
    room = torch.zeros(rows, 1, blocks * BLOCK, blocks * BLOCK, dtype=torch.bool)
    room[..., :width, :width] = mask
    tiles = room.unflatten(-1, (blocks, BLOCK)).unflatten(-3, (blocks, BLOCK))  # [R 1 B BLOCK B BLOCK]
    seen, every = tiles.any(-1).any(-2), tiles.all(-1).all(-2)
    plan = FlexPrefix(segments).blocks
    assert torch.equal(plan.to_dense().bool(), seen)
    assert plan.full_kv_num_blocks is not None
    assert plan.full_kv_indices is not None
    full = torch.zeros_like(every)
    for row in range(rows):
        for query in range(blocks):
            count = plan.full_kv_num_blocks[row, 0, query]
            full[row, 0, query, plan.full_kv_indices[row, 0, query, :count].long()] = True
    assert torch.equal(full, every)
    at = [x.flatten() for x in torch.meshgrid(*(torch.arange(n) for n in (rows, width, width)), indexing="ij")]
    assert torch.equal(plan.mask_mod(at[0], at[0], at[1], at[2]).view(rows, width, width), mask[:, 0])


class Largest(TorchDispatchMode):
    """Remembers how many elements the largest tensor had that was made within it."""

    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for one in out if isinstance(out, tuple | list) else [out]:
            if isinstance(one, torch.Tensor):
                self.elements = max(self.elements, one.numel())
        return out


def test_flex_makes_nothing_of_the_size_of_the_mask():
    segments = segments_of([(700, [200] * 6), (650, [180] * 7)])
    with Largest() as made:
        FlexPrefix(segments)
    assert 0 < made.elements <= 2 * segments.numel()
