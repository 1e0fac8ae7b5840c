from __future__ import annotations

import gc
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from conftest import sequenced, tiny_backbone
from safetensors.torch import load_file, save_file
from spread import work_together
from torch.distributed.device_mesh import init_device_mesh

from fgvr.checkpoints.sharded import own_rows
from fgvr.data.collate import pack
from fgvr.errors import UserError
from fgvr.models import LoRA, PixelBudget, Policy, PolicyConfig, Pretrained
from fgvr.models.rows import WeightFiles, load_rows
from fgvr.models.sharding import Sharding, rows_kept, shard_policy, units_of, whole

FAMILIES = ("qwen2_5_vl", "qwen3_vl")
CPU = torch.device("cpu")
SEED = 11


def folder_of(root: Path, family: str, tied: bool = False, files: int = 1) -> Path:
    """A model as transformers saves it, under the hub's names, with its processor."""
    folder = root / f"{family}-{tied}-{files}"
    backbone = tiny_backbone(family)
    model: Any = backbone.build("sdpa")
    if tied:
        model.config.tie_word_embeddings = model.config.text_config.tie_word_embeddings = True
        model.tie_weights()
    most = sum(x.nbytes for x in model.parameters()) // files + 1 if files > 1 else 10**9
    model.save_pretrained(folder, max_shard_size=most)
    backbone.processor(PixelBudget()).save(folder)
    return folder


def policy_of(folder: Path, empty: bool, **options: Any) -> Policy:
    backbone = Pretrained(str(folder))
    torch.manual_seed(SEED)
    pixels = PixelBudget(28 * 28, 84 * 84)
    return Policy(PolicyConfig(backbone, pixels, **options), backbone.processor(pixels), empty=empty)


def filled(folder: Path, sharding: Sharding | None = None, **options: Any) -> tuple[Policy, int]:
    policy = policy_of(folder, empty=True, **options)
    if sharding is not None:
        shard_policy(policy, sharding)
    source = policy.config.backbone.rows()
    assert source is not None
    return policy, load_rows(policy, source, SEED, CPU)


def assert_alike(policy: Policy, other: Policy) -> None:
    own = dict(policy.named_parameters())
    for name, weight in other.named_parameters():
        assert torch.equal(whole(own[name]), weight), name
        assert own[name].requires_grad == weight.requires_grad
    buffers = dict(policy.named_buffers())
    for name, value in other.named_buffers():
        assert torch.equal(buffers[name], value), name
    assert not any(x.is_meta for x in (*policy.parameters(), *policy.buffers()))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    "options", [{}, {"lora": LoRA(rank=4)}, {"freeze": ("vision",)}], ids=["full", "lora", "frozen"]
)
def test_a_filled_policy_is_the_one_that_is_loaded_whole(tmp_path: Path, family: str, options: dict[str, Any]):
    folder = folder_of(tmp_path, family, files=3)
    policy, read = filled(folder, **options)
    assert_alike(policy, policy_of(folder, empty=False, **options))
    assert read == sum(file.stat().st_size - _header(file) for file in folder.glob("*.safetensors"))


@pytest.mark.parametrize("family", FAMILIES)
def test_tied_weights_stay_tied(tmp_path: Path, family: str):
    policy, _ = filled(folder_of(tmp_path, family, tied=True))
    assert policy.base.lm_head.weight is policy.base.model.language_model.embed_tokens.weight


@pytest.mark.parametrize("family", FAMILIES)
def test_names_that_transformers_uses_itself_are_known_too(tmp_path: Path, family: str):
    folder = folder_of(tmp_path, family)
    whole_policy = policy_of(folder, empty=False)
    named = {name: value.contiguous() for name, value in whole_policy.base.state_dict().items()}
    save_file(named, folder / "model.safetensors", metadata={"format": "pt"})
    assert_alike(filled(folder)[0], whole_policy)


def test_a_weight_that_is_missing_or_of_another_shape_is_named(tmp_path: Path):
    folder = folder_of(tmp_path, "qwen2_5_vl")
    file = folder / "model.safetensors"
    content = load_file(file)
    lost = next(name for name in content if name.endswith("q_proj.weight"))
    save_file({name: value for name, value in content.items() if name != lost}, file, metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"must hold every weight of the model, but 1 are missing.*q_proj"):
        filled(folder)
    save_file({**content, lost: content[lost][1:].contiguous()}, file, metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"weights of the model's shapes, but .*q_proj"):
        filled(folder)


def test_a_file_that_is_cut_off_is_named(tmp_path: Path):
    folder = folder_of(tmp_path, "qwen2_5_vl")
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    policy = policy_of(folder, empty=True)
    with pytest.raises(UserError, match=r"model\.safetensors must be a whole safetensors file"):
        load_rows(policy, WeightFiles([file], str(folder)), SEED, CPU)


