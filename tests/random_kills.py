"""Small real trainings that are killed at moments drawn evenly over each start, until they have ended."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from ledger import assert_same_story, book_of, forget_phase, phase_of
from lightning.fabric.utilities.rank_zero import rank_zero_only
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rl_run import divek_config, grpo_config, learn_sft, mine_options, sft_config, tapo_config

import fgvr.cli  # noqa: F401 - loaded once, for all the processes that are forked from here
from fgvr.__main__ import main as fgvr_main

LEDGER = {"class_path": "ledger.Ledger"}
SHARE = 0.3  # of what a whole run takes, the longest that a start is left alone
EARLY = 5
BEFORE = ("starting", "scoring")
PHASES = (*BEFORE, "sampling", "updating", "saving", "validating", "between", "ending")


def sft_again(folder: Path, name: str, *callbacks: dict[str, Any]) -> Path:
    """The supervised run once more, of twelve steps, saved and validated as often as the others."""
    config = yaml.safe_load(sft_config(folder).read_text())
    config["trainer"] |= {"max_steps": 12, "val_check_interval": 5}
    config["trainer"]["callbacks"] = [*config["trainer"].get("callbacks", []), *callbacks]
    config["run"] = {"dir": str(folder / name), "save_every": 2, "keep": 9, "allow_changed": ["code"]}
    file = folder / f"{name}.yaml"
    file.write_text(yaml.safe_dump(config))
    return file


METHODS: dict[str, Callable[..., Path]] = {
    "sft": sft_again,
    "grpo": grpo_config,
    "tapo": tapo_config,
    "divek": divek_config,
}


@dataclass
class Tally:
    """What a method's runs went through: `kills` by phase, `runs` that ended, `batches` in their books."""

    kills: Counter[str] = field(default_factory=Counter[str])
    runs: int = 0
    batches: int = 0
    again: int = 0


def begin(config: Path, run: Path, *options: str, **settings: str) -> int:
    """Starts `fgvr fit` in a process and a group of its own, forked from this one, which has loaded what it needs.

    `settings` are environment variables.
    """
    sys.stdout.flush()
    if (child := os.fork()) != 0:
        with suppress(OSError):  # the child does so too: whichever comes first
            os.setpgid(child, child)
        return child
    os.setpgid(0, 0)
    code = 70
    try:
        said = os.open(run.with_suffix(".log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(said, 1)
        os.dup2(said, 2)
        os.environ.update(settings)
        rank_zero_only.rank = int(settings.get("RANK", 0))  # which Lightning reads when it is imported
        code = fgvr_main(["fit", "--config", str(config), "--run.dir", str(run), *options])
    finally:
        os._exit(code)


def end(child: int, run: Path) -> None:
    """Waits for a process that nobody kills. Raises RuntimeError when it fails."""
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code != 0:
        log = run.with_suffix(".log")
        raise RuntimeError(f"{run} must end well, but its exit code is {code}: see {log}\n{log.read_text()[-3000:]}")


def killed_after(child: int, run: Path, seconds: float, once_it_trains: bool) -> bool:
    """Kills a process and all it has started after so long, counted from its start or from its first training batch.

    False when it has ended before, which must be well.
    """
    late = time.monotonic() + seconds
    while time.monotonic() < late or (once_it_trains and phase_of(run) in BEFORE):
        if (ended := os.waitpid(child, os.WNOHANG))[0]:
            code = os.waitstatus_to_exitcode(ended[1])
            if code != 0:
                raise RuntimeError(f"a run that is gone on with must end well, but its exit code is {code}")
            return False
        if once_it_trains and phase_of(run) not in BEFORE:
            once_it_trains, late = False, time.monotonic() + seconds
        time.sleep(0.005)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return True


def kill_until_it_ends(config: Path, run: Path, longest: float, dice: random.Random, kills: int, tally: Tally) -> None:
    """Goes through a run once; each start is killed within `longest` seconds, while any of the `kills` are left.

    One in `EARLY` counts them from its start, so that loading and the start's evaluation have their share; the others
    from their first training batch.
    """
    shutil.rmtree(run, ignore_errors=True)
    while kills > 0:
        forget_phase(run)
        process = begin(config, run)
        if not killed_after(process, run, dice.uniform(0, longest), dice.randrange(EARLY) > 0):
            break
        kills -= 1
        tally.kills[phase_of(run)] += 1
    if not (run / "final_metrics.json").exists():
        end(begin(config, run), run)
    tally.runs += 1


def disturb(name: str, folder: Path, kills: int, dice: random.Random, bar: Progress) -> Tally:
    """Runs of one method, one after another, until they have been killed so often; all must end as the first one."""
    config, tally, task = METHODS[name](folder, f"{name}-whole", LEDGER), Tally(), bar.add_task(name, total=kills)
    whole, run = folder / f"{name}-whole", folder / f"{name}-killed"
    began = time.monotonic()
    end(begin(config, whole), whole)
    longest = SHARE * (time.monotonic() - began)
    while (left := kills - tally.kills.total()) > 0:
        kill_until_it_ends(config, run, longest, dice, left, tally)
        tally.batches += len(book_of(run))
        tally.again += assert_same_story(run, whole)
        bar.update(task, completed=tally.kills.total())
    return tally


def table_of(tallies: dict[str, Tally]) -> Table:
    table = Table("method", *PHASES, "kills", "runs", "batches", "of them again", title="kill -9 at random moments")
    for name, tally in tallies.items():
        counts = [tally.kills[phase] for phase in PHASES]
        table.add_row(name, *map(str, (*counts, tally.kills.total(), tally.runs, tally.batches, tally.again)))
    return table


def kill_runs(kills: int = 1000, methods: list[str] | None = None, seed: int = 0, out: Path | None = None) -> None:
    """Kills runs and compares what becomes of them.

    Args:
        kills: how many in all, shared by the methods.
        methods: of sft, grpo, tapo, divek; by default all.
        seed: of the moments.
        out: a JSON file for the counts.
    """
    names = methods or list(METHODS)
    tallies: dict[str, Tally] = {}
    with tempfile.TemporaryDirectory() as place, Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    ) as bar:  # fmt: skip
        folder = Path(place)
        learn_sft(folder)
        if "divek" in names:
            mine_options(folder)
        for number, name in enumerate(names):
            share = kills * (number + 1) // len(names) - kills * number // len(names)
            tallies[name] = disturb(name, folder, share, random.Random(f"{seed}/{name}"), bar)
    Console(width=140).print(table_of(tallies))
    print("Every run has ended as the one that nobody disturbed, bit for bit.")
    if out is not None:
        told = {name: vars(tally) | {"kills": dict(tally.kills)} for name, tally in tallies.items()}
        out.write_text(json.dumps(told, indent=1) + "\n")
