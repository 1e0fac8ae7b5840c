"""The decoder against transformers: values, and what it launches."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from conftest import prompt, prompt_batch, tiny_backbone
from stock import stock_logprobs
from torch.utils._python_dispatch import TorchDispatchMode

from fgvr.kernels import token_logprobs
from fgvr.kernels.group_packing import join_images, pack_groups
from fgvr.kernels.token_logprobs import next_token_logprobs
from fgvr.models import LoRA, PixelBudget, Policy, PolicyConfig, decoder
from fgvr.models.sampling import Sampling
from fgvr.models.writing import BLOCK, Page
from fgvr.rollouts import InProcess

FAMILIES = ["qwen2_5_vl", "qwen3_vl"]
ADAPTERS = {
    "none": None,
    "lora": LoRA(rank=4, alpha=8.0),
    "dora": LoRA(rank=4, alpha=8.0, targets=("q_proj", "v_proj", "up_proj", "down_proj"), rslora=True, dora=True),
}
SEEDS = (11, 12, 13)


def policy_of(family: str, adapters: str = "none", tied: bool = False, rope: Any = None, layers: int = 2) -> Policy:
    """A tiny policy, every weight of which says something, biases, norms and adapters too."""
    backbone = tiny_backbone(family, layers=layers)
    config: Any = backbone.config()
    config.text_config.rope_parameters |= rope or {}
    config.tie_word_embeddings = config.text_config.tie_word_embeddings = tied
    backbone.config = lambda: config
    pixels = PixelBudget(28 * 28, 84 * 84)
    policy = Policy(PolicyConfig(backbone, pixels, lora=ADAPTERS[adapters]), backbone.processor(pixels))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in policy.named_parameters():
            if "lora_B" in name or "bias" in name or "norm" in name or "magnitude" in name:
                parameter += 0.2 * torch.randn(parameter.shape, generator=generator)
    assert (policy.base.lm_head.weight is policy.base.model.language_model.embed_tokens.weight) == tied
    return policy


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("adapters", ADAPTERS)
@pytest.mark.parametrize("tied", [False, True])
def test_log_probs_are_those_of_transformers(family, adapters, tied):
    policy = policy_of(family, adapters, tied).eval()
    before = {name: value.clone() for name, value in policy.state_dict().items()}
    groups = InProcess().sample(policy, prompt_batch(policy), Sampling(3, 1.3, 20), SEEDS)
    assert len({len(group.prompt.input_ids) for group in groups}) == 3
    for group in groups:
        for completion in group.completions:
            expected = stock_logprobs(policy, group.prompt, completion.ids, 1.3)
            assert (completion.logprobs - expected).abs().max() < 1e-5
    assert all(torch.equal(before[name], value) for name, value in policy.state_dict().items())


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("rope", [{"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}])
def test_scaled_rotary_embeddings_are_the_models_own(family, rope):
    policy = policy_of(family, rope=rope).eval()
    assert policy.base.model.language_model.rotary_emb.attention_scaling > 1
    (group,) = InProcess().sample(policy, prompt_batch(policy, [(1, 84)]), Sampling(2, 1.0, 20), (3,))
    for completion in group.completions:
        assert (completion.logprobs - stock_logprobs(policy, group.prompt, completion.ids, 1.0)).abs().max() < 1e-5


def test_without_its_adapters_it_is_the_base():
    policy = policy_of("qwen2_5_vl", "lora").eval()
    hidden = torch.randn(2, 64)
    with policy.adapters_off():
        (group,) = InProcess().sample(policy, prompt_batch(policy, [(1, 84)]), Sampling(2, 1.0, 9), (3,))
        expected = [stock_logprobs(policy, group.prompt, c.ids, 1.0) for c in group.completions]
    for completion, stock in zip(group.completions, expected, strict=True):
        assert (completion.logprobs - stock).abs().max() < 1e-5
        assert (stock - stock_logprobs(policy, group.prompt, completion.ids, 1.0)).abs().max() > 1e-3
    assert policy.decoder().scores(hidden).shape == (2, policy.base.config.text_config.vocab_size)


def test_while_weights_stay_a_decoder_is_shared_by_those_who_ask_in_one_precision():
    policy = policy_of("qwen2_5_vl").eval()
    policy.weights_stay(True)
    whole = policy.decoder()
    with torch.autocast("cpu", torch.bfloat16):
        half = policy.decoder()
    assert (whole.dtype, half.dtype) == (torch.float32, torch.bfloat16)
    assert whole is policy.decoder()
    policy.weights_stay(False)
    assert whole is not policy.decoder()


def test_scores_are_those_of_the_slow_twin():
    policy = policy_of("qwen3_vl").eval()
    hidden = torch.randn(5, 64)
    plain = next_token_logprobs(hidden, policy.base.lm_head.weight, policy.suppression, 0.6)
    assert (policy.decoder().scores(hidden, 0.6).log_softmax(-1) - plain).nan_to_num(0).abs().max() < 1e-5


@torch.no_grad()
def drawn_and_trained(policy: Policy) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probs of the same completions, as they are sampled and as they are learned from."""
    groups = InProcess().sample(policy, prompt_batch(policy), Sampling(8, 0.7, 16), SEEDS)
    completions = [[c.ids for c in group.completions] for group in groups]
    rows = pack_groups([group.prompt for group in groups], completions, [None] * len(groups), 0)
    return torch.cat([c.logprobs for group in groups for c in group.completions]), policy.completion_logprobs(
        rows, 0.7
    )[0]


