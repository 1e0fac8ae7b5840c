"""How much each process reads and holds when a 3B-shaped model is loaded in parts: bytes of the files, and of memory.

A random Qwen2.5-VL of the 3B's shapes is saved in bfloat16 as the hub has it, then loaded by several processes under
FSDP2's layout. Each must read no more than its own rows, and never hold more than its share and a unit beside.
Run: python benchmarks/own_rows.py (7.5 GB of disk; memory for one float32 copy, a third of it with --tuning lora)
"""

from __future__ import annotations

import gc
import json
import logging
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Literal

import torch
import torch.distributed as dist
from jsonargparse import auto_cli
from torch.distributed.device_mesh import init_device_mesh
from torch.multiprocessing.spawn import spawn
from transformers import AutoModelForImageTextToText

from fgvr.checkpoints.sharded import own_rows
from fgvr.models import LoRA, PixelBudget, Policy, PolicyConfig, Pretrained
from fgvr.models.rows import load_rows
from fgvr.models.sharding import Sharding, shard_policy, units_of

sys.path.insert(0, str(Path(__file__).parent / "gpu"))

Tuning = Literal["full", "lora"]
GIB = 2**30
PIXELS = PixelBudget(28 * 28, 448 * 448)


def save_shaped(folder: Path, shape: str) -> None:
    """A random model in bfloat16 with its processor, in files of 2 GB."""
    from step import SHAPES, Shaped  # pyright: ignore[reportMissingImports]

    backbone = Shaped(SHAPES[shape], "cpu")
    with torch.device("meta"):
        model: Any = AutoModelForImageTextToText.from_config(backbone.config(), dtype=torch.bfloat16)
    model.to_empty(device="cpu")
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.02)
    model.tie_weights()
    model.save_pretrained(folder, max_shard_size="2GB")
    backbone.processor(PIXELS).save(folder)


def load_part(rank: int, world: int, folder: Path, tuning: Tuning, out: Path) -> None:
    """What this process read and held, as json."""
    dist.init_process_group("gloo", init_method=f"file://{out}/meet", rank=rank, world_size=world)
    torch.set_num_threads(1)
    backbone = Pretrained(str(folder))
    config = PolicyConfig(backbone, PIXELS, lora=LoRA() if tuning == "lora" else None)
    policy = Policy(config, backbone.processor(PIXELS), empty=True)
    shard_policy(policy, Sharding(init_device_mesh("cpu", (world,)), torch.bfloat16 if tuning == "lora" else None))
    source = backbone.rows()
    assert source is not None
    gc.collect()
    before, began = _memory("VmRSS"), time.perf_counter()
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    read = load_rows(policy, source, 0, torch.device("cpu"))
    seconds = time.perf_counter() - began
    held = [(weight, ".lora_" in name) for name, weight in policy.named_parameters()]
    stored = sum(own_rows(weight).numel() * 2 for weight, drawn in held if not drawn)  # bfloat16 in the files
    share = sum(own_rows(weight).nbytes for weight, _ in held)
    units = [unit for stack in units_of(policy) for unit in stack]
    unit = max(sum(weight.numel() * weight.element_size() for weight in one.parameters()) for one in units)
    found = {"read": read, "own": stored, "share": share, "unit": unit, "peak": _memory("VmHWM") - before}
    (out / f"{rank}.json").write_text(json.dumps(found | {"seconds": seconds}))
    dist.barrier()


def _memory(entry: str) -> int:
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in status if line.startswith(entry))


def compare(processes: int = 2, tuning: Tuning = "full", shape: Literal["3b", "tiny"] = "3b") -> None:
    """Prints a row for each process.

    Args:
        processes: how many have a part each
        tuning: full holds float32 weights, lora the frozen ones in bfloat16
        shape: tiny tries the benchmark itself
    """
    logging.getLogger("fgvr").setLevel(logging.WARNING)
    place = Path(tempfile.mkdtemp(prefix="own-rows-"))
    try:
        save_shaped(place / "model", shape)
        spawn(load_part, (processes, place / "model", tuning, place), nprocs=processes)
        for rank in range(processes):
            found = json.loads((place / f"{rank}.json").read_text())
            assert found["read"] == found["own"], "its own rows and no other"
            told = ", ".join(f"{name} {found[name] / GIB:.3f}" for name in ("read", "share", "unit", "peak"))
            within = found["peak"] <= found["share"] + found["unit"]
            print(f"process {rank}: GiB {told}; peak {'<=' if within else '>'} share + unit; {found['seconds']:.0f} s")
    finally:
        shutil.rmtree(place)


if __name__ == "__main__":
    auto_cli(compare, as_positional=False)
