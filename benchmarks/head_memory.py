"""Peak memory of the chunked head against the plain one, as the vocabulary grows.

Each figure is of a process of its own: the largest resident size while log-probs and their gradients are computed,
less what was resident before, less the gradients themselves. Run: python benchmarks/head_memory.py
"""

from __future__ import annotations

import multiprocessing
import resource
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from fgvr.kernels.token_logprobs import token_logprobs, token_logprobs_reference

ROWS, WIDTH = 2048, 256
VOCABULARIES = (32_768, 65_536, 151_936)


def resident() -> float:
    """Largest resident size of this process so far, in MiB."""
    status = Path("/proc/self/status")
    if status.is_file():  # what getrusage tells begins, on Linux, with what the process had that started this one
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM")) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def measure(vocabulary: int, chunked: bool) -> float:
    """MiB needed beyond inputs and gradients, forward and backward."""
    torch.set_num_threads(2)
    hidden = torch.randn(ROWS, WIDTH, requires_grad=True)
    weight = torch.randn(vocabulary, WIDTH).mul_(0.02).requires_grad_()
    targets = torch.randint(vocabulary, (ROWS,))
    head = token_logprobs if chunked else token_logprobs_reference
    head(hidden[:8], weight[:64], targets[:8] % 64).sum().backward()  # warm-up; leaves both gradients allocated
    before = resident()
    head(hidden, weight, targets).sum().backward()
    return (
        resident() - before - weight.numel() * 4 / 2**20
    )  # autograd holds a second copy of the weight's gradient while it adds


def main() -> None:
    table = Table(
        "vocabulary",
        "chunked MiB",
        "plain MiB",
        "plain / chunked",
        title=f"head, {ROWS} rows x {WIDTH}, forward and backward",
    )
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        for vocabulary in VOCABULARIES:
            chunked, plain = (pool.apply(measure, (vocabulary, how)) for how in (True, False))
            table.add_row(f"{vocabulary:,}", f"{chunked:.0f}", f"{plain:.0f}", f"{plain / max(chunked, 1):.1f} x")
    Console().print(table)


if __name__ == "__main__":
    main()
