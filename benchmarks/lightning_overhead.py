"""What Lightning adds to an SFT step: a Trainer against a bare PyTorch loop, interleaved in one run.

Both sides take the same batches, read beforehand, from the same weights; the loss at the end must be the same. The
Trainer has its TensorBoard logger, progress lines and throughput figures as a run has; checkpoints and validation are
left out on both sides. Run: python benchmarks/lightning_overhead.py
"""

from __future__ import annotations

import json
import logging
import os
import statistics
import tempfile
import time
import warnings
from itertools import pairwise
from pathlib import Path

os.environ.setdefault("GOMP_SPINCOUNT", "2000")  # as fgvr.__main__ does

import torch
from jsonargparse import auto_cli
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from rich.console import Console
from rich.table import Table
from torch.utils.data import DataLoader

from fgvr.aviary.source import Aviary
from fgvr.callbacks.progress import Progress
from fgvr.data.tasks import OpenWorld
from fgvr.datamodules import SFTData, ShardSource
from fgvr.models import PixelBudget, Policy, PolicyConfig, TinyQwen
from fgvr.modules import SFT, Optimizer
from fgvr.types import SFTBatch

OPTIMIZER = Optimizer(lr=1e-3, weight_decay=0.05, warmup=10)


class Clock(Callback):
    """Seconds of every step, from one end to the next."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_train_batch_end(self, *_: object) -> None:
        self.ends.append(time.perf_counter())


def bare(policy: Policy, batches: list[SFTBatch]) -> tuple[list[float], float]:
    """The same arithmetic in a plain loop: step times and the last loss."""
    parameters = [parameter for _, parameter in policy.trainable()]
    optimizer = torch.optim.AdamW(
        parameters, lr=OPTIMIZER.lr, betas=OPTIMIZER.betas, weight_decay=OPTIMIZER.weight_decay
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: OPTIMIZER.scale(step, len(batches)))
    policy.train()
    ends, total = [], 0.0
    for batch in batches:
        total = 0.0
        for rows in batch.micro_batches:
            loss = -policy(rows).sum() / batch.target_tokens
            loss.backward()
            total += loss.item()
        torch.nn.utils.clip_grad_norm_(parameters, OPTIMIZER.max_grad_norm)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        ends.append(time.perf_counter())
    return ends, total


def lightning(config: PolicyConfig, batches: list[SFTBatch], folder: Path) -> tuple[list[float], float]:
    module, clock = SFT(config, OPTIMIZER), Clock()
    trainer = Trainer(
        accelerator="cpu",
        max_steps=len(batches),
        default_root_dir=folder,
        logger=TensorBoardLogger(folder, name="", version=""),
        callbacks=[clock, Progress()],
        enable_checkpointing=False,
        limit_val_batches=0,
        num_sanity_val_steps=0,
        log_every_n_steps=10,
        enable_model_summary=False,
    )
    trainer.fit(module, DataLoader(batches, batch_size=None))  # pyright: ignore[reportArgumentType]
    return clock.ends, float(trainer.callback_metrics["loss"])


def main(steps: int = 15, rounds: int = 10, threads: int = 2, json_file: Path | None = None) -> None:
    """Prints one table.

    Args:
        steps: steps of each turn.
        rounds: bare loop and Trainer take turns this often.
        threads: of torch.
        json_file: where to write the figures too.
    """
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    torch.set_num_threads(threads)
    seconds: dict[str, list[float]] = {"bare loop": [], "Trainer": []}
    losses: set[float] = set()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        source = Aviary(species=60, unseen=12, train=10, val=0, test=0)
        data = SFTData([ShardSource(root / "aviary", source=source)], OpenWorld(), micro_batch_tokens=4096, workers=0)
        data.prepare_data()
        config = PolicyConfig(TinyQwen(str(root / "aviary" / "manifest.json")), PixelBudget(784, 7056))
        data.processor = config.backbone.processor(config.pixels)
        data.setup("fit")
        batches = [batch for batch, _ in zip(data.train_dataloader(), range(steps), strict=False)]
        for turn in range(rounds):
            runs = {
                "bare loop": bare(Policy(config, data.processor), batches),
                "Trainer": lightning(config, batches, root / str(turn)),
            }
            for side, (ends, loss) in runs.items():
                losses.add(round(loss, 4))
                seconds[side] += [b - a for a, b in pairwise(ends[3:])]
    # the lower quartile of all steps of all turns: what else the machine was doing only ever adds
    quick = {side: statistics.quantiles(steps_of, n=4)[0] for side, steps_of in seconds.items()}
    overhead = quick["Trainer"] / quick["bare loop"] - 1
    table = Table("", "lower quartile, ms", "median, ms", title=f"an SFT step, {rounds} turns of {len(batches)} steps")
    for side, steps_of in seconds.items():
        table.add_row(side, f"{1e3 * quick[side]:.1f}", f"{1e3 * statistics.median(steps_of):.1f}")
    Console().print(table, f"overhead {overhead:+.1%}, last losses {sorted(losses)}")
    if json_file is not None:
        json_file.write_text(json.dumps({"overhead": overhead, "seconds": seconds, "losses": sorted(losses)}, indent=1))


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