def test_weights_that_are_no_safetensors_come_whole(tmp_path: Path):
    folder = folder_of(tmp_path, "qwen2_5_vl")
    (folder / "model.safetensors").unlink()
    assert Pretrained(str(folder)).rows() is None
    assert tiny_backbone().rows() is None


def _header(file: Path) -> int:
    return 8 + int.from_bytes(file.read_bytes()[:8], "little")


def load_in_parts(rank: int, world: int, folders: list[str]) -> dict[str, Any]:
    """Loads each model in parts, in float32, with adapters in bfloat16 beside float32, and as two copies."""
    dist.init_process_group("gloo", rank=rank, world_size=world)
    shapes = {"shard": init_device_mesh("cpu", (world,))}
    if world == 4:
        shapes = {"both": init_device_mesh("cpu", (2, 2), mesh_dim_names=("replicate", "shard"))}
    found: dict[str, Any] = {}
    for folder in map(Path, folders):
        for shape, mesh in shapes.items():
            for kind, options in {"full": {}, "lora": {"lora": LoRA(rank=3)}}.items():
                policy, read = filled(folder, Sharding(mesh), **options)
                other = policy_of(folder, empty=False, **options)
                assert_alike(policy, other)
                rows = pack([sequenced(policy, "An owl.")], [[0]], policy.processor.padding_token)
                ours, theirs = policy(rows), other(rows)
                torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)
                ours.sum().backward()
                assert all(weight.grad is not None for _, weight in policy.trainable())
                named = [weight for name, weight in policy.named_parameters() if ".lora_" not in name]
                own = sum(own_rows(weight).nbytes for weight in named)
                found[f"{folder.name} {shape} {kind}"] = {"read": read, "own": own}
                assert all(rows_kept(weight)[1] == len(own_rows(weight)) for weight in named)
        half, _ = filled(folder, Sharding(next(iter(shapes.values())), torch.bfloat16), lora=LoRA(rank=3))
        kinds = {weight.dtype for name, weight in half.named_parameters() if ".lora_" in name}
        assert kinds == {torch.float32}
        assert half.base.model.language_model.layers[0].mlp.up_proj.base_layer.weight.dtype == torch.bfloat16
    return found


@pytest.mark.slow
@pytest.mark.parametrize("world", [2, 3, 4])
def test_each_process_reads_its_own_rows_and_no_other(tmp_path: Path, world: int):
    folders = [folder_of(tmp_path, family, tied, files=2) for family in FAMILIES for tied in (False, True)]
    found = work_together(load_in_parts, world, tmp_path, [str(folder) for folder in folders])
    for name, mine in found[0].items():
        total = sum(other[name]["read"] for other in found)
        for rank in found:
            assert rank[name]["read"] == rank[name]["own"]
        whole_bytes = _weights(tmp_path / name.split()[0])
        copies = 2 if world == 4 else 1
        assert total == copies * whole_bytes
        assert mine["read"] < 0.7 * whole_bytes


def _weights(folder: Path) -> int:
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        return int(json.loads(index.read_text())["metadata"]["total_size"])
    return sum(value.nbytes for value in load_file(folder / "model.safetensors").values())


def room_taken(rank: int, world: int, folder: str) -> dict[str, int]:
    """Bytes at the peak of loading beyond what was there before; those that stay, and those of the largest unit."""
    dist.init_process_group("gloo", rank=rank, world_size=world)
    sharding = Sharding(init_device_mesh("cpu", (world,)))
    filled(Path(folder) / "small", sharding)  # so that nothing is loaded or compiled for the first time
    policy = policy_of(Path(folder) / "large", empty=True)
    shard_policy(policy, sharding)
    source = policy.config.backbone.rows()
    assert source is not None
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = _status("VmRSS")
    load_rows(policy, source, SEED, CPU)
    unit = max(sum(x.numel() * 4 for x in unit.parameters()) for stack in units_of(policy) for unit in stack)
    share = sum(own_rows(weight).nbytes for weight in policy.parameters())
    return {"peak": _status("VmHWM") - before, "share": share, "unit": unit}


def _status(name: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return 1024 * int(line.split()[1])


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="resident memory is read as Linux tells it")
def test_a_process_never_holds_more_than_its_share_and_a_unit(tmp_path: Path):
    folder_of(tmp_path, "qwen2_5_vl").rename(tmp_path / "small")
    backbone = tiny_backbone(hidden=768, layers=8, heads=4, vision_hidden=64)
    model: Any = backbone.build("sdpa")
    model.save_pretrained(tmp_path / "large")
    backbone.processor(PixelBudget()).save(tmp_path / "large")
    weights = sum(x.nbytes for x in model.parameters())
    del model
    for found in work_together(room_taken, 2, tmp_path, str(tmp_path)):
        assert found["share"] == pytest.approx(weights / 2, rel=0.02)
        assert found["share"] < found["peak"] <= found["share"] + found["unit"]
