"""A step on many GPUs by formula, and steps on 1, 2 and 4 processes of a CPU, measured beside what the formula says.

Run: python benchmarks/scaling.py        both tables
     python benchmarks/scaling.py paper  the formula's alone, which takes a second
"""

from __future__ import annotations

import json
import os
import socket
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from rich.console import Console
from rich.table import Table
from torch.distributed.device_mesh import init_device_mesh
from torch.multiprocessing.spawn import spawn
from torch.nn.parallel import DistributedDataParallel

from fgvr.kernels.group_packing import pack_groups
from fgvr.models import PixelBudget, Policy, PolicyConfig, TinyQwen
from fgvr.models.sharding import Sharding, shard_policy, units_of
from fgvr.types import EncodedPrompt, GroupRows, ImageFeatures, ImageInputs


@dataclass(frozen=True)
class Model:
    """Weights: in all, `reached` by a gradient, trained, and in no unit (`root`).

    `units` take part in a pass, `learned` of them have trained weights, and `seen` are gathered again for the backward
    pass: those that a gradient reaches.
    """

    weights: float
    reached: float
    trained: float
    root: float
    units: int
    seen: int
    learned: int
    root_trained: bool = True


@dataclass(frozen=True)
class Cluster:
    """Nodes of `node` devices: bytes a second that one of them sends within a node and to others, FLOP, memory.

    The bandwidths are what a ring of them reaches, `flops` what an update reaches (peak times MFU), `memory` bytes a
    second that are read from a device's own memory.
    """

    node: int = 8
    within: float = 300e9
    between: float = 40e9
    flops: float = 989e12 * 0.35
    memory: float = 3.35e12


@dataclass(frozen=True)
class Step:
    """One RL step: `prompts` of all ranks with `group` completions, of `longest` tokens at the most and `mean` ones.

    A prompt is `prompt` tokens; a micro-batch of a rank holds `micro_batch` tokens.
    """

    prompts: int = 512
    group: int = 8
    prompt: int = 700
    mean: int = 200
    longest: int = 512
    micro_batch: int = 16_384


@dataclass(frozen=True)
class Collectives:
    """Of one rank in one step's update: units gathered, gradients added up in parts, and parts added up over copies."""

    gathers: int
    reduces: int
    all_reduces: int = 0


def collectives(model: Model, micro_batches: int, copies: int = 1) -> Collectives:
    """FSDP2's, for a step of so many micro-batches: the root once and each unit once forward, once back.

    The `copies` of a model meet once a step, at its last micro-batch.
    """
    gathers, trained = 1 + model.units + model.seen, model.learned + model.root_trained
    return Collectives(micro_batches * gathers, micro_batches * trained, trained if copies > 1 else 0)


def gathered_bytes(model: Model, shards: int, passes: int) -> float:
    """Received by a rank: units in bfloat16, as often as `passes` says, the root in float32 once."""
    return (shards - 1) / shards * (2 * (model.weights - model.root) * passes + 4 * model.root)


def reduced_bytes(model: Model, shards: int) -> float:
    """Sent by a rank where gradients are added up in float32, each rank keeping its part."""
    return (shards - 1) / shards * 4 * model.trained


def all_reduced_bytes(weights: float, ranks: int) -> float:
    """Sent by a rank in a ring that adds up float32 gradients and gives all of them to everybody."""
    return 2 * (ranks - 1) / ranks * 4 * weights


@dataclass(frozen=True)
class Seconds:
    """A step of one rank. `exposed` is communication that no computing hides, `gather` before a rollout, `floor` the
    decoding of the longest completion, `wait` for it the ranks whose own have ended."""

    compute: float
    exposed: float
    gather: float
    floor: float
    wait: float

    @property
    def total(self) -> float:
        return self.compute + self.exposed + self.gather + self.floor


