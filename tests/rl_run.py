"""Small real runs, started as a user starts them, and callbacks that end their own process at a chosen moment."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from shutil import copy, copytree
from typing import Any, Literal

import torch
import yaml
from lightning.pytorch import Callback, LightningModule, Trainer
from ports import free_port
from warm_start import Started, Warm, can_be_warm, shared

from fgvr.__main__ import main
from fgvr.callbacks import CollapseWatch, OptionRefresh
from fgvr.rollouts import InProcess, RolloutEngine
from fgvr.types import RolloutGroup

ROOT = Path(__file__).parents[1]
BIRDS = {"species": 48, "unseen": 4, "novel": 4, "train": 3, "val": 1, "test": 0, "size": 56}
FILTERED = {"group_filter": {"score": "format", "low": 0.0, "high": 0.6}, "updates": 2}
LEARNED = "FGVR_TESTS_LEARNED"  # where the tests of a session keep the supervised run that others start from
Moment = Literal["refilling", "sampled", "updating", "validating", "mining"]


class Kill(Callback):
    """Ends its own process as `kill -9` does, once: its mark in the run's folder says that it has been done.

    "refilling": as further batches are to be sampled, at `step` optimiser steps or later. "sampled": when all rollouts
    are there and nothing has been learned from them. "updating": with the gradient of the step after `step` ready.
    "validating": when a first batch of a validation has been answered, at `step` or later. "mining": when a first batch
    of photos has been asked for their options anew, at `step` or later.
    """

    def __init__(self, step: int, moment: Moment) -> None:
        self.step, self.moment = step, moment

    @property
    def mark(self) -> str:
        return f"killed-{self.moment}-{self.step}"

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        callbacks: list[Callback] = trainer.callbacks  # pyright: ignore[reportAttributeAccessIssue]
        for refresh in (one for one in callbacks if isinstance(one, OptionRefresh)):
            if self.moment == "mining":
                refresh.engine = KilledEngine(self, trainer, refresh.engine)

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if self.moment in ("updating", "validating", "mining"):
            return
        at = "sampled" if pl_module.rollouts.updates else "refilling"
        if self.moment == at and trainer.global_step >= self.step:
            self.die(trainer)

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        if self.moment == "updating" and trainer.global_step == self.step:
            self.die(trainer)

    def on_validation_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if self.moment == "validating" and trainer.global_step >= self.step:
            self.die(trainer)

    def die(self, trainer: Trainer) -> None:
        mark = Path(trainer.default_root_dir) / self.mark
        if not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)


class Alarmed(CollapseWatch):
    """Takes any two windows for a collapse."""

    def _has_collapsed(self, clips: bool) -> bool:
        return True


class KilledEngine(InProcess):
    """Samples as another engine does, and ends the process when it is asked for a second batch."""

    def __init__(self, kill: Kill, trainer: Trainer, engine: RolloutEngine) -> None:
        super().__init__()
        self.kill, self.trainer, self.engine, self.asked = kill, trainer, engine, 0

    def sample(self, *asked: Any) -> list[RolloutGroup]:
        self.asked += 1
        if self.asked > 1 and self.trainer.global_step >= self.kill.step:
            self.kill.die(self.trainer)
        return self.engine.sample(*asked)


class SlowSteps(Callback):
    """Waits before every batch."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        time.sleep(self.seconds)


class KeepWeights(Callback):
    """Every rank leaves its weights in the run's folder, as weights.rankN.pt."""

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        torch.save(pl_module.state_dict(), Path(trainer.default_root_dir) / f"weights.rank{trainer.global_rank}.pt")


def sft_config(folder: Path) -> Path:
    """The quickstart in small, without a thought before the answer: after its 80 steps some replies are well formed."""
    config = yaml.safe_load((ROOT / "configs/quickstart.yaml").read_text())
    model = config["model"]["init_args"]
    model["policy"]["backbone"]["init_args"] |= {
        "vocabulary": str(folder / "aviary/manifest.json"),
        "phrases": ["user\nWhich bird is this?\n", "Give the name between <answer> and </answer>.\nassistant\n"],
        "hidden": 64,
        "layers": 1,
        "vision_hidden": 64,
        "vision_layers": 1,
    }
    model["optimizer"] = {"lr": 3e-3, "warmup": 3}
    _small(config, folder, batch_size=16)
    config["trainer"] |= {"max_steps": 80, "val_check_interval": None}
    config["run"] = {"dir": str(folder / "sft")}
    return _written(config, folder / "sft.yaml")


