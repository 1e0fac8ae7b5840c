"""How long a training waits for a checkpoint: one that is written at once, and one that is written in the background.

Both are of the same weights with Adam's state, in turn, by one process that holds all of it or by several that hold
rows of it; what is read back must be the same. Run: python benchmarks/background_save.py [--processes 2]
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from jsonargparse import auto_cli
from torch.distributed.fsdp import fully_shard
from torch.multiprocessing.spawn import spawn

from fgvr.checkpoints.format import read_checkpoint, remove_checkpoint
from fgvr.ranks import Ranks, of_all_ranks
from fgvr.strategies.saving import Background, begin_together, complete_together

WIDTH = 1024


def content_of(megabytes: int, sharded: bool) -> dict[str, Any]:
    """A checkpoint of about that size: a stack of layers and what AdamW keeps of them after a step."""
    torch.manual_seed(0)
    layers = max(1, megabytes * 10**6 // (3 * 4 * WIDTH * WIDTH))
    net = torch.nn.Sequential(*(torch.nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(layers)))
    if sharded:
        fully_shard(net)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, fused=True)
    net(torch.randn(2, WIDTH)).sum().backward()
    optimizer.step()
    return {"global_step": 1, "state_dict": net.state_dict(), "optimizer_states": [optimizer.state_dict()]}


def seconds(work: Callable[[], Any], ranks: Ranks) -> float:
    """Of the slowest process."""
    ranks.gather([0])
    began = time.perf_counter()
    work()
    return max(ranks.gather([time.perf_counter() - began]))


def measure(rank: int, processes: int, megabytes: int, times: int, folder: str) -> None:
    """Saves at once and in the background in turn, and prints what the training waited for each."""
    torch.set_num_threads(1)
    if processes > 1:
        dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=processes)
    ranks = Ranks(processes, of_all_ranks)
    content, path = content_of(megabytes, processes > 1), Path(folder) / "saved.ckpt"
    background = Background()
    background.prepare(int(megabytes * 1.1e6) // processes)
    time.sleep(5)  # as a first step takes

    def at_once() -> None:
        saving = begin_together(content, path, ranks, rank)
        complete_together(saving, saving.write, ranks)

    waited: dict[str, list[float]] = {"at once": [], "in the background": [], "until it is whole": []}
    for _ in range(times):
        waited["at once"].append(seconds(at_once, ranks))
        expected = read_checkpoint(path)["state_dict"] if rank == 0 else {}
        ranks.gather([0])
        if rank == 0:
            remove_checkpoint(path)
        began = time.perf_counter()
        waited["in the background"].append(
            seconds(lambda: background.begin(begin_together(content, path, ranks, rank)), ranks)
        )
        background.finish(ranks)
        waited["until it is whole"].append(time.perf_counter() - began)
        if rank == 0:
            found = read_checkpoint(path)["state_dict"]
            assert all(torch.equal(found[name], weight) for name, weight in expected.items())
    background.close()
    if rank == 0:
        for name, took in waited.items():
            share = statistics.median(took) / statistics.median(waited["at once"])
            each = ", ".join(f"{one:.3f}" for one in took)
            print(f"{name:18} {statistics.median(took):.3f} s, {share:.1%} of a save at once ({each})")


def main(processes: int = 1, megabytes: int = 600, times: int = 5) -> None:
    """Measures saves of a checkpoint.

    Args:
        processes: how many share the weights.
        megabytes: size of the checkpoint, weights and Adam's state.
        times: saves of each kind.
    """
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        print(f"{processes} processes, {megabytes} MB")
        if processes == 1:
            measure(0, 1, megabytes, times, folder)
        else:
            spawn(measure, (processes, megabytes, times, folder), nprocs=processes)


if __name__ == "__main__":
    auto_cli(main)
