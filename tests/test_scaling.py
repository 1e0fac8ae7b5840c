"""The formula of docs/scaling.md: by hand, against collectives that are counted, and as the page prints it."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from conftest import sequenced, tiny_backbone
from spread import Counted, work_together
from torch.distributed.device_mesh import init_device_mesh

from fgvr.data.collate import pack
from fgvr.models import LoRA, PixelBudget, Policy, PolicyConfig
from fgvr.models.sharding import Sharding, shard_policy, units_of

ROOT = Path(__file__).parents[1]
SETTINGS: dict[str, dict[str, Any]] = {
    "full": {}, "frozen tower": {"freeze": ("vision", "projector")}, "lora": {"lora": LoRA(rank=2)},
    "checkpointed": {"gradient_checkpointing": True},
}  # fmt: skip


@pytest.fixture
def scaling(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("scaling")


def count(rank: int, world: int, micro_batches: int, copies: int) -> dict[str, list[int]]:
    """The collectives of a step of so many micro-batches, and how many units there are of which kind."""
    dist.init_process_group("gloo", rank=rank, world_size=world)
    mesh = init_device_mesh("cpu", (copies, world // copies), mesh_dim_names=("replicate", "shard"))
    found: dict[str, list[int]] = {}
    for name, options in SETTINGS.items():
        backbone, pixels = tiny_backbone(), PixelBudget(28 * 28, 84 * 84)
        policy = Policy(PolicyConfig(backbone, pixels, **options), backbone.processor(pixels))
        shard_policy(policy, Sharding(mesh if copies > 1 else mesh["shard"]))
        root: Any = policy
        rows = pack([sequenced(policy, "An owl.")], [[0]], policy.processor.padding_token)
        units = [unit for stack in units_of(policy) for unit in stack]
        learned = sum(any(x.requires_grad for x in unit.parameters()) for unit in units)
        root_trained = any(x.requires_grad for x in policy.base.lm_head.parameters())
        with Counted() as counted:
            for index in range(micro_batches):
                root.set_requires_all_reduce(index == micro_batches - 1)  # as the strategy does
                policy(rows).sum().backward()
        reached = len(units) if name in ("full", "checkpointed") else len(policy.base.model.language_model.layers)
        sent = [*counted.gathers_and_reduces, counted.counts["c10d.allreduce_"]]
        found[name] = [*sent, len(units), reached, learned, int(root_trained)]
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("world", "copies"), [(2, 1), (4, 2)])
def test_a_step_has_the_collectives_of_the_formula(scaling: Any, tmp_path: Path, world: int, copies: int):
    for found in work_together(count, world, tmp_path, 3, copies):
        for name, (*sent, units, reached, learned, root_trained) in found.items():
            model = scaling.Model(1, 1, 1, 0, units, reached, learned, bool(root_trained))
            assert scaling.collectives(model, 3, copies) == scaling.Collectives(*sent), name


def test_what_is_sent_is_right_by_hand(scaling: Any):
    model = scaling.Model(weights=100, reached=70, trained=40, root=20, units=4, seen=2, learned=2)
    assert scaling.collectives(model, 1) == scaling.Collectives(1 + 4 + 2, 2 + 1)
    # four micro-batches gather and reduce four times; two copies meet once
    assert scaling.collectives(model, 4, copies=2) == scaling.Collectives(28, 12, 3)
    # 4 ranks: three quarters come from others; 80 weights in bfloat16 twice, 20 in float32 once
    assert scaling.gathered_bytes(model, 4, 2) == 0.75 * (80 * 2 * 2 + 20 * 4)
    assert scaling.reduced_bytes(model, 4) == 0.75 * 40 * 4
    assert scaling.all_reduced_bytes(40, 2) == 2 * 0.5 * 40 * 4
    assert scaling.gathered_bytes(model, 1, 2) == scaling.all_reduced_bytes(40, 1) == 0


def test_computing_counts_what_a_gradient_passes_through_too(scaling: Any):
    cluster, step = scaling.Cluster(flops=1.0), scaling.Step(prompts=1, group=2, prompt=3, mean=4, micro_batch=100)
    lora = scaling.Model(weights=100, reached=70, trained=10, root=20, units=4, seen=2, learned=2)
    # 3 + 2 x 4 tokens; forward 2 x 100, back through 2 x 70, gradients of weights 2 x 10
    assert scaling.seconds(lora, cluster, step, 1, 1).compute == 11 * (200 + 140 + 20)


def test_more_ranks_compute_less_and_decode_no_faster(scaling: Any):
    steps = [scaling.seconds(scaling.SEVEN, scaling.Cluster(), scaling.Step(), ranks, 8) for ranks in (8, 64, 512)]
    assert steps[0].compute == pytest.approx(8 * steps[1].compute) == pytest.approx(64 * steps[2].compute)
    assert len({step.floor for step in steps}) == 1
    # 512 tokens, each of which reads 8.29 billion weights of two bytes from 3.35 TB/s
    assert steps[0].floor == pytest.approx(512 * 2 * 8.29e9 / 3.35e12)
    assert steps[0].total > steps[1].total > steps[2].total


def test_the_page_prints_the_table_of_the_formula(scaling: Any):
    page = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")
    table = scaling.paper()
    columns = [list(column.cells) for column in table.columns]
    for row in zip(*columns, strict=True):
        assert f"| {' | '.join(map(str, row))} |" in page


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="gloo over loopback is tried on Linux")
def test_points_are_measured_on_several_processes(scaling: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "benchmarks"))
    torch.manual_seed(0)
    found = scaling.on(2)
    assert set(found) == {f"{how} {kind}" for how in ("ddp", "fsdp2") for kind in ("strong", "weak")}
    assert all(min(one["sent"], one["step"]) > 0 for one in found.values())
