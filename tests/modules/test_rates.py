"""Rates of parts of a policy: which weight has which, what a step then is, and what a run goes on with."""

from __future__ import annotations

from functools import cache
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from conftest import tiny_backbone, tiny_policy
from hypothesis import given
from hypothesis import strategies as st
from prompted import Watched, fit
from trained_runs import PIXELS

from fgvr.errors import UserError
from fgvr.models import LoRA, Policy, PolicyConfig
from fgvr.models.sampling import Sampling
from fgvr.modules import SFT, Optimizer
from fgvr.modules.rates import REST, Former, groups_of, parameter_groups, table_of_rates
from fgvr.objectives import KL
from fgvr.rewards import Exact

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers.*", "ignore:.*logging interval.*", "ignore:.*Skipping val loop.*"
)
PROJECTOR = LoRA(rank=2, alpha=4.0, full=("projector",))
BLOCK = r"model\.visual\.blocks\.1"
KEYS = ("vision", "projector", "language", BLOCK, "lm_head")


def built(optimizer: Optimizer, **options: Any) -> SFT:
    """A module whose Trainer is about to make its optimizer, of ten steps."""
    module = SFT(PolicyConfig(tiny_backbone(), PIXELS, **options), optimizer)
    module.configure_model()
    state = SimpleNamespace(fn="fit")
    module._trainer = SimpleNamespace(state=state, max_steps=10)  # pyright: ignore[reportAttributeAccessIssue]
    return module


@cache
def shared(lora: LoRA | None) -> Policy:
    return tiny_policy(lora=lora)


def optimizer_of(module: SFT) -> tuple[torch.optim.AdamW, Any]:
    made = module.configure_optimizers()
    return made["optimizer"], made["lr_scheduler"]["scheduler"]


def test_one_step_of_adamw_moves_each_part_at_its_own_rate():
    rates = {"vision": 0.02, "projector": 0.001}
    module = built(Optimizer(lr=0.1, rates=rates, weight_decay=0.5, eps=0.0, schedule="constant", warmup=2))
    optimizer, scheduler = optimizer_of(module)
    before = {name: weight.detach().clone() for name, weight in module.trained_policy.trainable()}
    for _, weight in module.trained_policy.trainable():
        weight.grad = torch.full_like(weight, 3.0)
    optimizer.step()
    for name, weight in module.trained_policy.trainable():
        # the first step's means, corrected, are g = 3 and g^2 = 9: g / sqrt(g^2) = 1, so a weight w ends at
        # w - r (1 + w / 2), with r half of its rate in the first of two steps of warm-up: .05, .01 and .0005
        rate = 0.0005 if "merger" in name else 0.01 if "visual" in name else 0.05
        expected = before[name] - rate * (1 + before[name] / 2)
        torch.testing.assert_close(weight.detach(), expected, rtol=1e-6, atol=1e-7)
    scheduler.step()
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.02, 0.001]


def test_every_weight_has_one_rate_and_a_pattern_goes_before_its_part():
    policy = shared(None)
    groups = groups_of(policy, 1.0, {"vision": 2.0, BLOCK: 3.0})
    assert [(group.name, group.rate) for group in groups] == [(REST, 1.0), ("vision", 2.0), (BLOCK, 3.0)]
    rest, vision, block = (set(group.weights) for group in groups)
    assert all("visual.blocks.1." in name for name in block)
    assert any("visual.blocks.0." in name for name in vision)
    assert not any("visual.blocks.1." in name or "merger" in name for name in vision)
    assert rest | vision | block == {name for name, _ in policy.trainable()}


@given(st.dictionaries(st.sampled_from(KEYS), st.floats(1e-7, 1e-2)), st.sampled_from([None, PROJECTOR]))
def test_no_weight_is_left_out_or_stepped_twice(rates: dict[str, float], lora: LoRA | None):
    policy = shared(lora)
    if lora is not None and rates.keys() - {"projector", "language"}:
        with pytest.raises(UserError, match="are frozen"):
            groups_of(policy, 1.0, rates)
        return
    groups = groups_of(policy, 1.0, rates)
    names = [name for group in groups for name in group.weights]
    assert sorted(names) == sorted(name for name, _ in policy.trainable())
    assert {group.name for group in groups} - {REST} == set(rates)