def learn_sft(folder: Path) -> None:
    """Has the birds and the run of `sft_config` in `folder`, trained once for all tests of a session and copied."""
    config, once = sft_config(folder), os.environ.get(LEARNED)
    if once is None:
        ends(start(config, folder / "sft"))
        return
    shared = Path(once)
    shared.mkdir(exist_ok=True)
    with (shared / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (shared / "sft/final_metrics.json").exists():
            ends(start(sft_config(shared), shared / "sft"))
    for name in ("aviary", "sft"):
        copytree(shared / name, folder / name)


def grpo_config(folder: Path, name: str, *callbacks: dict[str, Any], **changes: Any) -> Path:
    """configs/aviary/grpo.yaml in small, from the run of `sft_config`; `changes` are of the module's arguments.

    An epoch is five batches of four prompts and one of a single prompt. Twelve steps, a checkpoint after every two.
    """
    config = yaml.safe_load((ROOT / "configs/aviary/grpo.yaml").read_text())
    model = config["model"]["init_args"]
    model["policy"]["backbone"]["init_args"]["run"] = str(folder / "sft")
    model["policy"] |= changes.pop("policy", {})
    model["reward"]["terms"]["format"] = {"reward": {"class_path": "fgvr.rewards.Format"}, "weight": 0.5}
    model["sampling"] = {"group_size": 4, "max_new_tokens": 10}
    model["optimizer"] = {"lr": 1e-3, "schedule": "constant"}
    model |= {"max_new_tokens": 12} | changes
    _small(config, folder, batch_size=4, epoch_length=21)
    shown = {"class_path": "fgvr.callbacks.SampleLogging", "init_args": {"every": 4}}
    others = [one for one in config["trainer"]["callbacks"] if one["class_path"] != shown["class_path"]]
    config["trainer"] |= {"max_steps": 12, "val_check_interval": 5, "log_every_n_steps": 1}
    config["trainer"]["callbacks"] = [*others, shown, *callbacks]
    # the sources may be edited while the tests run
    config["run"] = {"dir": str(folder / name), "save_every": 2, "keep": 9, "allow_changed": ["code"]}
    return _written(config, folder / f"{name}.yaml")


def tapo_config(folder: Path, name: str, *callbacks: dict[str, Any], **changes: Any) -> Path:
    """As `grpo_config`, with TAPO on triplets, half of whose answers are about the positive, and a watch over it.

    Negatives are of the classes that a bird was last taken for.
    """
    watch = {"class_path": "fgvr.callbacks.CollapseWatch", "init_args": {"action": "back_off", "window": 2}}
    triplets = {"class_path": "fgvr.callbacks.TripletLogging"}
    file = grpo_config(folder, name, watch, triplets, *callbacks, **changes)
    config = yaml.safe_load(file.read_text())
    config["model"]["class_path"] = "fgvr.modules.TAPO"
    config["model"]["init_args"]["sampling"]["positives"] = 2
    config["data"]["class_path"] = "fgvr.datamodules.TripletData"
    config["data"]["init_args"] |= {"similarity": {"class_path": "fgvr.similarity.OnlineConfusion"}, "k": 2}
    return _written(config, file)


def speciarl_config(folder: Path, name: str, *callbacks: dict[str, Any], **changes: Any) -> Path:
    """As `grpo_config`, with SpeciaRL, judged by the taxonomy."""
    file = grpo_config(folder, name, *callbacks, **changes)
    config = yaml.safe_load(file.read_text())
    config["model"]["class_path"] = "fgvr.modules.SpeciaRL"
    del config["model"]["init_args"]["reward"]
    config["model"]["init_args"]["judge"] = {"class_path": "fgvr.judges.TaxonomyJudge"}
    return _written(config, file)


def divek_config(folder: Path, name: str, *callbacks: dict[str, Any], **changes: Any) -> Path:
    """As `grpo_config`, with DiVE-k, whose choices are among the relatives that `mine_options` found, in two steps."""
    plan = {"samples": 4, "options": 3, "temperature": 1.5}
    steps = {"class_path": "fgvr.callbacks.TwoStepInference", "init_args": {"plan": plan, "pictures": 4}}
    file = grpo_config(folder, name, steps, *callbacks, **changes)
    config = yaml.safe_load(file.read_text())
    config["model"]["class_path"] = "fgvr.modules.DiVEk"
    del config["model"]["init_args"]["reward"]
    config["data"]["init_args"]["train"][0]["options"] = str(folder / "alike/options.jsonl")
    config["data"]["init_args"]["train_task"] = {
        "class_path": "fgvr.data.ClosedWorld",
        "init_args": {"question": "Which bird is this?", "options": 3},
    }
    return _written(config, file)


def refreshed_config(folder: Path, name: str, *callbacks: dict[str, Any], **changes: Any) -> Path:
    """As `divek_config`, among mined options, of which those of thirty photos are mined anew in each epoch.

    An epoch is four batches, and a checkpoint is made after every three.
    """
    sampling = {"group_size": 8, "max_new_tokens": 12}
    refresh = {"class_path": "fgvr.callbacks.OptionRefresh"}
    refresh["init_args"] = {"photos": 30, "rows": 64, "sampling": sampling}  # pyright: ignore[reportArgumentType]
    file = divek_config(folder, name, refresh, *callbacks, **changes)
    config = yaml.safe_load(file.read_text())
    config["data"]["init_args"]["train"][0]["options"] = str(folder / "mined/options.jsonl")
    config["model"]["init_args"]["optimizer"]["lr"] = 1e-4
    config["data"]["init_args"]["epoch_length"] = 13
    config["run"]["save_every"] = 3
    return _written(config, file)


def mine_options(folder: Path, device: str = "cpu") -> None:
    """Mines options from the run of `sft_config`, its own into mined/ and relatives into alike/, for such runs."""
    line = ["mine", "--data", str(folder / "aviary"), "--out", str(folder / "mined"), "--device", device]
    line += ["--model", "Trained", "--model.run", str(folder / "sft"), "--rules.scope", "open"]
    assert main([*line, "--sampling.group_size", "8", "--sampling.max_new_tokens", "12"]) == 0
    (folder / "alike").mkdir()
    copy(folder / "mined/replies.jsonl", folder / "alike/replies.jsonl")
    line = ["mine", "--data", str(folder / "aviary"), "--out", str(folder / "alike"), "--source", "Alike"]
    assert main([*line, "--rules.m", "3", "--rules.scope", "open", "--rules.keep_easy", "true"]) == 0


def judged_config(folder: Path, name: str, cache: str, **server: Any) -> Path:
    """As `grpo_config`, with SpeciaRL, a judge at FGVR_JUDGE_URL, and one group sampled at a time."""
    file = grpo_config(folder, name)
    config = yaml.safe_load(file.read_text())
    model = config["model"]
    model["class_path"] = "fgvr.modules.SpeciaRL"
    del model["init_args"]["reward"]
    judge = {
        "class_path": "fgvr.judges.LLMJudge",
        "init_args": {
            "model": "judge",
            "server": {"attempts": 3, "patience": 2.0, "timeout": 5.0} | server,
            "cache": {"class_path": "fgvr.judges.SQLiteCache", "init_args": {"path": str(folder / cache)}},
        },
    }
    model["init_args"]["judge"] = judge
    for callback in config["trainer"]["callbacks"]:
        if callback["class_path"].endswith("RolloutGeneration"):
            engine = {"class_path": "fgvr.rollouts.InProcess", "init_args": {"max_rows": 4}}
            callback["init_args"] = {"engine": engine}
        if callback["class_path"].endswith("JudgeValidation"):
            callback["init_args"] = {"judge": judge}
    file.write_text(yaml.safe_dump(config))
    return file


def _small(config: dict[str, Any], folder: Path, **options: Any) -> None:
    data = config["data"]["init_args"]
    data["train"][0]["path"] = str(folder / "aviary")
    data["train"][0]["source"]["init_args"] = BIRDS
    data["task"]["init_args"]["think"] = False
    data |= {"eval_examples": 8, "workers": 0, **options}


def _written(config: dict[str, Any], file: Path) -> Path:
    file.write_text(yaml.safe_dump(config))
    return file


# Variables of a run that no forked process takes up: it begins anew, and sets of names are in an order of its own.
FRESH = {"PYTHONHASHSEED": "1"}


def start(config: Path, run: Path, *options: str, verb: str = "fit", **settings: str) -> Started:
    """A process group of its own; `settings` are environment variables."""
    line = [verb, "--config", str(config), "--run.dir", str(run), *options]
    if can_be_warm(settings):
        return Warm(line, {**os.environ, **settings})
    environment = {**os.environ, **shared(), **settings}
    line, out = [sys.executable, "-m", "fgvr", *line], subprocess.PIPE
    return subprocess.Popen(
        line, stdout=out, stderr=subprocess.STDOUT, text=True, env=environment, start_new_session=True
    )


def two_ranks(config: Path, run: Path) -> None:
    """Six steps shared by two processes."""
    shared = {
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "TORCHELASTIC_RUN_ID": "rl",
    }
    options = ("--trainer.strategy=ddp", "--trainer.devices=2", "--trainer.max_steps=6")
    ranks = [start(config, run, *options, RANK=rank, LOCAL_RANK=rank, **shared) for rank in ("0", "1")]
    for process in ranks:
        ends(process)


def ends(process: Started, code: int = 0) -> str:
    """What the process said until it ended, as it must, with `code`."""
    said, _ = process.communicate(timeout=240)
    assert process.returncode == code, said
    return said


def json_rows(file: Path) -> list[dict[str, Any]]:
    """The whole lines of a log, which may still be written to; none when it is not there."""
    lines = file.read_text().splitlines(keepends=True) if file.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def first_update(rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """What was sampled up to the first update, and by it."""
    end = min((row["epoch"], row["step"]) for row in rows if row["learned"])
    said = [(row["epoch"], row["step"], row["place"], row["completion"]) for row in rows]
    return sorted(entry for entry in said if entry[:2] <= end)


def kill_after(process: Started, run: Path, batches: int, delay: float) -> None:
    """Kills a run's process group `delay` seconds after it has logged the samples of `batches`, unless it is over."""
    deadline = time.monotonic() + 200
    while process.poll() is None and len(json_rows(run / "samples.jsonl")) < batches and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(delay)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
