"""What several processes make of a model in parts, held against one process that has it whole."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.strategies import DDPStrategy, StrategyRegistry
from spread import Case, strategy_of, train, train_together, work_together
from torch.distributed.fsdp import FSDPModule

from fgvr.checkpoints.sharded import own_rows
from fgvr.errors import UserError
from fgvr.models import LoRA
from fgvr.objectives import KL, Triplet
from fgvr.strategies import FSDP2Strategy

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers.*", "ignore:.*logging interval.*", "ignore:.*Skipping val loop.*"
)
LOW_RANK = {"lora": LoRA(rank=3, alpha=8.0)}
IN_FULL = {"lora": LoRA(rank=3, alpha=8.0, full=("projector",))}
RATES = {"projector": 1e-4, r"model\.language_model\.layers\.1": 3e-3}
FROZEN = {"freeze": ("vision", "projector")}
FULL = Triplet(gamma=0.5, eta1=0.1, eta2=0.1, negative="full")
CASES = {
    "sft": Case("sft", steps=3),
    "sft, Qwen3-VL": Case("sft", family="qwen3_vl"),
    "sft, LoRA": Case("sft", LOW_RANK),
    "sft, DoRA in the tower": Case("sft", {"lora": LoRA(rank=3, exclude_vision=False, dora=True)}),
    "sft, frozen tower": Case("sft", FROZEN),
    "sft, tied": Case("sft", tied=True),
    "sft, three rates": Case("sft", rates={"vision": 1e-4, "projector": 3e-3}),
    "sft, checkpointed": Case("sft", {"gradient_checkpointing": True}),
    "sft, one has all": Case("sft", first_has_all=True),
    "sft, offloaded, none ahead": Case("sft", strategy={"offload": True, "prefetch": 0}),
    "sft, two ahead": Case("sft", strategy={"prefetch": 2}),
    "grpo": Case("grpo", options={"reduction": "token"}),
    "grpo, KL, offloaded": Case("grpo", options={"kl": KL(0.04)}, strategy={"offload": True}),
    "grpo, KL": Case("grpo", options={"kl": KL(0.04)}),
    "grpo, KL, LoRA": Case("grpo", LOW_RANK, {"kl": KL(0.04)}),
    "grpo, KL, projector in full": Case("grpo", IN_FULL, {"kl": KL(0.04), "updates": 2}, rates=RATES),
    "grpo, KL, projector in full, offloaded": Case("grpo", IN_FULL, {"kl": KL(0.04)}, strategy={"offload": True}),
    "grpo, KL, checkpointed": Case("grpo", {"gradient_checkpointing": True}, {"kl": KL(0.04)}),
    "grpo, KL, reused": Case("grpo", FROZEN, {"kl": KL(0.04), "updates": 2, "epochs": 2}),
    "grpo, tied": Case("grpo", tied=True),
    "grpo, one has all": Case("grpo", options={"kl": KL(0.04)}, first_has_all=True),
    "grpo, one has all, frozen tower": Case("grpo", FROZEN, {"entropy_coefficient": 0.01}, first_has_all=True),
    "tapo": Case("tapo", options={"triplet": Triplet(gamma=0.5, eta1=0.1)}),
    "tapo, whole negatives, some lacking": Case("tapo", options={"triplet": FULL}, lacking=(0, 2, 4)),
    "tapo, Qwen3-VL": Case("tapo", FROZEN, {"triplet": FULL}, family="qwen3_vl", first_has_all=True),
    "speciarl": Case("speciarl", options={"kl": KL(0.04)}),
    "sft, bfloat16": Case("sft", precision="bf16-mixed"),
    "sft, bfloat16, LoRA": Case("sft", LOW_RANK, precision="bf16-mixed"),
    "grpo, bfloat16, KL, LoRA": Case("grpo", LOW_RANK, {"kl": KL(0.04)}, precision="bf16-mixed"),
    "ddp, one has all": Case("grpo", options={"kl": KL(0.04)}, strategy=None, first_has_all=True),
    "ddp, whole negatives, some lacking": Case("tapo", options={"triplet": FULL}, strategy=None, lacking=(0, 2, 4)),
}
BY_FOUR = (
    *("sft", "sft, LoRA", "sft, frozen tower", "grpo, KL", "grpo, one has all", "grpo, KL, reused", "speciarl"),
    "tapo, whole negatives, some lacking",
)
IN_COPIES = {
    f"{name}, 2 x 2": replace(CASES[name], strategy={"replicate": 2})
    for name in ("sft, tied", "sft, LoRA", "grpo, KL", "grpo, one has all", "tapo, whole negatives, some lacking")
}
ALONE = ("sft, LoRA", "grpo, KL, reused", "tapo, Qwen3-VL")  # a single process that has all parts
GROUPS = {1: {name: CASES[name] for name in ALONE}, 2: CASES, 4: {name: CASES[name] for name in BY_FOUR} | IN_COPIES}


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return cache(lambda world: train_together(GROUPS[world], world, tmp_path_factory.mktemp("spread")))


@cache
def alone(name: str) -> dict[str, Any]:
    return train((CASES | IN_COPIES)[name])[1]


@pytest.mark.slow
@pytest.mark.parametrize(("world", "name"), [(world, name) for world, cases in GROUPS.items() for name in cases])
def test_steps_of_several_processes_are_those_of_one(world: int, name: str, together: Any):
    found, expected = together(world)[name], alone(name)
    near: dict[str, Any] = {"rel": 1e-5, "abs": 1e-6} if "bfloat16" not in name else {"rel": 1e-3, "abs": 1e-3}
    assert found["losses"] == pytest.approx(expected["losses"], **near)
    assert found["done"] == expected["done"]
    assert len(found["gradients"]) == len(expected["gradients"])
    first, should_be = found["gradients"][0], expected["gradients"][0]
    assert first.keys() == should_be.keys()
    ours, theirs = (torch.cat([one[key].flatten() for key in should_be]) for one in (first, should_be))
    # products of other shapes are rounded elsewhere, which in bfloat16 is the third digit
    assert (ours - theirs).norm() <= (1e-6 if "bfloat16" not in name else 1e-2) * theirs.norm()
    assert theirs.norm() > 0
    if "bfloat16" in name:
        return
    for key, weight in expected["weights"].items():
        torch.testing.assert_close(
            found["weights"][key], weight, rtol=1e-4, atol=2e-6, msg=lambda m, k=key: f"{k}: {m}"
        )


class Poisoned(Callback):
    """Puts a NaN into one process's part or copy of one gradient, at the second of the steps."""

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        step = pl_module.take_step

        def take_step() -> None:
            if trainer.global_step == 1 and trainer.global_rank == 1:
                gradients = [weight.grad for _, weight in pl_module.trained_policy.trainable()]
                max((own_rows(gradient) for gradient in gradients), key=len).fill_(torch.nan)
            step()

        pl_module.take_step = take_step