def test_without_rates_the_optimizer_is_the_one_it_always_was():
    module = built(Optimizer(lr=0.1))
    optimizer, _ = optimizer_of(module)
    plain = torch.optim.AdamW([weight for _, weight in module.trained_policy.trainable()], lr=0.1, fused=True)
    own = {key: value for key, value in optimizer.param_groups[0].items() if key not in ("params", "initial_lr", "lr")}
    assert {key: own[key] for key in ("betas", "eps", "fused")} == {"betas": (0.9, 0.999), "eps": 1e-8, "fused": True}
    assert own.keys() == plain.param_groups[0].keys() - {"params", "lr"}
    assert [id(x) for x in optimizer.param_groups[0]["params"]] == [id(x) for x in plain.param_groups[0]["params"]]


REFUSED: list[tuple[dict[str, float], dict[str, Any], str]] = [
    ({"vison": 1e-5}, {}, r"optimizer\.rates must name vision.* did you mean vision\?"),
    ({"vision": 1e-5}, {"freeze": ("vision",)}, "all that 'vision' means are frozen: .* change policy.freeze"),
    ({"projector": 1e-5}, {"lora": LoRA(2)}, "all that 'projector' means are frozen: .* policy.lora.full"),
    ({BLOCK: 1e-5, ".*visual.*": 1e-6}, {}, r"must have one rate, but 'model.*' and '\.\*visual.*' .* both mean model"),
    ({"projector": 1e-5, ".*merger": 1e-6}, {}, "patterns besides it mean all that 'projector' does: take it out"),
]


@pytest.mark.parametrize(("rates", "options", "said"), REFUSED)
def test_rates_that_no_weight_would_have_are_refused(rates: dict[str, float], options: dict[str, Any], said: str):
    with pytest.raises(UserError, match=said):
        groups_of(tiny_policy(**options), 1e-4, rates)


@pytest.mark.parametrize(
    ("rates", "said"), [({"vision": 0.0}, "rates 'vision' must be above 0"), ({"(": 1.0}, "'\\('")]
)
def test_rates_that_are_none_are_refused_before_a_model_is_there(rates: dict[str, float], said: str):
    with pytest.raises(UserError, match=said):
        Optimizer(rates=rates)


def test_a_table_says_what_is_trained_of_each_part_and_how_fast():
    policy = shared(PROJECTOR)
    lines = table_of_rates(policy, groups_of(policy, 1e-4, {"projector": 2e-6}))
    # rank 2: 2 layers x 2 x (q, o: 64 + 64 each; k, v: 64 + 32 each; three of the mlp: 64 + 192 each)
    adapters = 2 * 2 * (2 * 128 + 2 * 96 + 3 * 256)
    assert [line.split() for line in lines[:1]] == [["part", "weights", "trained", "as", "rate"]]
    assert lines[1].split()[0:1] + lines[1].split()[2:] == ["vision", "0", "frozen"]
    assert lines[2].split() == ["projector", "24,800", "24,800", "whole", "2e-06"]
    assert lines[3].split()[2:] == [f"{adapters:,}", "adapters", "0.0001"]
    assert len({len(line.rpartition("  ")[0]) for line in lines[2:]}) == 1  # columns are aligned


def stepped(module: SFT) -> tuple[dict[str, Any], dict[str, Any], dict[str, torch.Tensor]]:
    """State of optimizer and schedule after a step, and each weight's mean of its gradient, by name."""
    optimizer, scheduler = optimizer_of(module)
    names = {id(weight): name for name, weight in module.trained_policy.trainable()}
    for number, (_, weight) in enumerate(module.trained_policy.trainable()):
        weight.grad = torch.full_like(weight, float(number + 1))
    optimizer.step()
    scheduler.step()
    means = {names[id(weight)]: kept["exp_avg"] for weight, kept in optimizer.state.items()}
    return optimizer.state_dict(), scheduler.state_dict(), means


CHANGES: list[tuple[dict[str, float], dict[str, float]]] = [
    ({}, {"projector": 1e-5}),
    ({"projector": 1e-5}, {"language": 1e-5, BLOCK: 1e-6}),
    ({"projector": 1e-5}, {"projector": 1e-6}),
]


