"""One forward over [prompt | completions] against one row per completion: log-probs, entropies and gradients."""

from functools import cache

import pytest
import torch
from conftest import prompt, prompt_batch, tiny_policy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fgvr.kernels.group_packing import join_images, one_row_per_completion, pack_groups, split_features
from fgvr.kernels.token_logprobs import next_token_logprobs
from fgvr.models import LoRA

GROUPS = st.lists(
    st.tuples(st.integers(1, 3), st.sampled_from([56, 84, 140]), st.lists(st.integers(1, 9), min_size=1, max_size=4)),
    min_size=1,
    max_size=3,
)
OPTIONS = {
    "whole": {},
    "frozen tower": {"freeze": ("vision", "projector")},
    "lora": {"lora": LoRA(rank=4, alpha=8.0)},
    "lora, checkpointed": {"lora": LoRA(rank=4, alpha=8.0), "gradient_checkpointing": True},
    "tower with lora": {"lora": LoRA(rank=2, alpha=8.0, targets=("q_proj", "qkv", "proj"), exclude_vision=False)},
    "checkpointed": {"gradient_checkpointing": True},
}


@cache
def policy_of(family: str, options: str, double: bool = False):
    torch.manual_seed(0)
    policy = tiny_policy(family, **OPTIONS[options])
    for name, parameter in policy.named_parameters():
        if "lora_B" in name:  # which starts at 0, where adapters do nothing
            torch.nn.init.normal_(parameter, std=0.1)
    return policy.double() if double else policy


def fill(policy, groups, seed: int = 0):
    """Prompts of so many images of such a width, and completions of random ids that hold no vision token."""
    generator = torch.Generator().manual_seed(seed)
    words = torch.tensor([i for i in range(300) if i not in policy.processor.vision_token_ids])
    prompts = [prompt(policy, images, seed=i, width=width) for i, (images, width, _) in enumerate(groups)]
    completions = [[words[torch.randint(len(words), (n,), generator=generator)] for n in g] for *_, g in groups]
    return prompts, completions


def learned(policy, rows, temperature: float = 1.0):
    policy.zero_grad()
    logp, entropy = policy.completion_logprobs(rows, temperature)
    upstream = torch.linspace(-1, 1, len(logp), dtype=logp.dtype)
    ((logp * upstream).sum() + 0.3 * (entropy * upstream).sum()).backward()
    gradients = [p.grad.flatten() for _, p in policy.trainable() if p.grad is not None]
    return logp.detach(), entropy.detach(), torch.cat(gradients)


def assert_alike(ours, theirs, values: float, gradient: float):
    for mine, reference in zip(ours[:2], theirs[:2], strict=True):
        assert (mine - reference).abs().max() <= values
    assert (ours[2] - theirs[2]).norm() <= gradient * theirs[2].norm()


@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen3_vl"])
@pytest.mark.parametrize("options", OPTIONS)
@given(groups=GROUPS, backend=st.sampled_from(["split", "dense", "varlen"]), temperature=st.sampled_from([1.0, 0.7]))
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_sharing_the_prompt_changes_nothing(family, options, groups, backend, temperature):
    policy = policy_of(family, options)
    prompts, completions = fill(policy, groups)
    carried = [None] * len(prompts)
    if policy.fixed_features:
        counts = [int((p.input_ids == policy.processor.image_token).sum()) for p in prompts]
        features = policy.image_features(join_images([p.images for p in prompts]))
        carried = split_features(features, counts)
    rows = pack_groups(prompts, completions, carried, policy.processor.padding_token)
    assert (rows.images is None) == policy.fixed_features
    policy.prefix_backend, policy.varlen = backend, "loop"
    ours = learned(policy, rows, temperature)
    policy.prefix_backend = "dense"
    theirs = learned(policy, one_row_per_completion(prompts, completions, 0), temperature)
    assert_alike(ours, theirs, 1e-5, 1e-5)


@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen3_vl"])
@pytest.mark.parametrize("backend", ["split", "dense", "varlen"])
def test_in_float64_what_is_left_is_the_norms_float32(family, backend):
    policy = policy_of(family, "whole", double=True)
    prompts, completions = fill(policy, [(1, 84, [3, 5, 1]), (2, 56, [4])])
    policy.prefix_backend, policy.varlen = backend, "loop"
    ours = learned(policy, pack_groups(prompts, completions, [None, None], 0))
    policy.prefix_backend = "dense"
    theirs = learned(policy, one_row_per_completion(prompts, completions, 0))
    assert_alike(ours, theirs, 1e-6, 1e-6)


