import copy
from collections.abc import Sequence

import pytest
import torch
from conftest import photo, prompt, sequenced, tiny_backbone, tiny_policy
from exported import noisy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fgvr.data.collate import PromptCollate, pack
from fgvr.errors import UserError
from fgvr.kernels.group_packing import common_prefix, join_features, join_images, split_features
from fgvr.kernels.token_logprobs import token_logprobs_reference
from fgvr.models import LoRA, Policy, PolicyConfig, Pretrained
from fgvr.models.sampling import Sampling
from fgvr.models.saved import policy_card
from fgvr.models.trained import rebuild
from fgvr.models.writing import ReadPrompts, Written
from fgvr.types import EncodedPrompt, Example, PackedRows, ReadRecord

TARGETS = (
    "<answer>Azure Finch</answer>",
    "<answer>Jade Owl</answer>",
    "Heron",
    "<answer>Crimson-browed Heron</answer> a",
)


def loss_and_gradients(policy, rows: PackedRows):
    policy.zero_grad()
    loss = -policy(rows).double().sum()
    loss.backward()
    return loss.detach(), torch.cat([p.grad.flatten().double() for _, p in policy.trainable() if p.grad is not None])


def relative(a, b):
    return float((a - b).norm() / b.norm())


@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen3_vl"])
@pytest.mark.parametrize(
    "options", [{}, {"gradient_checkpointing": True}, {"lora": LoRA(rank=4, alpha=8.0)}, {"freeze": ("vision",)}]
)
def test_packed_and_padded_rows_agree_in_float64(family, options):
    policy = tiny_policy(family, **options).double().train()
    items = [
        sequenced(policy, target, seed=i, images=1 + i % 2, width=84 + 28 * (i % 3)) for i, target in enumerate(TARGETS)
    ]
    pad = policy.processor.padding_token
    packed, packed_gradient = loss_and_gradients(policy, pack(items, [[0, 2, 3], [1]], pad))
    padded, padded_gradient = loss_and_gradients(policy, pack(items, [[0], [1], [2], [3]], pad))
    assert relative(packed, padded) < 1e-6
    assert relative(packed_gradient, padded_gradient) < 1e-6


@given(order=st.permutations(range(4)), cut=st.integers(1, 3))
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_how_rows_are_filled_never_changes_a_log_prob(order, cut):
    policy = tiny_policy().eval()
    items = [sequenced(policy, target, seed=i) for i, target in enumerate(TARGETS)]
    with torch.no_grad():
        alone = [policy(pack([item], [[0]], 0)) for item in items]
        together = policy(pack(items, [order[:cut], order[cut:]], 0))
    torch.testing.assert_close(together, torch.cat([alone[i] for i in order]), rtol=1e-5, atol=1e-5)


def test_log_probs_equal_stock_transformers():
    policy = tiny_policy().eval()
    item = sequenced(policy, TARGETS[0])
    marks = (item.input_ids == policy.processor.image_token).int()
    with torch.no_grad():
        logits = policy.base(
            input_ids=item.input_ids[None],
            mm_token_type_ids=marks[None],
            pixel_values=policy.processor.pixel_values(item.images),
            image_grid_thw=item.images.grid_thw,
        ).logits[0]
        ours = policy(pack([item], [[0]], 0))
    theirs = logits.log_softmax(-1)[:-1].gather(-1, item.input_ids[1:, None])[-item.targets :, 0]
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen3_vl"])
def test_packed_rows_without_padding_are_one_row_and_teach_the_same(family):
    policy = tiny_policy(family)
    items = [sequenced(policy, target, width=84 + 28 * n, seed=n) for n, target in enumerate(TARGETS)]
    rows = pack(items, [[0], list(range(1, len(items)))], policy.processor.padding_token)
    widths: list[tuple[int, ...]] = []
    layer = policy.base.model.language_model.layers[0].mlp
    layer.register_forward_hook(lambda module, given, out: widths.append(tuple(given[0].shape[:2])))
    logp, (_, slow) = policy(rows).detach(), loss_and_gradients(policy, rows)
    policy.packs_by, policy.varlen = "varlen", "loop"
    torch.testing.assert_close(policy(rows).detach(), logp, rtol=1e-5, atol=1e-5)
    assert relative(loss_and_gradients(policy, rows)[1], slow) <= 1e-5
    padded, flat = tuple(rows.segments.shape), (1, sum(len(item.input_ids) for item in items))
    assert widths == [padded, padded, flat, flat]