@pytest.mark.parametrize(("then", "now"), CHANGES)
def test_a_run_that_goes_on_with_other_rates_keeps_what_it_knows_of_each_weight(
    then: dict[str, float], now: dict[str, float], caplog: pytest.LogCaptureFixture
):
    first, second = (built(Optimizer(lr=1e-3, rates=rates, schedule="linear")) for rates in (then, now))
    state, schedule, means = stepped(first)
    checkpoint = {"state_dict": dict(first.state_dict()), "optimizer_states": [state], "lr_schedulers": [schedule]}
    first.on_save_checkpoint(checkpoint)
    caplog.set_level("INFO", "fgvr")
    second.on_load_checkpoint(checkpoint)
    assert "The highest rates are no longer those of the checkpoint: " in caplog.text
    optimizer, scheduler = optimizer_of(second)
    optimizer.load_state_dict(checkpoint["optimizer_states"][0])
    scheduler.load_state_dict(checkpoint["lr_schedulers"][0])
    names = {id(weight): name for name, weight in second.trained_policy.trainable()}
    own = {names[id(weight)]: kept["exp_avg"] for weight, kept in optimizer.state.items()}
    assert own.keys() == means.keys()
    assert all(torch.equal(own[name], mean) for name, mean in means.items())
    # one of ten steps is done, so a rate that falls linearly is at .9 of its highest, and at .8 after the next
    highest = [group.rate for group in second.groups()]
    assert [group["lr"] for group in optimizer.param_groups] == [rate * 0.9 for rate in highest]
    optimizer.step()
    scheduler.step()
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([rate * 0.8 for rate in highest])


@pytest.mark.parametrize("rates", [{}, {"projector": 1e-5}])
def test_a_run_that_goes_on_with_its_own_rates_finds_its_state_untouched(rates: dict[str, float]):
    module = built(Optimizer(lr=1e-3, rates=rates))
    state, schedule, _ = stepped(module)
    checkpoint = {"state_dict": dict(module.state_dict()), "optimizer_states": [state], "lr_schedulers": [schedule]}
    module.on_save_checkpoint(checkpoint)
    module.on_load_checkpoint(checkpoint)
    assert checkpoint["optimizer_states"][0] is state
    assert checkpoint["lr_schedulers"][0] is schedule


def test_a_weight_that_was_not_trained_before_starts_anew():
    frozen = tiny_policy(freeze=("projector",))
    groups = groups_of(frozen, 1e-3, {})
    optimizer = torch.optim.AdamW(parameter_groups(groups), lr=1e-3)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 1.0)
    former = Former(optimizer.state_dict(), schedule.state_dict(), [name for name, _ in frozen.trainable()])
    groups = groups_of(shared(None), 1e-3, {})
    assert not former.goes_on_as(groups)
    assert former.changes(groups).endswith("; 5 weights were not trained then, 0 are not now.")
    assert len(former.under(groups, lambda _: 1.0)[0]["param_groups"][0]["params"]) == len(groups[0].weights)


def test_the_kl_term_is_to_the_start_also_of_what_is_trained_in_full():
    config = PolicyConfig(tiny_backbone(), PIXELS, lora=PROJECTOR)
    optimizer = Optimizer(lr=1e-3, rates={"projector": 1e-2}, schedule="constant", eps=1e-3)
    grpo = Watched(config, Exact(), optimizer, Sampling(group_size=4, max_new_tokens=24), kl=KL(0.1))
    fit(grpo)
    assert grpo.logged[0]["kl"] == pytest.approx(0, abs=1e-6)
    assert grpo.logged[-1]["kl"] > 1e-6
    assert [grpo.logged[-1][name] for name in ("lr", "lr/projector")] == pytest.approx([1e-3, 1e-2])
    learned, fresh = grpo.trained_policy, tiny_policy(lora=PROJECTOR)
    began = dict(fresh.named_parameters())
    moved = [name for name, weight in learned.named_parameters() if not torch.equal(weight, began[name])]
    assert any("merger" in name for name in moved)
    with grpo._reference() as reference:
        assert reference is not None
        assert all(torch.equal(x, began[name]) for name, x in reference.named_parameters() if ".lora_" not in name)