def test_without_padding_everything_is_computed_in_one_row():
    policy = policy_of("qwen2_5_vl", "whole")
    prompts, completions = fill(policy, [(1, 84, [3, 5, 1]), (2, 56, [40])])
    rows = pack_groups(prompts, completions, [None, None], 0)
    seen: list[tuple[int, ...]] = []
    layer = policy.base.model.language_model.layers[0].mlp
    handle = layer.register_forward_hook(lambda module, given, out: seen.append(tuple(given[0].shape[:2])))
    policy.varlen = "loop"
    for backend in ("split", "varlen"):
        policy.prefix_backend = backend
        policy.completion_logprobs(rows)
    handle.remove()
    assert seen == [tuple(rows.segments.shape), (1, int((rows.segments >= 0).sum()))]
    assert seen[0][0] * seen[0][1] > seen[1][1]


def test_each_part_of_a_group_stands_where_it_should():
    policy = policy_of("qwen2_5_vl", "whole")
    prompts, completions = fill(policy, [(1, 84, [2, 3])])
    rows = pack_groups(prompts, completions, [None], 7)
    length, after = len(prompts[0].input_ids), int(prompts[0].positions.max()) + 1
    assert rows.segments.tolist() == [[0] * length + [1] * 2 + [2] * 3]
    # both completions start where the prompt's positions end, on all three axes
    assert rows.positions[:, 0, length:].tolist() == [[after, after + 1, after, after + 1, after + 2]] * 3
    # the prompt's last token predicts both first tokens; then each token the next of its own completion
    assert rows.target_index.tolist() == [length - 1, length, length - 1, length + 2, length + 3]
    assert rows.target_ids.tolist() == torch.cat(completions[0]).tolist()
    assert rows.target_sequence.tolist() == [0, 0, 1, 1, 1]


def test_a_completion_without_tokens_is_refused():
    policy = policy_of("qwen2_5_vl", "whole")
    prompts, _ = fill(policy, [(1, 84, [1])])
    with pytest.raises(ValueError, match="at least one token"):
        pack_groups(prompts, [[torch.zeros(0, dtype=torch.long)]], [None], 0)


def test_features_of_other_images_are_refused():
    policy = policy_of("qwen2_5_vl", "frozen tower")
    prompts, completions = fill(policy, [(1, 84, [2])])
    others = policy.image_features(prompt(policy, 2, width=140).images)
    with pytest.raises(ValueError, match="as many image tokens as the tower gives features, got 9 and 12"):
        policy.completion_logprobs(pack_groups(prompts, completions, [others], 0))


def test_vision_tokens_have_no_probability_and_temperature_flattens():
    policy = policy_of("qwen2_5_vl", "whole").eval()
    prompts, completions = fill(policy, [(1, 84, [6])])
    rows = pack_groups(prompts, completions, [None], 0)
    _, cold = policy.completion_logprobs(rows, 0.5)
    _, warm = policy.completion_logprobs(rows, 2.0)
    assert (warm > cold).all()
    spoken = torch.tensor(policy.processor.vision_token_ids)
    hidden = torch.randn(4, 64)
    for temperature in (1.0, 0.5, 2.0):
        drawn = policy.decoder().scores(hidden, temperature).log_softmax(-1)
        assert drawn[:, spoken].isneginf().all()
        plain = next_token_logprobs(hidden, policy.base.lm_head.weight, policy.suppression, temperature)
        torch.testing.assert_close(drawn, plain, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen3_vl"])
def test_several_prompts_are_cut_out_of_a_batch_as_they_went_in(family):
    policy = policy_of(family, "whole")
    batch = prompt_batch(policy)
    for row, (images, width) in enumerate([(1, 84), (2, 112), (1, 140)]):
        alone = prompt(policy, images, seed=row, width=width)
        again = batch.prompt(row)
        assert torch.equal(again.input_ids, alone.input_ids)
        assert torch.equal(again.positions, alone.positions)
        assert torch.equal(again.images.patches, alone.images.patches)


def test_the_gradient_is_the_same_every_time_to_the_last_bit():
    policy = policy_of("qwen2_5_vl", "whole")
    prompts, completions = fill(policy, [(1, 84, [12] * 300)])  # large enough for torch to spread the work
    rows = pack_groups(prompts, completions, [None], 0)
    policy.prefix_backend = "split"
    first, *others = [learned(policy, rows) for _ in range(6)]
    for other in others:
        assert all(torch.equal(mine, reference) for mine, reference in zip(other, first, strict=True))
