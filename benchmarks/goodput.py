"""Which share of its time a run trains that is killed now and then: by formula, simulated, and with measured seconds.

Run: python benchmarks/goodput.py        the table of large runs, and what this machine takes to save, load and restart
     python benchmarks/goodput.py paper  the table alone
"""

from __future__ import annotations

import json
import math
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

HOURS = 3600.0


@dataclass(frozen=True)
class Costs:
    """Seconds: `stall`, for which a save stops the training; `lag`, from there until it is whole; `restart`, all of it
    from a kill to the next step: waiting for a node, starting, loading.
    """

    stall: float
    lag: float
    restart: float


def goodput(costs: Costs, work: float, between: float) -> float:
    """The share of the time that ends in a saved step: `work` seconds of training between two saves, kills at random
    with a mean of `between` seconds from one to the next, also while the run restarts.

    With the rate r = 1 / between, a restart comes through after (e^(r restart) - 1) / r on average, and then the run
    lives for 1 / r. Of a life x, so many saves become whole as there are n with n (work + stall) + lag <= x: on average
    e^(-r lag) / (e^(r (work + stall)) - 1). Each brings `work`.
    """
    rate = 1 / between
    saves = math.exp(-rate * costs.lag) / math.expm1(rate * (work + costs.stall))
    return work * saves * rate * math.exp(-rate * costs.restart)


def young(costs: Costs, between: float) -> float:
    """Seconds of work between two saves that lose the least, to first order: sqrt(2 stall between)."""
    return math.sqrt(2 * costs.stall * between)


def daly(costs: Costs, between: float) -> float:
    """The same with Daly's next terms, for stalls below 2 x between. Neither lag nor restart moves it."""
    root = math.sqrt(costs.stall / (2 * between))
    return young(costs, between) * (1 + root / 3 + root**2 / 9) - costs.stall


def simulate(costs: Costs, work: float, between: float, kills: int, seed: int = 0) -> float:
    """What the formula says, counted over a run that is killed so often."""
    rng, spent, saved = random.Random(seed), 0.0, 0.0
    for _ in range(kills):
        life = rng.expovariate(1 / between)
        spent += life
        trained = life - costs.restart
        if trained > costs.lag:
            saved += work * math.floor((trained - costs.lag) / (work + costs.stall))
    return saved / spent


@dataclass(frozen=True)
class Large:
    """A run too large for this machine, all of it assumed.

    Args:
        name: what it is called in the table
        saved: bytes of a checkpoint: 12 a trained weight, float32 with Adam's two
        loaded: bytes that are read before the first step
        disk: bytes a second that all nodes together get from the file system
        copied: bytes a second that a GPU copies to the host's pinned memory
        gpus: how many share the checkpoint
        started: seconds from a kill until weights are read: the queue, the processes, the imports
    """

    name: str
    saved: float
    loaded: float
    disk: float
    copied: float = 20e9
    gpus: int = 8
    started: float = 90.0

    def costs(self, background: bool) -> Costs:
        """A save at once stalls until it is whole; one in the background while it is copied."""
        written, restart = self.saved / self.disk, self.started + self.loaded / self.disk
        if not background:
            return Costs(written, 0.0, restart)
        return Costs(self.saved / self.gpus / self.copied, written, restart)


WEIGHTS = 8.29e9  # of Qwen2.5-VL 7B, the tower included
ADAPTERS = 0.16e9  # of rank 64 on every linear layer of the decoder
FULL = Large("7B, all trained, 2 GB/s", 12 * WEIGHTS, 12 * WEIGHTS, 2e9)
LARGE = (
    FULL,
    replace(FULL, name="7B, all trained, 10 GB/s", disk=10e9),
    Large("7B, LoRA, 2 GB/s", 12 * ADAPTERS, 2 * WEIGHTS + 12 * ADAPTERS, 2e9, gpus=1),
)


def paper(between: float = 2 * HOURS) -> Table:
    """Goodput of the large runs at one kill in so many seconds, saved every Daly interval."""
    table = Table("run", "saves", "stall s", "whole after s", "restart s", "save every s", "goodput", "simulated")
    for large in LARGE:
        for background in (False, True):
            costs = large.costs(background)
            work = max(daly(costs, between), costs.lag)
            table.add_row(
                large.name,
                "in the background" if background else "at once",
                *(f"{one:.1f}" for one in (costs.stall, costs.lag, costs.restart, work)),
                f"{goodput(costs, work, between):.1%}",
                f"{simulate(costs, work, between, kills=200_000):.1%}",
            )
    return table


