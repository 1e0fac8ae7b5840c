import math

import pytest
import torch

from fgvr.kernels.attention import masked_attention
from fgvr.kernels.group_decoding import ContinuedCache, GroupCache, PromptCache, in_pairs, of_length_one, product, turn_

B, K, Q, S, D, L = 2, 2, 3, 4, 8, 20
LENGTHS = (7, 5)
SCALE = 0.3


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def read() -> PromptCache:
    """Prompts of two lengths, as a layer reads them."""
    cache = PromptCache(torch.tensor(LENGTHS))
    cache.attend(0, random(B, K * Q, 7, D), random(B, K, 7, D, seed=1), random(B, K, 7, D, seed=2), SCALE)
    return cache


def answer_alone(query, prompt: int, slot: int, own, place: int) -> torch.Tensor:
    """One completion's answer over its prompt without padding and its own tokens, by torch's attention."""
    seen = in_pairs(random(B, K, 7, D, seed=1)), random(B, K, 7, D, seed=2)
    keys, values = (
        torch.cat([before[prompt, :, : LENGTHS[prompt]], mine[prompt, slot, :, : place + 1]], 1)[None]
        for before, mine in zip(seen, own, strict=True)
    )
    everything = torch.ones(1, 1, dtype=torch.bool)
    return masked_attention(query[prompt, :, slot].reshape(1, K * Q, 1, D), keys, values, everything, SCALE)


@pytest.mark.parametrize("reach", [6, 16, L])
@pytest.mark.parametrize("cut", [False, True])
def test_an_answer_is_attention_over_the_prompt_and_what_has_been_written(reach, cut):
    cache, own = GroupCache(read(), S, L), random(2, B, S, K, L, D)  # keys and values of every token
    cache.read_up_to(reach)
    prompts, slots = torch.arange(B), torch.arange(S).expand(B, S)
    for place in range(6):
        if cut and place == 3:
            prompts, slots = torch.tensor([1]), torch.tensor([[3, 0]])
            cache.keep(prompts, slots)
        at, step = (prompts[:, None], slots), torch.tensor([place])
        cache.write(0, step, own[(slice(None), *at)][..., place, :].permute(1, 2, 0, 3, 4))
        query = random(B, K, S, Q, D, seed=place)
        asking = query.transpose(1, 2)[at].transpose(1, 2)
        answers = cache.attend(0, asking, cache.masked_at(step), SCALE)
        for row, prompt in enumerate(prompts.tolist()):
            for column, slot in enumerate(slots[row].tolist()):
                expected = answer_alone(query, prompt, slot, own, place)
                torch.testing.assert_close(answers[row, :, column].flatten(), expected.flatten())


def test_rotary_embeddings_by_hand_and_as_transformers_turns_them():
    # (1, 2) turned by 90 degrees is (-2, 1); in a head of width 4 the values 0 and 2 are a pair, and 1 and 3
    quarter = torch.tensor([1j, 1], dtype=torch.complex128)
    pairs = in_pairs(torch.tensor([1.0, 5.0, 2.0, 6.0], dtype=torch.float64))
    assert pairs.tolist() == [1, 2, 5, 6]
    turn_(pairs, quarter)
    assert pairs.tolist() == [-2, 1, 5, 6]
    x, angles = random(3, D), random(3, D // 2, seed=1)
    half = torch.cat([-x[:, D // 2 :], x[:, : D // 2]], -1)
    plain = x * angles.cos().repeat(1, 2) + half * angles.sin().repeat(1, 2)
    turned = in_pairs(x)
    turn_(turned, torch.polar(torch.ones_like(angles), angles))
    torch.testing.assert_close(turned, in_pairs(plain))


def test_a_vector_of_length_one_is_an_rms_norm_but_for_a_factor():
    x, eps = random(5, D), 1e-3
    floor = torch.tensor(math.sqrt(D * eps), dtype=torch.float64)
    plain = torch.nn.functional.rms_norm(x, (D,), None, eps)
    torch.testing.assert_close(of_length_one(x, floor) * math.sqrt(D), plain)
    assert of_length_one(torch.zeros(1, D), torch.tensor(0.1)).eq(0).all()
    # of 3 and 4 with a floor of 12 the length is 13
    small = of_length_one(torch.tensor([[3.0, 4.0]]), torch.tensor(12.0))
    torch.testing.assert_close(small, torch.tensor([[3 / 13, 4 / 13]]))


def test_a_product_adds_scales_and_multiplies():
    left, right, more = random(2, 3, 4), random(2, 4, 5), random(2, 1, 5)
    torch.testing.assert_close(product(left, right), left @ right)
    torch.testing.assert_close(product(left, right, more, 0.5), more + 0.5 * (left @ right))


def test_keys_read_under_autocast_are_rounded_once_and_scores_never():
    cache = PromptCache(torch.tensor(LENGTHS))
    keys = random(B, K, 7, D, seed=1).float() + 300
    with torch.autocast("cpu", torch.bfloat16):
        cache.attend(0, random(B, K * Q, 7, D).float(), keys, keys, SCALE)
    kept, _ = cache.layers[0]
    assert kept.dtype == torch.float32
    assert torch.equal(kept, in_pairs(keys.bfloat16().float()))
    assert kept.is_contiguous()


def test_reading_on_is_reading_the_whole():
    """Rows that go on behind beginnings of two prompts, of other lengths, against the same rows read in one go."""
    before, of, shared, own = read(), [1, 0, 1], [3, 7, 5], [2, 4, 1]
    keys, values = random(B, K, 7, D, seed=1), random(B, K, 7, D, seed=2)
    asking, more_keys, more_values = (
        random(3, heads, max(own), D, seed=seed) for heads, seed in ((K * Q, 3), (K, 4), (K, 5))
    )
    cache = ContinuedCache(before, of, shared, own)
    answers = cache.attend(0, asking, more_keys, more_values, SCALE)
    assert cache.lengths.tolist() == [5, 11, 6]
    for row in range(3):
        start, count = shared[row], own[row]
        whole_keys, whole_values = (
            torch.cat([x[of[row], :, :start], more[row, :, :count]], 1)
            for x, more in ((keys, more_keys), (values, more_values))
        )
        seen = torch.ones(count, start + count, dtype=torch.bool).tril(start)[None, None]
        query = asking[row, None, :, :count]
        expected = masked_attention(query, whole_keys[None], whole_values[None], seen, SCALE)[0]
        torch.testing.assert_close(answers[row, :, :count], expected)
        kept_keys, kept_values = (x[row, :, : start + count] for x in cache.layers[0])
        torch.testing.assert_close(kept_keys, in_pairs(whole_keys))
        torch.testing.assert_close(kept_values, whole_values)
