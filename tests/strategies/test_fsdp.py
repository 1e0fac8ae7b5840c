"""What several processes make of a model in parts, held against one process that has it whole."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from spread import Case, train, train_together

from fgvr.models import LoRA
from fgvr.objectives import KL, Triplet

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers.*", "ignore:.*logging interval.*", "ignore:.*Skipping val loop.*"
)
LOW_RANK = {"lora": LoRA(rank=3, alpha=8.0)}
FROZEN = {"freeze": ("vision", "projector")}
FULL = Triplet(gamma=0.5, eta1=0.1, eta2=0.1, negative="full")
CASES = {
    "sft": Case("sft", steps=3),
    "sft, Qwen3-VL": Case("sft", family="qwen3_vl"),
    "sft, LoRA": Case("sft", LOW_RANK),
    "sft, DoRA in the tower": Case("sft", {"lora": LoRA(rank=3, exclude_vision=False, dora=True)}),
    "sft, frozen tower": Case("sft", FROZEN),
    "sft, tied": Case("sft", tied=True),
    "sft, checkpointed": Case("sft", {"gradient_checkpointing": True}),
    "sft, one has all": Case("sft", first_has_all=True),
    "sft, offloaded, none ahead": Case("sft", strategy={"offload": True, "prefetch": 0}),
    "sft, two ahead": Case("sft", strategy={"prefetch": 2}),
    "grpo": Case("grpo", options={"reduction": "token"}),
    "grpo, KL": Case("grpo", options={"kl": KL(0.04)}),
    "grpo, KL, LoRA": Case("grpo", LOW_RANK, {"kl": KL(0.04)}),
    "grpo, KL, checkpointed": Case("grpo", {"gradient_checkpointing": True}, {"kl": KL(0.04)}),
    "grpo, KL, reused": Case("grpo", FROZEN, {"kl": KL(0.04), "updates": 2, "epochs": 2}),
    "grpo, tied": Case("grpo", tied=True),
    "grpo, one has all": Case("grpo", options={"kl": KL(0.04)}, first_has_all=True),
    "grpo, one has all, frozen tower": Case("grpo", FROZEN, {"entropy_coefficient": 0.01}, first_has_all=True),
    "tapo": Case("tapo", options={"triplet": Triplet(gamma=0.5, eta1=0.1)}),
    "tapo, whole negatives, some lacking": Case("tapo", options={"triplet": FULL}, lacking=(0, 2, 4)),
    "tapo, Qwen3-VL": Case("tapo", FROZEN, {"triplet": FULL}, family="qwen3_vl", first_has_all=True),
    "speciarl": Case("speciarl", options={"kl": KL(0.04)}),
    "ddp, one has all": Case("grpo", options={"kl": KL(0.04)}, strategy=None, first_has_all=True),
    "ddp, whole negatives, some lacking": Case("tapo", options={"triplet": FULL}, strategy=None, lacking=(0, 2, 4)),
}
IN_COPIES = {
    f"{name}, 2 x 2": Case(**vars(CASES[name]) | {"strategy": {"replicate": 2}})
    for name in ("sft", "sft, LoRA", "grpo, KL", "grpo, one has all", "tapo, whole negatives, some lacking")
}
GROUPS = {2: CASES, 4: {**{name: one for name, one in CASES.items() if one.strategy is not None}, **IN_COPIES}}


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
    assert found["losses"] == pytest.approx(expected["losses"], rel=1e-5, abs=1e-6)
    assert len(found["gradients"]) == len(expected["gradients"])
    first, should_be = found["gradients"][0], expected["gradients"][0]
    assert first.keys() == should_be.keys()
    ours, theirs = (torch.cat([one[key].flatten() for key in should_be]) for one in (first, should_be))
    assert (ours - theirs).norm() <= 1e-6 * theirs.norm()
    assert theirs.norm() > 0
    for key, weight in expected["weights"].items():
        torch.testing.assert_close(
            found["weights"][key], weight, rtol=1e-4, atol=2e-6, msg=lambda m, k=key: f"{k}: {m}"
        )