def measure(folder: Path, megabytes: int = 100, times: int = 5) -> tuple[Costs, Costs, float]:
    """Saves at once and in the background, and seconds to load: medians, for one process on this machine."""
    sys.path.insert(0, str(Path(__file__).parent))
    from background_save import content_of

    from fgvr.checkpoints.format import read_checkpoint, write_checkpoint
    from fgvr.ranks import Ranks
    from fgvr.strategies.saving import Background, begin_together

    content, path = content_of(megabytes, sharded=False), folder / "saved.ckpt"
    background = Background()
    background.prepare(int(megabytes * 1.1e6))
    time.sleep(5)  # as a first step takes
    at_once, stall, lag, load = [], [], [], []
    for _ in range(times):
        at_once.append(_seconds(lambda: write_checkpoint(content, path)))
        load.append(_seconds(lambda: read_checkpoint(path)))
        began = time.perf_counter()
        stall.append(_seconds(lambda: background.begin(begin_together(content, path, Ranks(), 0))))
        background.finish(Ranks())
        lag.append(time.perf_counter() - began - stall[-1])
    background.close()
    restart = restarted(folder)
    plain = Costs(statistics.median(at_once), 0.0, restart)
    behind = Costs(statistics.median(stall), statistics.median(lag), restart)
    return plain, behind, statistics.median(load)


def restarted(folder: Path) -> float:
    """Seconds from the command to its first new step, for the quickstart with few birds, gone on with."""
    root, run = Path(__file__).parents[1], folder / "run"
    few = {"species": 48, "unseen": 4, "train": 4, "val": 2, "test": 2}
    line = [sys.executable, "-m", "fgvr", "fit", "--config", str(root / "configs/quickstart.yaml")]
    line += [
        f"--run.dir={run}",
        "--run.save_every=1",
        "--trainer.limit_val_batches=0",
        "--run.allow_changed=[config]",
        "--run.best=null",
    ]
    line += [f"--data.init_args.train=[{json.dumps(_few(folder, few))}]", "--data.init_args.batch_size=4"]
    vocabulary = f"--model.init_args.policy.backbone.init_args.vocabulary={folder}/birds/manifest.json"
    subprocess.run([*line, vocabulary, "--trainer.max_steps=2"], check=True, cwd=folder, capture_output=True)
    before = (run / "samples.jsonl").stat().st_size
    began = time.perf_counter()
    process = subprocess.Popen([*line, vocabulary, "--trainer.max_steps=4"], cwd=folder, stderr=subprocess.DEVNULL)
    try:
        while (run / "samples.jsonl").stat().st_size <= before and process.poll() is None:
            time.sleep(0.01)
        return time.perf_counter() - began
    finally:
        process.wait()


def _few(folder: Path, birds: dict[str, int]) -> dict[str, Any]:
    source = {"class_path": "fgvr.aviary.Aviary", "init_args": birds}
    return {"path": str(folder / "birds"), "source": source}


def _seconds(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def measured() -> Table:
    """The formula beside a simulation, with this machine's seconds and a kill every ten minutes."""
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        plain, behind, load = measure(Path(folder))
    title = f"100 MB, measured; loaded in {load:.2f} s; a kill every 10 minutes"
    table = Table("saves", "stall s", "whole after s", "restart s", "save every s", "goodput", "simulated", title=title)
    for name, costs in (("at once", plain), ("in the background", behind)):
        work = max(daly(costs, 600), costs.lag)
        figures = (costs.stall, costs.lag, costs.restart, work)
        shares = goodput(costs, work, 600), simulate(costs, work, 600, kills=200_000)
        table.add_row(name, *(f"{one:.2f}" for one in figures), *(f"{one:.1%}" for one in shares))
    return table


def main() -> None:
    console = Console(width=140)
    console.print(paper())
    if sys.argv[1:] != ["paper"]:
        console.print(measured())


if __name__ == "__main__":
    main()