def seconds(model: Model, cluster: Cluster, step: Step, ranks: int, shards: int) -> Seconds:
    """Of an RL step on `ranks` devices, `shards` of which share a copy of the weights; 1 is DDP."""
    tokens = step.prompts * (step.prompt + step.group * step.mean) / ranks
    micro_batches = max(1, round(tokens / step.micro_batch))
    compute = 2 * (model.weights + model.reached + model.trained) * tokens / cluster.flops
    speed = cluster.within if max(shards, 2) <= cluster.node else cluster.between
    replicas, gather = ranks // shards, 0.0
    across = cluster.between if ranks > cluster.node else cluster.within
    if shards == 1:
        sent = all_reduced_bytes(model.trained, ranks) / across
        hidden = compute / micro_batches * 2 / 3  # the last micro-batch's backward pass
    else:
        moved = gathered_bytes(model, shards, 2) + reduced_bytes(model, shards)
        sent = micro_batches * moved / speed + all_reduced_bytes(model.trained / shards, replicas) / across
        hidden = compute
        gather = gathered_bytes(model, shards, 1) / speed
    first = sent / (micro_batches * max(1, model.units))  # nothing is computed while the first unit comes
    token = 2 * model.weights / cluster.memory
    floor = step.longest * token
    return Seconds(compute, max(0.0, sent - hidden) + first, gather, floor, (step.longest - step.mean) * token)


THREE = Model(3.75e9, 3.09e9, 3.09e9, 0.31e9, 69, 36, 36)
SEVEN = Model(8.29e9, 8.29e9, 8.29e9, 1.09e9, 61, 61, 61)
# adapters on the language model: no gradient passes through the tower
LORA = replace(SEVEN, weights=8.45e9, reached=7.77e9, trained=0.16e9, seen=28, learned=28, root_trained=False)
ON_PAPER = {
    "3B, tower frozen, DDP": (THREE, lambda ranks: 1),
    "7B, all trained, copies of 8 (HSDP)": (SEVEN, lambda ranks: 8),
    "7B, all trained, one copy": (SEVEN, lambda ranks: ranks),
    "7B, LoRA, DDP": (LORA, lambda ranks: 1),
}


def paper() -> Table:
    """Strong scaling, the same 512 prompts on ever more devices, and weak scaling, 64 prompts a device."""
    columns = (
        "training",
        "GPUs",
        "compute s",
        "exposed s",
        "gather s",
        "decode floor s",
        "bubble",
        "strong s",
        "weak s",
    )
    table = Table(*columns, title="a step of 512 prompts x 8 completions, or of 64 a GPU, by formula; H100, nodes of 8")
    for name, (model, shards) in ON_PAPER.items():
        eight = seconds(model, Cluster(), Step(), 8, shards(8)).total  # of 64 prompts each
        for ranks in (8, 32, 64, 128, 256, 512):
            found = seconds(model, Cluster(), Step(), ranks, shards(ranks))
            weak = seconds(model, Cluster(), Step(prompts=64 * ranks), ranks, shards(ranks)).total
            parts = [f"{part:.2f}" for part in (found.compute, found.exposed, found.gather, found.floor)]
            strong = f"{found.total:.2f} ({eight * 8 / (found.total * ranks):.0%})"
            bubble = f"{found.wait / found.total:.0%}"
            table.add_row(name, str(ranks), *parts, bubble, strong, f"{weak:.2f} ({eight / weak:.0%})")
    return table


# What follows is measured.

PROMPT, GROUP, LONGEST, STEPS = 80, 8, 24, 5


def policy_of() -> Policy:
    torch.manual_seed(0)
    backbone = TinyQwen(["."], hidden=256, layers=4, heads=4, vision_hidden=64, vision_layers=1)
    return Policy(PolicyConfig(backbone, freeze=("vision", "projector")), backbone.processor(PixelBudget()))


def rows_of(policy: Policy, groups: int) -> GroupRows:
    """Random words after prompts of random words."""
    torch.manual_seed(1)
    none = ImageInputs(torch.zeros(0, 0, dtype=torch.uint8), torch.zeros(0, 3, dtype=torch.long))
    prompt = EncodedPrompt(torch.randint(20, 250, (PROMPT,)), torch.arange(PROMPT).expand(3, -1), none)
    features = ImageFeatures(torch.zeros(0, 256), None)
    completions = [[torch.randint(20, 250, (LONGEST,)) for _ in range(GROUP)] for _ in range(groups)]
    return pack_groups([prompt] * groups, completions, [features] * groups, policy.processor.padding_token)