def test_sampler_and_trainer_read_one_head_in_bfloat16_too(monkeypatch: pytest.MonkeyPatch):
    policy, hidden = policy_of("qwen2_5_vl").eval(), 4 * torch.randn(9, 64)
    with torch.no_grad():
        policy.base.lm_head.weight *= 8
    for kernel in (decoder, token_logprobs):
        monkeypatch.setattr(kernel, "head_dtype", lambda states: torch.bfloat16)
    weight, targets = policy.base.lm_head.weight, torch.arange(9)
    logp, _ = token_logprobs.token_logprobs_and_entropy(hidden, weight, targets, policy.suppression, 0.7)
    scores = policy.decoder().scores(hidden, 0.7)
    assert scores.dtype == torch.float32
    torch.testing.assert_close(scores.log_softmax(-1)[targets, targets], logp, rtol=1e-6, atol=1e-5)
    drawn, trained = drawn_and_trained(policy)
    together = (drawn - trained).abs().mean()
    monkeypatch.setattr(token_logprobs, "head_dtype", lambda states: states.dtype)
    drawn, trained = drawn_and_trained(policy)
    assert together < 0.1 * (drawn - trained).abs().mean()


@pytest.mark.parametrize("family", FAMILIES)
def test_large_key_biases_do_not_round_attention_scores_away(family):
    # Qwen2.5's keys have biases of some hundreds: scores of hundreds, rounded to bfloat16, would be off by whole units
    policy = policy_of(family).eval()
    for layer in policy.base.model.language_model.layers:
        attention, generator = layer.self_attn, torch.Generator().manual_seed(1)
        if attention.k_proj.bias is not None:
            with torch.no_grad():
                attention.k_proj.bias.copy_(600 * torch.rand(attention.k_proj.bias.shape, generator=generator) - 300)
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        groups = InProcess().sample(policy, prompt_batch(policy), Sampling(8, 1.0, 16), SEEDS)
        completions = [[c.ids for c in group.completions] for group in groups]
        with torch.no_grad():
            trained, _ = policy.completion_logprobs(pack_groups([g.prompt for g in groups], completions, [None] * 3, 0))
    sampled = torch.cat([c.logprobs for group in groups for c in group.completions])
    assert (trained - sampled).abs().mean() < 0.004


class Watching(TorchDispatchMode):
    """Every operation on a device: its name and the shapes of what it reads. Views and allocations are none."""

    NONE = ("empty", "empty_like", "_unsafe_view", "detach", "_reshape_alias")

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[str, list[torch.Size]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.__name__.split(".")[0]
        if not func.is_view and name not in self.NONE:
            self.calls.append((name, [x.shape for x in args if isinstance(x, torch.Tensor)]))
        return func(*args, **(kwargs or {}))


def page_of(policy: Policy, group: int) -> Page:
    """Two prompts, read, of which the second has two images; 40 tokens are to be written."""
    prompts = [prompt(policy, images, seed=images) for images in (1, 2)]
    features = policy.image_features(join_images([one.images for one in prompts]))
    with torch.no_grad():
        drawn = torch.rand(2, group, 40, dtype=torch.float64)
        return Page(policy.decoder(), policy.read(prompts, features), Sampling(group, 1.0, 40), drawn)


def steps(policy: Policy, group: int, count: int, half: bool = False) -> Watching:
    """What `count` steps of a page launch."""
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        page = page_of(policy, group)
    page.cache.read_up_to(BLOCK)
    with torch.no_grad(), Watching() as seen:
        for _ in range(count):
            page.step()
    return seen


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("half", [False, True])
def test_a_layer_launches_few_operations_with_adapters_as_without(family, half):
    counts = {
        adapters: [len(steps(policy_of(family, adapters, layers=layers).eval(), 2, 1, half).calls) for layers in (1, 3)]
        for adapters in ADAPTERS
    }
    assert len({tuple(count) for count in counts.values()}) == 1
    (one, three), *_ = counts.values()
    assert (three - one) / 2 <= 28 + 2 * half  # what is computed in half precision is cast to it and back
    assert one - (three - one) / 2 <= 40  # embedding, last norm, head and draw


@pytest.mark.parametrize("family", FAMILIES)
def test_no_operation_waits_for_a_value_or_has_a_shape_that_depends_on_one(family):
    seen = steps(policy_of(family).eval(), 3, BLOCK - 1)
    names = Counter(name for name, _ in seen.calls)
    waiting = {"_local_scalar_dense", "item", "nonzero", "index", "index_put_", "masked_select", "unique", "equal"}
    assert not waiting & set(names)
    per_step = len(seen.calls) / (BLOCK - 1)
    assert per_step.is_integer()  # the same at every step
    first, second = seen.calls[: int(per_step)], seen.calls[int(per_step) : 2 * int(per_step)]
    assert first == second  # shapes too


def test_under_autocast_no_token_casts_a_weight():
    policy = policy_of("qwen2_5_vl", "lora").eval()
    seen = steps(policy, 3, 1, half=True)
    cast = {shape for name, shapes in seen.calls if name in ("_to_copy", "copy_") for shape in shapes}
    assert cast
    assert cast.isdisjoint(weight.shape for weight in policy.parameters())
    assert cast.isdisjoint(weight.T.shape for weight in policy.parameters() if weight.ndim == 2)