def test_only_target_tokens_reach_the_loss():
    policy = tiny_policy()
    item = sequenced(policy, TARGETS[0])
    rows = pack([item], [[0]], 0)
    assert rows.target_ids.tolist() == policy.processor.encode_target(TARGETS[0])
    hidden = policy.hidden_states(rows).flatten(0, 1)[rows.target_index]
    plain = token_logprobs_reference(hidden, policy.base.lm_head.weight, rows.target_ids)
    torch.testing.assert_close(policy(rows), plain, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen3_vl"])
def test_parts_freeze_separately(family):
    everything = {name for name, _ in tiny_policy(family).trainable()}
    left = {
        part: {name for name, _ in tiny_policy(family, freeze=(part,)).trainable()}
        for part in ("vision", "projector", "language")
    }
    frozen = {part: everything - names for part, names in left.items()}
    assert set.union(*frozen.values()) == everything
    assert sum(map(len, frozen.values())) == len(everything)
    assert all("merger" in name for name in frozen["projector"])
    assert not any("visual" in name for name in frozen["language"])


def test_a_pretrained_model_checkpoints_its_layers(tmp_path):
    first = tiny_policy()
    first.base.save_pretrained(tmp_path)
    first.processor.save(tmp_path)
    backbone = Pretrained(str(tmp_path))
    config = PolicyConfig(backbone, first.processor.pixels, lora=LoRA(rank=2), gradient_checkpointing=True)
    policy = Policy(config, first.processor)
    runs: list[int] = []
    policy.base.model.language_model.layers[0].input_layernorm.register_forward_pre_hook(lambda *_: runs.append(1))
    policy(pack([sequenced(policy, TARGETS[0])], [[0]], 0)).sum().backward()
    assert len(runs) == 2  # once forward, once again in the backward pass
    assert not any(p.grad is not None for name, p in policy.named_parameters() if "visual" in name)


@pytest.mark.parametrize("options", [{}, {"lora": LoRA(rank=2, alpha=4.0)}])
def test_tied_weights_survive_a_checkpoint_that_leaves_frozen_ones_out(tmp_path, options):
    first = tiny_policy()
    first.base.config.tie_word_embeddings = True
    first.base.tie_weights()
    first.base.save_pretrained(tmp_path)
    first.processor.save(tmp_path)
    config = PolicyConfig(Pretrained(str(tmp_path)), first.processor.pixels, freeze=("vision",), **options)
    policy = Policy(config, first.processor)
    assert policy.base.lm_head.weight is policy.base.get_input_embeddings().weight
    with torch.no_grad():
        for _, parameter in policy.trainable():
            parameter += 0.01
    kept = {name for name, parameter in policy.named_parameters(remove_duplicate=False) if parameter.requires_grad}
    state = {name: value.clone() for name, value in policy.state_dict().items() if name in kept}
    twin = rebuild(policy_card(policy, 64), state)
    rows = pack([sequenced(policy, TARGETS[0])], [[0]], 0)
    torch.testing.assert_close(twin(rows), policy(rows), rtol=1e-5, atol=1e-5)


def test_parts_must_be_left_to_train():
    with pytest.raises(UserError, match="something must be left"):
        PolicyConfig(tiny_backbone(), freeze=("vision", "projector", "language"))
    with pytest.raises(UserError, match="either frozen or given adapters"):
        PolicyConfig(tiny_backbone(), freeze=("vision",), lora=LoRA(exclude_vision=False))


@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen3_vl"])
def test_greedy_answers_of_padded_prompts_equal_one_at_a_time(family):
    policy = tiny_policy(family).train()
    prompts = [prompt(policy, seed=1), prompt(policy, seed=2, images=2), prompt(policy, seed=3, width=140)]
    collate = PromptCollate(policy.processor.padding_token, policy.processor.image_token)
    example = Example("u", (), "Jade Owl", ("Jade Owl",), "val", "seen", "d")
    together = policy.generate(collate([(example, p) for p in prompts], ReadRecord(0, 0, (0, 1, 2), ("u",) * 3)), 6)
    alone = [policy.generate(collate([(example, p)], ReadRecord(0, 0, (0,), ("u",))), 6)[0] for p in prompts]
    assert together == alone
    assert policy.training  # the mode it was found in


def test_greedy_answers_equal_a_plain_loop_and_hold_no_vision_token():
    policy = tiny_policy().eval()
    with torch.no_grad():  # a head that wants an image token above all
        policy.base.lm_head.weight[policy.processor.image_token] = 10 * policy.base.lm_head.weight.sum(0)
    start = prompt(policy)
    collate = PromptCollate(policy.processor.padding_token, policy.processor.image_token)
    example = Example("u", (), "Jade Owl", ("Jade Owl",), "val", "seen", "d")
    got = policy.generate(collate([(example, start)], ReadRecord(0, 0, (0,), ("u",))), 5)[0]
    ids = start.input_ids.tolist()
    for _ in range(5):
        row = torch.tensor([ids])
        marks = (row == policy.processor.image_token).int()
        with torch.no_grad():
            logits = policy.base(
                input_ids=row,
                mm_token_type_ids=marks,
                pixel_values=policy.processor.pixel_values(start.images),
                image_grid_thw=start.images.grid_thw,
            ).logits[0, -1]
        logits[policy.processor.vision_token_ids] = -torch.inf
        ids.append(int(logits.argmax()))
    assert ids[len(start.input_ids) :][: len(got)] == got
    assert set(got).isdisjoint(policy.processor.vision_token_ids)


def test_the_same_backbone_gives_the_same_weights_and_leaves_the_random_state_alone():
    before = torch.random.get_rng_state()
    first, second = tiny_policy().state_dict(), tiny_policy().state_dict()
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_photo_wider_than_200_to_1_is_one_bad_sample():
    policy = tiny_policy()
    with pytest.raises(ValueError, match="shape that can be resized"):
        policy.processor.encode_images([photo(2010, 10)])


def test_rows_are_not_changed_by_a_forward_pass():
    policy = tiny_policy()
    rows = pack([sequenced(policy, TARGETS[0])], [[0]], 0)
    twin = copy.deepcopy(rows)
    policy(rows)
    assert torch.equal(rows.input_ids, twin.input_ids)
    assert torch.equal(rows.positions, twin.positions)


@pytest.mark.parametrize("whole", [True, False])
def test_deepstack_levels_are_one_piece_however_transformers_cuts_them(monkeypatch, whole):
    # up to transformers 5.17 a level is a tensor of all images, later a tuple with one for each
    policy = tiny_policy("qwen3_vl")
    inputs = prompt(policy, images=2).images
    expected = policy.image_features(inputs)
    original = policy.base.model.get_image_features

    def as_released(*args, **options):
        output = original(*args, **options)
        levels = [x if isinstance(x, torch.Tensor) else torch.cat(list(x)) for x in output.deepstack_features]
        output.deepstack_features = levels if whole else [level.chunk(2) for level in levels]
        return output

    monkeypatch.setattr(policy.base.model, "get_image_features", as_released)
    features = policy.image_features(inputs)
    assert torch.equal(features.tokens, expected.tokens)
    assert features.deepstack is not None
    assert expected.deepstack is not None
    assert features.deepstack.shape == (1, *features.tokens.shape)
    assert torch.equal(features.deepstack, expected.deepstack)


def asked(policy: Policy, question: str, pictures: Sequence[int] = (0,), first: bool = True) -> EncodedPrompt:
    images = [{"type": "image"} for _ in pictures]
    text = {"type": "text", "text": question}
    content = [*images, text] if first else [text, *images]
    shown = [photo(84 + 28 * seed, 84, seed) for seed in pictures]
    return policy.processor.encode_prompt([{"role": "user", "content": content}], shown)


def written(policy: Policy, read: ReadPrompts, group: int = 1) -> list[list[Written]]:
    seeds = [3 + n for n in range(len(read.hidden))]
    found = dict(policy.write_after(policy.decoder(), read, Sampling(group, 1.0, 8), seeds))
    return [found[n] for n in range(len(found))]


@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen3_vl"])
@torch.no_grad()
def test_questions_that_are_read_on_are_answered_as_if_they_had_been_read_whole(family: str):
    policy = noisy(tiny_policy(family))
    prompts = [asked(policy, "Which bird is this?", (seed,)) for seed in range(2)]
    features = policy.image_features(join_images([one.images for one in prompts]))
    read = policy.read(prompts, features)
    first = written(policy, read.kept(), group=3)
    of = [1, 0, 1]
    questions = ["Which bird is this?\nA) hen\nB) owl", "Which bird is this?\n- tit", "What is it?"]
    further = [asked(policy, text, (number,)) for text, number in zip(questions, of, strict=True)]
    read_on = policy.read_on(read, of, further)
    assert read_on is not None
    own = split_features(features, [int((one.input_ids == policy.processor.image_token).sum()) for one in prompts])
    whole = policy.read(further, join_features([own[number] for number in of]))
    torch.testing.assert_close(read_on.hidden, whole.hidden, atol=2e-5, rtol=1e-4)
    assert read_on.after.tolist() == whole.after.tolist()
    for one, other in zip(written(policy, read_on), written(policy, whole), strict=True):
        assert one[0].ids.tolist() == other[0].ids.tolist()
    again = written(policy, read.kept(), group=3)
    assert [[one.ids.tolist() for one in group] for group in again] == [
        [one.ids.tolist() for one in group] for group in first
    ], "what was read before stays as it was"


@torch.no_grad()
def test_reading_on_in_half_precision_is_as_exact_as_reading_the_whole():
    policy = noisy(tiny_policy())
    prompt, other = asked(policy, "Which bird is this?"), asked(policy, "Which bird is this? A) hen B) owl")
    features = policy.image_features(prompt.images)
    exact = policy.read([other], features).hidden
    with torch.autocast("cpu", torch.bfloat16):
        read_on = policy.read_on(policy.read([prompt], features), [0], [other])
        whole = policy.read([other], features).hidden
    assert read_on is not None
    off, usual = ((hidden - exact).norm() / exact.norm() for hidden in (read_on.hidden, whole))
    assert off < 2 * usual + 1e-6
    assert read_on.hidden.dtype == whole.dtype


@torch.no_grad()
def test_only_what_differs_is_read():
    policy = tiny_policy().eval()
    prompt, other = asked(policy, "Which?"), asked(policy, "Which? A) hen")
    shared = common_prefix(prompt, other)
    assert int((prompt.input_ids[:shared] == policy.processor.image_token).sum()) > 0
    seen: list[int] = []
    policy.base.model.language_model.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["inputs_embeds"].shape[1]), with_kwargs=True
    )
    read = policy.read([prompt], policy.image_features(prompt.images))
    policy.read_on(read, [0], [other])
    assert seen == [len(prompt.input_ids), len(other.input_ids) - shared]


@torch.no_grad()
def test_an_image_behind_what_differs_cannot_be_read_on():
    policy = tiny_policy().eval()
    prompt = asked(policy, "Which?", first=False)
    read = policy.read([prompt], policy.image_features(prompt.images))
    assert policy.read_on(read, [0], [asked(policy, "Who?", first=False)]) is None


def test_the_same_prompt_has_a_token_left_over():
    policy = tiny_policy()
    prompt = asked(policy, "Which?")
    assert common_prefix(prompt, prompt) == len(prompt.input_ids) - 1
