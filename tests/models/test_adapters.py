import math
import re

import pytest
import torch
from conftest import sequenced, tiny_policy

from fgvr.data.collate import pack
from fgvr.errors import UserError
from fgvr.models import LoRA, Policy
from fgvr.models.adapters import adapted_layers, draw_adapters
from fgvr.models.saved import policy_card
from fgvr.models.trained import rebuild

USUAL = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
LAYER = r"model\.language_model\.layers\.1\."


def layers_of(policy: Policy) -> set[str]:
    prefix = "model.base_model.model."
    return {name.removeprefix(prefix).partition(".lora_")[0] for name, _ in policy.trainable()}


def logprobs(policy: Policy) -> torch.Tensor:
    return policy(pack([sequenced(policy, "<answer>Jade Owl</answer>")], [[0]], 0))


def disturbed(policy: Policy) -> Policy:
    with torch.no_grad():
        for _, parameter in policy.trainable():
            parameter += 0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    return policy.eval()


@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen3_vl"])
def test_adapters_lie_on_the_language_model_alone_by_default(family: str):
    policy = tiny_policy(family, lora=LoRA(rank=2))
    assert all("lora_" in name for name, _ in policy.trainable())
    assert {name.rpartition(".")[2] for name in layers_of(policy)} == USUAL
    assert not any("visual" in name for name in layers_of(policy))
    assert set(policy.model.peft_config["default"].target_modules) == USUAL  # as others who load adapters look for them


@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen3_vl"])
@pytest.mark.parametrize("exclude_vision", [True, False])
@pytest.mark.parametrize("targets", ["all-linear", ("all-linear",)])
def test_all_linear_is_every_linear_layer_but_the_head(family: str, exclude_vision: bool, targets: tuple[str, ...]):
    linear = {name for name, part in tiny_policy(family).base.named_modules() if isinstance(part, torch.nn.Linear)}
    wanted = {name for name in linear if name != "lm_head" and not (exclude_vision and "visual" in name)}
    assert layers_of(tiny_policy(family, lora=LoRA(2, 4.0, targets, exclude_vision))) == wanted


@pytest.mark.parametrize(
    ("targets", "exclude_vision", "wanted"),
    [
        (LAYER + r".*\.(q|v)_proj", True, LAYER + r"self_attn\.(q|v)_proj"),
        (r".*up_proj", True, r"model\.language_model\..*up_proj"),
        (r".*up_proj", False, r".*up_proj"),
        (r".*visual\.merger.*", False, r".*visual\.merger\.mlp\.[02]"),
        (("self_attn.q_proj", "down_proj"), True, r"model\.language_model\..*(self_attn\.q_proj|down_proj)"),
        (("proj",), False, r".*attn\.proj"),  # not the patches' convolution, which is called so too
        (("attn.qkv", "q_proj"), False, r".*(attn\.qkv|q_proj)"),
    ],
)
def test_targets_are_ends_of_names_or_a_pattern(targets: tuple[str, ...] | str, exclude_vision: bool, wanted: str):
    every = [name for name, _ in tiny_policy().base.named_modules()]
    lora = LoRA(2, 4.0, targets, exclude_vision)
    found = layers_of(tiny_policy(lora=lora))
    assert found == set(adapted_layers(tiny_policy().base, lora))
    linear = {name for name in every if re.fullmatch(wanted, name)}
    assert found == {name for name in linear if "patch_embed" not in name} != set()


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (("q_proj", "v_prj"), r"end the name of a linear layer \(down_proj, .*\), got 'v_prj': did you mean v_proj\?"),
        (("q_proj", "query"), r"got 'query': mend targets"),
        (("norm",), "got 'norm'"),
        (("layers",), "got 'layers'"),
        (("qkv",), "'qkv' lies in the vision tower alone, .* set lora.exclude_vision to false"),
        ("q_proj", r"whole name of a linear layer, such as model\.language_model\..*, but 'q_proj' matches none"),
        (r".*visual.*", "matches none"),
        (r".*lm_head", "matches none"),
    ],
)
def test_a_target_that_fits_no_layer_is_named(targets: tuple[str, ...] | str, message: str):
    with pytest.raises(UserError, match=message):
        tiny_policy(lora=LoRA(2, 4.0, targets))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"targets": ("lm_head",)}, "lm_head"),
        ({"targets": ("q_proj", "embed_tokens")}, "embed_tokens"),
        ({"targets": ()}, "some targets"),
        ({"targets": ""}, "some targets"),
        ({"targets": ("all-linear", "q_proj")}, "give it alone"),
        ({"targets": "(q_proj"}, "regular expression"),
        ({"rank": 0}, "rank of at least 1"),
        ({"alpha": 0.0}, "alpha must be above 0, got 0"),
        ({"alpha": -1.0}, "alpha must be above 0"),
        ({"alpha": math.nan}, "alpha must be above 0"),
        ({"alpha": math.inf}, "alpha must be above 0"),
    ],
)
def test_what_could_never_train_is_refused(options: dict[str, object], message: str):
    with pytest.raises(UserError, match=message):
        LoRA(**options)  # pyright: ignore[reportArgumentType]


def test_scales_by_hand():
    assert LoRA(rank=16, alpha=32.0).scale == 2
    assert LoRA(rank=16, alpha=32.0, rslora=True).scale == 8  # 32 / sqrt(16)
    for lora in (LoRA(rank=16, alpha=32.0), LoRA(rank=16, alpha=32.0, rslora=True)):
        layer = tiny_policy(lora=lora).base.model.language_model.layers[0].self_attn.q_proj
        assert layer.scaling["default"] == lora.scale


