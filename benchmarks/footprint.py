"""Peak memory of a training on a CPU, measured, against what `fgvr estimate` reckons from the config.

Each figure is of a process of its own: the largest resident size while a policy is built, takes two optimiser steps and
samples, less what was resident before. Run: python benchmarks/footprint.py
"""

from __future__ import annotations

import gc
import os
import resource
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from head_memory import resident
from rich.console import Console
from rich.table import Table

from fgvr.kernels.group_packing import join_images, pack_groups
from fgvr.models import LoRA, PixelBudget, Policy, PolicyConfig, TinyQwen
from fgvr.models.anatomy import Anatomy
from fgvr.models.footprint import Footprint, Rows, Spread, Written, footprint
from fgvr.models.processor import Processor
from fgvr.models.sampling import Sampling
from fgvr.models.weight_names import Part
from fgvr.types import EncodedPrompt, GroupRows, ImageFeatures, ImageInputs

TEXT = 14  # tokens around an image
FOLDERS = (Path(__file__).parent, Path(__file__).parents[1])  # where the other process finds this file and fgvr
# so that what is freed goes back to the system at once: the largest resident size is then what was alive together
HONEST = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536", "OMP_NUM_THREADS": "1"}


@dataclass(frozen=True)
class Case:
    """A policy and the groups of one micro-batch: `groups` of `group` completions of `longest` tokens, a photo each."""

    family: str = "qwen2_5_vl"
    hidden: int = 512
    layers: int = 4
    words: int = 1024
    side: int = 168  # pixels
    groups: int = 4
    group: int = 8
    longest: int = 48
    freeze: tuple[Part, ...] = ("vision", "projector")
    rank: int | None = None
    full: tuple[Part, ...] = ()
    checkpointing: bool = False
    half: bool = False

    @property
    def backbone(self) -> TinyQwen:
        sizes = {"hidden": self.hidden, "layers": self.layers, "heads": 8, "vision_hidden": 256, "vision_layers": 4}
        return TinyQwen(["."], family=self.family, tokens=self.words, **sizes)  # pyright: ignore[reportArgumentType]

    @property
    def policy(self) -> PolicyConfig:
        lora = None if self.rank is None else LoRA(rank=self.rank, full=self.full)
        return PolicyConfig(
            self.backbone,
            freeze=self.freeze,
            lora=lora,
            gradient_checkpointing=self.checkpointing,
        )

    @property
    def features_carried(self) -> bool:
        return not self.full and (self.rank is not None or "vision" in self.freeze)

    def reckoned(self) -> Footprint:
        merged = (self.side // self.grid) ** 2
        prompt, patches = merged + TEXT, 4 * merged
        images = 0 if self.features_carried else self.groups
        width = prompt + self.group * self.longest
        rows = Rows(self.groups, width, self.groups * self.group * self.longest, prompt, self.group, images, patches)
        written = Written(self.groups, self.group, prompt, self.longest, patches)
        spread = Spread(half=self.half)
        return footprint(Anatomy(self.backbone.config(), self.policy), [rows, rows], [written], spread, kl=False)

    @property
    def grid(self) -> int:
        return 28 if self.family == "qwen2_5_vl" else 32


CASES = {
    "Qwen2.5-VL, tower frozen": Case(),
    "the same, checkpointed": Case(checkpointing=True),
    "the same, in bfloat16": Case(half=True),
    "everything trained": Case(freeze=()),
    "LoRA of rank 16": Case(freeze=(), rank=16),
    "LoRA of rank 16, checkpointed": Case(freeze=(), rank=16, checkpointing=True),
    "LoRA of rank 16, projector in full": Case(freeze=("vision",), rank=16, full=("projector",)),
    "wide and shallow": Case(hidden=1024, layers=2, groups=2),
    "deep, long completions": Case(hidden=256, layers=12, longest=96, groups=3),
    "Qwen3-VL, tower frozen": Case(family="qwen3_vl", side=192),
    "Qwen3-VL, everything trained": Case(family="qwen3_vl", side=192, freeze=()),
}


def prompt_of(case: Case, processor: Processor) -> EncodedPrompt:
    """A grey photo among words."""
    side = case.side // (case.grid // 2)
    image = processor.image_token
    ids = torch.cat([torch.full((7,), 30), torch.full(((side // 2) ** 2,), image), torch.full((TEXT - 7,), 31)])
    width = 3 * (case.grid // 2) ** 2  # of one frame
    images = ImageInputs(torch.zeros(side * side, width, dtype=torch.uint8), torch.tensor([[1, side, side]]))
    return EncodedPrompt(ids, torch.arange(len(ids)).expand(3, -1), images)


def step(policy: Policy, rows: GroupRows, half: bool) -> None:
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        logp, _ = policy.completion_logprobs(rows)
        logp.sum().backward()


def resident_now() -> float:
    """MiB that this process holds at the moment (Linux)."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def measure(case: Case, sampling: bool) -> float:
    """MiB at the peak of updates or of sampling, beyond what the process had before the policy was built."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    small = Case(hidden=128, layers=1, groups=1, group=2, longest=4, side=56 if case.grid == 28 else 64)
    _take(*_built(small), small)
    _sample(_built(small)[0], small)
    before = resident_now()
    policy, rows = _built(case)
    if sampling:
        _sample(policy, case)
    else:
        _take(policy, rows, case)
    return resident() - before


def _take(policy: Policy, rows: GroupRows, case: Case) -> None:
    trained = [parameter for _, parameter in policy.trainable()]
    optimizer = torch.optim.AdamW(trained, lr=1e-6, fused=True)
    for _ in range(2):
        step(policy, rows, case.half)
        step(policy, rows, case.half)
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()


def _built(case: Case) -> tuple[Policy, GroupRows]:
    policy = Policy(case.policy, case.backbone.processor(PixelBudget()))
    prompt = prompt_of(case, policy.processor)
    features: ImageFeatures | None = None
    if case.features_carried:
        with torch.no_grad():
            features = policy.image_features(prompt.images)
    completions = [[torch.full((case.longest,), 40) for _ in range(case.group)] for _ in range(case.groups)]
    rows = pack_groups([prompt] * case.groups, completions, [features] * case.groups, policy.processor.padding_token)
    return policy, rows


def _sample(policy: Policy, case: Case) -> None:
    prompts = [prompt_of(case, policy.processor)] * case.groups
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=case.half):
        features = policy.image_features(join_images([prompt.images for prompt in prompts]))
        sampling = Sampling(case.group, 1.0, case.longest)
        list(policy.write(policy.decoder(), prompts, features, sampling, list(range(case.groups))))


def measured(name: str, sampling: bool = False) -> float:
    """The same in a process of its own."""
    code = f"import footprint; print(footprint.measure(footprint.CASES[{name!r}], {sampling}))"
    environment = {**os.environ, **HONEST, "PYTHONPATH": os.pathsep.join(map(str, FOLDERS))}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    return float(done.stdout.splitlines()[-1])


def main() -> None:
    columns = (
        "training",
        *(f"{what}, {how}" for what in ("update", "sampling") for how in ("reckoned", "measured", "")),
    )
    table = Table(*columns, title="MiB at the peak on a CPU")
    for name, case in CASES.items():
        own = case.reckoned()
        stays = own.weights + own.casts  # a sampling before the first step: there is no optimizer yet
        cells: list[str] = []
        for reckoned, sampling in ((own.update, False), (own.sampling - own.held - own.casts + stays, True)):
            found = measured(name, sampling)
            cells += [f"{reckoned / 2**20:.0f}", f"{found:.0f}", f"{reckoned / 2**20 / found:.2f}"]
        table.add_row(name, *cells)
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