class Scored(torch.nn.Module):
    """A policy whose forward pass is what an update runs, as DDP wants it."""

    def __init__(self, policy: Policy) -> None:
        super().__init__()
        self.policy = policy

    def forward(self, rows: GroupRows) -> torch.Tensor:
        return self.policy.completion_logprobs(rows)[0].sum()


def measure(how: str, groups: int) -> dict[str, float]:
    """Seconds of the fastest update of this process's groups, and of its communication alone (the ranks have met)."""
    policy, world = policy_of(), dist.get_world_size()
    learned = sum(weight.numel() for _, weight in policy.trainable())
    sent = 0.0
    if how == "fsdp2":
        shard_policy(policy, Sharding(init_device_mesh("cpu", (world,))))
    scored: Any = Scored(policy)
    if how == "ddp" and world > 1:
        scored = DistributedDataParallel(scored, gradient_as_bucket_view=True)
    rows = rows_of(policy, groups)
    optimizer = torch.optim.AdamW([weight for _, weight in policy.trainable()], lr=1e-6, fused=True)
    taken: list[float] = []
    for _ in range(STEPS + 1):
        dist.barrier()
        began = time.perf_counter()
        scored(rows).backward()
        optimizer.step()
        optimizer.zero_grad()
        taken.append(time.perf_counter() - began)
    if world > 1:
        sent = _alone(how, learned, world)
    return {"step": min(taken[1:]), "sent": sent, "units": float(sum(map(len, units_of(policy))))}


def _alone(how: str, learned: int, world: int) -> float:
    """Seconds that as many bytes take as the formula says, with nothing else going on."""
    buffer = torch.zeros(learned // world * world)
    parts = list(buffer.chunk(world))
    part = torch.zeros_like(parts[0])
    taken: list[float] = []
    for _ in range(STEPS):
        dist.barrier()
        began = time.perf_counter()
        if how == "ddp":
            dist.all_reduce(buffer)
        else:
            for _ in range(2):
                dist.all_gather(parts, part)
            dist.reduce_scatter(part, parts)
        taken.append(time.perf_counter() - began)
    return min(taken)


def _take_part(rank: int, world: int, port: int, folder: str) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=world)
    found = {
        f"{how} {kind}": measure(how, groups)
        for how in ("ddp", "fsdp2")
        for kind, groups in (("strong", 8 // world), ("weak", 4))
    }
    if rank == 0:
        (Path(folder) / "found.json").write_text(json.dumps(found))
    dist.destroy_process_group()


def on(world: int) -> dict[str, dict[str, float]]:
    with socket.socket() as probe, tempfile.TemporaryDirectory() as folder:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        spawn(_take_part, (world, port, folder), nprocs=world)
        return json.loads((Path(folder) / "found.json").read_text())


def measured() -> Table:
    """Steps on this machine: computing shared by as many cores as there are, plus what is sent, against the clock."""
    cores, alone = os.cpu_count() or 1, on(1)
    columns = ("strategy", "scaling", "ranks", "step ms, measured", "by formula", "ratio", "of it sent ms")
    table = Table(*columns, title=f"an update on {cores} cores; 8 groups in all (strong) or 4 a rank (weak)")
    for world, found in ((1, alone), (2, on(2)), (4, on(4))):
        for name, own in found.items():
            how, kind = name.split()
            crowd = max(1.0, world / cores)
            compute = alone[f"ddp {kind}"]["step"] * crowd / (world if kind == "strong" else 1)
            reckoned = compute + own["sent"]
            table.add_row(
                how, kind, str(world), f"{1e3 * own['step']:.0f}", f"{1e3 * reckoned:.0f}",
                f"{own['step'] / reckoned:.2f}", f"{1e3 * own['sent']:.0f}",
            )  # fmt: skip
    return table


def main() -> None:
    console = Console(width=140)
    console.print(paper())
    if sys.argv[1:] != ["paper"]:
        console.print(measured())


if __name__ == "__main__":
    main()