def poison(rank: int, world: int, sharded: bool) -> dict[str, Any]:
    case = Case("sft", steps=3, strategy={} if sharded else None)
    made, found = train(case, (Poisoned(),), strategy=strategy_of(case), devices=world)
    return {"skipped": made.skipped.tolist(), "weights": found["weights"]}


@pytest.mark.slow
@pytest.mark.parametrize("sharded", [True, False])
def test_a_gradient_that_is_not_finite_on_one_process_skips_the_step_of_all(tmp_path: Path, sharded: bool):
    one, other = work_together(poison, 2, tmp_path, sharded)
    assert one["skipped"] == other["skipped"] == [1, 0]
    for name, weight in one["weights"].items():
        assert torch.equal(weight, other["weights"][name])
        assert bool(weight.isfinite().all())


def refused_mesh(rank: int, world: int) -> str:
    try:
        train(Case("sft"), strategy=FSDP2Strategy(replicate=2, shard=2), devices=world)
    except UserError as error:
        return str(error)
    return ""


@pytest.mark.slow
def test_copies_and_parts_make_up_the_processes(tmp_path: Path):
    for said in work_together(refused_mesh, 2, tmp_path):
        assert said == (
            "strategy.replicate x strategy.shard must be the 2 processes of the run, got 2 x 2: set shard to 1 or "
            "replicate to 1, or set trainer.devices and trainer.num_nodes to match."
        )


@pytest.mark.parametrize("bad", [{"replicate": 0}, {"shard": 0}, {"prefetch": -1}])
def test_numbers_out_of_range_are_refused(bad: dict[str, Any]):
    with pytest.raises(UserError, match=f"{next(iter(bad))} must be at least"):
        FSDP2Strategy(**bad)


def test_what_stays_in_the_hosts_memory_is_not_moved_to_the_device(monkeypatch: pytest.MonkeyPatch):
    """Here the device is the one that holds nothing: what was moved there tells."""
    policy: Any = torch.nn.Sequential(torch.nn.BatchNorm1d(3))
    policy.__class__ = type("Parted", (FSDPModule, torch.nn.Sequential), {})
    module = LightningModule()
    module.policy, module.other = policy, torch.nn.Linear(2, 2)
    strategy = FSDP2Strategy(offload=True)
    strategy._lightning_module = module
    monkeypatch.setattr(FSDP2Strategy, "root_device", torch.device("meta"))
    strategy.model_to_device()
    assert module.policy is policy
    assert all(weight.device.type == "cpu" for weight in policy.parameters())
    assert all(weight.device.type == "meta" for weight in module.other.parameters())


def test_short_names_mean_these_strategies():
    assert isinstance(StrategyRegistry.get("fsdp2"), FSDP2Strategy)
    for given in ("ddp", "auto"):
        strategy: Any = Trainer(accelerator="cpu", devices=2, logger=False, strategy=given).strategy
        assert type(strategy) is DDPStrategy
        assert strategy._ddp_kwargs == {"gradient_as_bucket_view": True}
