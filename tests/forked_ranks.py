"""Groups of processes that share weights, forked from one that has imported what they need: for scripts of tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from fgvr.ranks import Ranks, of_all_ranks

ROOT = Path(__file__).parents[1]


def run_script(script: str, *args: str) -> list[Any]:
    """What a script of python prints, line by line as JSON, which must end well."""
    paths = {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "OMP_NUM_THREADS": "1"}
    line = [sys.executable, "-c", script, *args]
    done = subprocess.run(line, capture_output=True, text=True, env={**os.environ, **paths})
    assert done.returncode == 0, done.stderr
    return [json.loads(said) for said in done.stdout.splitlines()]


def say(told: Any) -> None:
    """Prints a line of JSON in one piece: others print too."""
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()


def group(world: int, work: Callable[..., None], *args: Any) -> list[int]:
    """Runs `work(rank, ranks, *args)` in `world` new processes over gloo; what each ended with, as waitpid says it."""
    with tempfile.TemporaryDirectory() as folder:
        children = []
        for rank in range(world):
            sys.stdout.flush()
            if (child := os.fork()) == 0:
                _become(rank, world, Path(folder) / "store", work, args)
            children.append(child)
        return [os.waitpid(child, 0)[1] for child in children]


def _become(rank: int, world: int, store: Path, work: Callable[..., None], args: tuple[Any, ...]) -> None:
    code = 1
    try:
        dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
        work(rank, Ranks(world, of_all_ranks), *args)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


class Net(torch.nn.Module):
    """Three layers, of which two share their weight."""

    def __init__(self, wide: int, middle: int, narrow: int) -> None:
        super().__init__()
        self.first = torch.nn.Linear(wide, middle)
        self.second, self.tied = (torch.nn.Linear(middle, narrow, bias=False) for _ in range(2))
        self.tied.weight = self.second.weight

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(rows)) + self.tied(self.first(rows))


def trained(replicate: int = 1, shape: tuple[int, int, int] = (7, 5, 3)) -> tuple[Net, torch.optim.Optimizer]:
    """Spread over the processes, in as many copies as `replicate` says, and trained for two steps."""
    torch.manual_seed(0)
    net, world = Net(*shape), dist.get_world_size()
    sizes = (world,) if replicate == 1 else (replicate, world // replicate)
    fully_shard(net, mesh=init_device_mesh("cpu", sizes, mesh_dim_names=("replicate", "shard")[-len(sizes) :]))
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.1, fused=True)
    for _ in range(2):
        net(torch.randn(4, shape[0])).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    return net, optimizer


def checkpoint(net: torch.nn.Module, optimizer: torch.optim.Optimizer, step: int = 2) -> dict[str, Any]:
    return {"global_step": step, "state_dict": net.state_dict(), "optimizer_states": [optimizer.state_dict()]}


def gathered(value: Any) -> Any:
    """The same with every tensor whole. A collective call."""
    if isinstance(value, dict):
        return {key: gathered(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [gathered(entry) for entry in value]
    return value.full_tensor() if isinstance(value, DTensor) else value