@pytest.mark.parametrize("options", [{"rslora": True}, {"dora": True}, {"targets": "all-linear", "rslora": True}])
def test_every_kind_starts_as_the_base_and_survives_a_checkpoint_and_merging(options: dict[str, object]):
    lora = LoRA(rank=4, alpha=8.0, **options)  # pyright: ignore[reportArgumentType]
    base, policy = tiny_policy().eval(), tiny_policy(lora=lora).eval()
    torch.testing.assert_close(logprobs(policy), logprobs(base), rtol=1e-5, atol=1e-5)
    assert any("magnitude" in name for name, _ in policy.trainable()) == lora.dora
    learned = logprobs(disturbed(policy))
    assert (learned - logprobs(base)).abs().max() > 1e-3
    with policy.adapters_off():
        torch.testing.assert_close(logprobs(policy), logprobs(base), rtol=1e-5, atol=1e-5)
    twin = rebuild(policy_card(policy, 64), policy.state_dict())
    assert twin.config.lora == lora
    torch.testing.assert_close(logprobs(twin), learned, rtol=0, atol=0)
    twin.model.merge_adapter()
    torch.testing.assert_close(logprobs(twin), learned, rtol=1e-4, atol=1e-4)


def test_what_is_trained_is_said_with_names_counts_and_share():
    # 2 layers; of each layer q, k, v, o and three of the mlp; hidden 64, 2 heads of 32, 1 of keys, 192 in the mlp
    lines = [
        tiny_policy(lora=LoRA(rank=2, alpha=4.0, targets=targets)).what_is_trained()
        for targets in (("q_proj",), "all-linear")
    ]
    policy = tiny_policy()
    base = sum(parameter.numel() for parameter in policy.parameters())
    added = 2 * 2 * (64 + 64)  # 2 layers, rank 2
    share = f"{added / (base + added):.2%}"
    assert (
        lines[0] == f"Trained: {added:,} of {base + added:,} weights ({share}), LoRA of rank 2, scale 2, on 2 layers: "
        "language 2 (q_proj 2)."
    )
    kinds = "q_proj 2, k_proj 2, v_proj 2, o_proj 2, gate_proj 2, up_proj 2, down_proj 2"
    assert f"on 14 layers: language 14 ({kinds})." in lines[1]
    assert "DoRA of rank 2, scale 16," in tiny_policy(lora=LoRA(rank=2, alpha=32.0, dora=True)).what_is_trained()
    assert policy.what_is_trained().startswith(f"Trained: {base:,} of {base:,} weights (100.00%), vision ")
    frozen = tiny_policy(freeze=("vision", "projector")).what_is_trained()
    assert "vision 0, projector 0, language " in frozen


@pytest.mark.parametrize(
    ("family", "vision"),
    [  # 2 blocks of the tower; a merger, and on Qwen3-VL one for the deepstack's level
        (
            "qwen2_5_vl",
            "vision 10 (qkv 2, proj 2, gate_proj 2, up_proj 2, down_proj 2); projector 2 (mlp.0 1, mlp.2 1); ",
        ),
        (
            "qwen3_vl",
            "vision 8 (qkv 2, proj 2, linear_fc1 2, linear_fc2 2); projector 4 (linear_fc1 2, linear_fc2 2); ",
        ),
    ],
)
def test_tower_and_projector_get_adapters_on_both_families(family: str, vision: str):
    policy = tiny_policy(family, lora=LoRA(2, 4.0, exclude_vision=False))
    assert f": {vision}language 14 (q_proj 2, " in policy.what_is_trained()
    disturbed(policy)
    logprobs(policy).sum().backward()
    assert all(parameter.grad is not None and bool(parameter.grad.any()) for _, parameter in policy.trainable())
    attention = tiny_policy(family, lora=LoRA(2, 4.0, ("q_proj", "o_proj"), exclude_vision=False))
    assert ": vision 4 (qkv 2, proj 2); language 4 (q_proj 2, o_proj 2)." in attention.what_is_trained()
    learned = logprobs(policy)
    twin = rebuild(policy_card(policy, 64), policy.state_dict())
    torch.testing.assert_close(logprobs(twin), learned, rtol=0, atol=0)
    twin.model.merge_adapter()
    torch.testing.assert_close(logprobs(twin), learned, rtol=1e-4, atol=1e-4)


def test_adapters_are_drawn_by_seed_and_name_whatever_was_drawn_before():
    def drawn(seed: int, before: int) -> dict[str, torch.Tensor]:
        torch.manual_seed(seed)
        torch.rand(before)
        return {name: weight.detach() for name, weight in tiny_policy(lora=LoRA(rank=2)).trainable()}

    one, again, other = drawn(5, 0), drawn(5, 7), drawn(6, 0)
    first = [name for name in one if ".lora_A." in name]
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not any(torch.equal(one[name], other[name]) for name in first)
    assert len({one[name].sum().item() for name in first}) == len(first)
    assert not any(one[name].any() for name in one if ".lora_B." in name)
    for name in first:  # as peft draws them: evenly between -1 and 1 over the root of what a layer reads
        assert 0.8 < one[name].abs().max() * math.sqrt(one[name].shape[1]) <= 1


def test_adapters_are_drawn_on_the_host_wherever_a_trainer_has_models_built():
    policies = [tiny_policy(lora=LoRA(rank=4, alpha=8.0)) for _ in range(2)]
    with torch.device("meta"):  # as Lightning names its own device while a model is configured
        draw_adapters(policies[0], 5)
    draw_adapters(policies[1], 5)
    drawn, again = ({n: w for n, w in one.named_parameters() if ".lora_A." in n} for one in policies)
    assert all(torch.equal(weight, again[name]) for name, weight in drawn.items())
