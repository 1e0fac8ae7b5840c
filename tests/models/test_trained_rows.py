"""Policies that begin from another run, filled by rows, held against the same ones loaded whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from conftest import tiny_backbone, tiny_policy
from safetensors.torch import load_file
from spread import work_together
from torch.distributed.device_mesh import init_device_mesh
from trained_runs import PIXELS, noisy, save

from fgvr.checkpoints.format import STATE
from fgvr.checkpoints.sharded import own_rows
from fgvr.errors import UserError
from fgvr.models import LoRA, Policy, PolicyConfig, Pretrained, Trained
from fgvr.models.rows import load_rows
from fgvr.models.sharding import Sharding, shard_policy, whole
from fgvr.models.trained_rows import HeldRows, MergedRows

SEED = 5
KINDS: dict[str, dict[str, Any]] = {
    "full": {},
    "adapters": {"lora": LoRA(rank=3, alpha=6.0)},
    "rank-stabilised": {"lora": LoRA(rank=3, alpha=6.0, rslora=True)},
    "projector in full": {"lora": LoRA(rank=3, alpha=6.0, full=("projector",))},
    "frozen tower": {"freeze": ("vision",)},
}


def trained(root: Path, kind: str, family: str = "qwen2_5_vl") -> Path:
    """A run on a model that checkpoints can leave out."""
    hub, run = root / family, root / f"{family}-{kind}"
    if not hub.exists():
        first = noisy(tiny_policy(family), 7)
        first.base.save_pretrained(hub)
        first.processor.save(hub)
    backbone = Pretrained(str(hub))
    save(noisy(Policy(PolicyConfig(backbone, PIXELS, **KINDS[kind]), backbone.processor(PIXELS))), run)
    return run


def loaded(run: Path, empty: bool, sharding: Sharding | None = None, **options: Any) -> Policy:
    torch.manual_seed(SEED)
    backbone = Trained(str(run))
    policy = Policy(PolicyConfig(backbone, PIXELS, **options), backbone.processor(PIXELS), empty=empty)
    if sharding is not None:
        shard_policy(policy, sharding)
    if empty:
        source = backbone.rows()
        assert source is not None
        load_rows(policy, source, SEED, torch.device("cpu"))
    return policy


def assert_near(policy: Policy, other: Policy, near: float = 1e-6) -> None:
    ours = dict(policy.named_parameters())
    assert ours.keys() == dict(other.named_parameters()).keys()
    for name, weight in other.named_parameters():
        torch.testing.assert_close(whole(ours[name]), weight, rtol=0, atol=near, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("options", [{}, {"lora": LoRA(rank=2)}], ids=["full", "lora"])
def test_a_policy_filled_by_rows_is_the_one_that_is_rebuilt_whole(tmp_path: Path, kind: str, options: dict[str, Any]):
    run = trained(tmp_path, kind)
    assert_near(loaded(run, empty=True, **options), loaded(run, empty=False, **options))


def test_a_run_on_a_run_on_a_run_is_read_to_its_beginning(tmp_path: Path):
    run = trained(tmp_path, "adapters", "qwen3_vl")
    then: tuple[dict[str, Any], ...] = ({"lora": LoRA(rank=2)}, {"freeze": ("vision",)}, {})
    for number, options in enumerate(then):
        assert_near(loaded(run, empty=True), loaded(run, empty=False))
        following = noisy(loaded(run, empty=False, **options), number)
        run = tmp_path / f"then-{number}"
        save(following, run)
    assert_near(loaded(run, empty=True), loaded(run, empty=False), 0)


def test_adapters_that_scale_weights_by_their_norm_and_drawn_models_come_whole(tmp_path: Path):
    backbone = tiny_backbone()
    lora = LoRA(rank=2, dora=True)
    save(noisy(Policy(PolicyConfig(backbone, PIXELS, lora=lora), backbone.processor(PIXELS))), tmp_path / "dora")
    assert Trained(str(tmp_path / "dora")).rows() is None


def test_a_run_on_weights_that_come_whole_alone_comes_whole(tmp_path: Path):
    run = trained(tmp_path, "adapters")
    hub = tmp_path / "qwen2_5_vl"
    torch.save(load_file(hub / "model.safetensors"), hub / "pytorch_model.bin")
    (hub / "model.safetensors").unlink()
    backbone = Pretrained(str(hub))
    save(noisy(Policy(PolicyConfig(backbone, PIXELS, lora=LoRA(rank=2)), backbone.processor(PIXELS))), run)
    assert Trained(str(run)).rows() is None


def test_rows_of_a_product_are_those_of_the_whole_one_by_hand():
    weight, first = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[1.0, -1.0]])
    rows = MergedRows(HeldRows(weight), HeldRows(first), HeldRows(torch.tensor([[2.0], [5.0]])), 0.5)
    # second row: (3, 4) + .5 * 5 * (1, -1); first: (1, 2) + .5 * 2 * (1, -1)
    assert rows.read(1, 2).tolist() == [[5.5, 1.5]]
    assert rows.read().tolist() == [[2.0, 1.0], [5.5, 1.5]]
    assert rows.shape == weight.shape


def begin_in_parts(rank: int, world: int, runs: dict[str, str]) -> dict[str, int]:
    """Fills policies from runs whose checkpoints are plain, and counts what this process holds of them."""
    dist.init_process_group("gloo", rank=rank, world_size=world)
    found: dict[str, int] = {}
    for name, run in runs.items():
        policy = loaded(Path(run), True, Sharding(init_device_mesh("cpu", (world,))))
        assert_near(policy, loaded(Path(run), empty=False))
        found[name] = sum(own_rows(weight).numel() for weight in policy.parameters())
    state = next((Path(runs["full"]) / "checkpoints").iterdir()) / STATE
    dist.barrier()
    if rank == 0:
        content = bytearray(state.read_bytes())
        content[len(content) // 2] ^= 1
        state.write_bytes(content)
    dist.barrier()
    source = Trained(runs["full"])
    with pytest.raises(UserError, match=r"state\.pt does not have the hash|none that it holds is whole"):
        source.rows()
    return found


@pytest.mark.slow
def test_processes_begin_from_a_run_each_with_its_own_rows(tmp_path: Path):
    runs = {kind: str(trained(tmp_path, kind)) for kind in ("full", "adapters")}
    weights = sum(weight.numel() for weight in loaded(Path(runs["full"]), empty=False).parameters())
    one, other = work_together(begin_in_parts, 2, tmp_path, runs)
    for kind in runs:
        assert one[kind] + other[kind] == weights
        assert one[kind] < 0.6 * weights
