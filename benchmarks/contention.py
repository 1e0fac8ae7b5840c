"""What other processes on the same cores cost a run, by the number of torch's threads and how these wait. Interleaved.

Every setting is a real `fgvr fit` with its own loader, started once; they train in turns, one at a time, with and
without `busy` processes that never rest beside them. Steps are told apart by nothing but the environment of the run.
Run: python benchmarks/contention.py --recipe configs/quickstart.yaml
(RL needs a run to start from: first the quickstart, then --recipe configs/aviary/grpo.yaml)
"""

from __future__ import annotations

import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from jsonargparse import auto_cli
from lightning.pytorch import Callback, LightningModule, Trainer
from rich.console import Console
from rich.table import Table

SETTINGS: dict[str, dict[str, str]] = {
    "2 threads, spin 2000": {"OMP_NUM_THREADS": "2", "GOMP_SPINCOUNT": "2000"},  # as fgvr.__main__ sets it
    "2 threads, spin 500": {"OMP_NUM_THREADS": "2", "GOMP_SPINCOUNT": "500"},
    "2 threads, spin 100": {"OMP_NUM_THREADS": "2", "GOMP_SPINCOUNT": "100"},
    "2 threads, no spin": {"OMP_NUM_THREADS": "2", "GOMP_SPINCOUNT": "0"},
    "1 thread": {"OMP_NUM_THREADS": "1", "GOMP_SPINCOUNT": "2000"},
}
SAYS = "turn:"


class Turns(Callback):
    """Lets a run train `steps` steps for every line that comes in, and tells what they took."""

    def __init__(self, steps: int) -> None:
        self.steps, self.began = steps, 0.0

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        done = trainer.fit_loop.epoch_loop.total_batch_idx + 1
        if done % self.steps:
            return
        digest = hashlib.sha256()
        for parameter in pl_module.parameters():
            digest.update(parameter.detach().numpy().tobytes())
        said = {"seconds": time.perf_counter() - self.began, "step": done, "weights": digest.hexdigest()}
        print(SAYS, json.dumps(said), flush=True)
        if not sys.stdin.readline():
            os._exit(0)  # the parent has what it came for; nothing of this run is kept
        self.began = time.perf_counter()


class Run:
    """One training in a process of its own, standing still between turns."""

    def __init__(self, config: Path, folder: Path, steps: int, environment: dict[str, str]) -> None:
        here = Path(__file__).parent
        paths = os.pathsep.join([str(here), *filter(None, [os.environ.get("PYTHONPATH")])])
        line = [sys.executable, "-m", "fgvr", "fit", "--config", str(config), f"--run.dir={folder}"]
        line += ["--run.save_every=1000000", "--trainer.limit_val_batches=0", "--trainer.enable_progress_bar=false"]
        line += ["--trainer.callbacks+=contention.Turns", f"--trainer.callbacks.steps={steps}"]
        self.process = subprocess.Popen(
            line,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "PYTHONPATH": paths, **environment},
        )

    def told(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith(SAYS):
                return json.loads(line.removeprefix(SAYS))
        raise SystemExit(f"a run must train to its first turn, but it ended: {' '.join(map(str, self.process.args))}")  # pyright: ignore

    def turn(self) -> dict[str, Any]:
        assert self.process.stdin is not None
        print("go", file=self.process.stdin, flush=True)
        return self.told()

    def end(self) -> None:
        with self.process:  # closes its pipes, by which it knows, and waits for it
            pass


def crowd(busy: int) -> ExitStack:
    """Processes that compute without rest until the stack is closed."""
    stack = ExitStack()
    for _ in range(busy):
        process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
        stack.callback(process.wait)
        stack.callback(process.kill)
    return stack


def main(
    recipe: Path = Path("configs/quickstart.yaml"),
    steps: int = 5,
    rounds: int = 6,
    busy: int = 3,
    rest: float = 0.0,
    json_file: Path | None = None,
) -> None:
    """Prints one table: seconds per step, and whether the weights are the same after the same number of steps.

    Args:
        recipe: the yaml of the run to measure.
        steps: of a turn.
        rounds: every setting has this many turns alone and as many in company.
        busy: processes beside it in company.
        rest: seconds before each turn, for whatever else the machine has to do.
        json_file: where to write the figures too.
    """
    seconds: dict[str, dict[str, list[float]]] = {name: {"alone": [], "crowded": []} for name in SETTINGS}
    weights: dict[int, dict[str, str]] = {}
    with tempfile.TemporaryDirectory() as root, ExitStack() as stack:
        runs: dict[str, Run] = {}
        for number, (name, environment) in enumerate(SETTINGS.items()):
            runs[name] = Run(recipe, Path(root) / str(number), steps, environment)
            stack.callback(runs[name].end)
            runs[name].told()  # its first turn, which loads and warms up
            Console(stderr=True).print(f"{name}: ready")
        for turn in range(2 * rounds):
            company = "crowded" if turn % 2 else "alone"
            for name, run in runs.items():
                time.sleep(rest)
                with crowd(busy if turn % 2 else 0):
                    said = run.turn()
                    seconds[name][company].append(said["seconds"] / steps)
                    weights.setdefault(said["step"], {})[name] = said["weights"]
    first = next(iter(SETTINGS))
    table = Table(
        "", "alone, s", f"with {busy} more, s", "slower by", "weights", title=f"a step of {recipe.stem}, median"
    )
    for name, found in seconds.items():
        alone, crowded = statistics.median(found["alone"]), statistics.median(found["crowded"])
        same = all(row[name] == row[first] for row in weights.values())
        row = [f"{alone:.3f}", f"{crowded:.3f}", f"{crowded / alone:.1f} x", "the same" if same else "differ"]
        table.add_row(name, *row)
    Console().print(table)
    if json_file is not None:
        json_file.write_text(json.dumps(seconds, indent=1))


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
