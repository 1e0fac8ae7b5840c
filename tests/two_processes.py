"""A toy run in two processes, started as a launcher starts them."""

from __future__ import annotations

import os
from pathlib import Path

from ports import free_port
from warm_start import Warm

ROOT = Path(__file__).parents[1]
CONFIG = """
model: {class_path: toy_run.ToyModel}
data: {class_path: toy_run.ToyData}
trainer: {accelerator: cpu, strategy: ddp, devices: 2, max_steps: 12, max_epochs: -1, val_check_interval: 5,
  logger: false}
run: {save_every: 2, allow_changed: [code]}
"""


def callback(path: str, options: str = "{}") -> str:
    """The option by which a run has this callback; `options` are its arguments as JSON."""
    return f'--trainer.callbacks=[{{"class_path": "{path}", "init_args": {options}}}]'


def both(folder: Path, *options: str) -> list[Warm]:
    (folder / "toy.yaml").write_text(CONFIG)
    line = ["fit", "--config", str(folder / "toy.yaml"), f"--run.dir={folder / 'run'}", *options]
    together = {
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "TORCHELASTIC_RUN_ID": "toy",
    }
    processes: list[Warm] = []
    for rank in ("0", "1"):
        own = {"RANK": rank, "LOCAL_RANK": rank}
        with (folder / f"said{rank}").open("w") as file:
            processes.append(Warm(line, {**os.environ, **together, **own}, file))
    return processes


def said(folder: Path) -> list[str]:
    return [(folder / f"said{rank}").read_text() for rank in ("0", "1")]
