import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from toy_run import ToyCohort, ToyData, same_weights

from fgvr.__main__ import main
from fgvr.checkpoints.format import checkpoints_in, read_checkpoint
from fgvr.runs.claim import claim
from fgvr.runs.folder import RunFolder

CONFIG = """
model:
  class_path: toy_run.ToyModel
  init_args:
    lr: 1e-3
    shape:
      width: 5
data:
  class_path: toy_run.ToyData
trainer:
  accelerator: cpu
  max_epochs: 3
  log_every_n_steps: 1
  enable_model_summary: false
run:
  dir: {folder}
  save_every: 4
  best: seen/exact
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sys, "argv", ["fgvr"])
    path = tmp_path / "toy.yaml"
    path.write_text(CONFIG.format(folder=tmp_path / "run"))
    return path


def fit(config: Path, *options: str) -> int:
    # the sources may be edited while the tests run
    return main(["fit", "--config", str(config), "--run.allow_changed", "[code]", *options])


def figures(config: Path) -> dict[str, Any]:
    read = json.loads((config.parent / "run/final_metrics.json").read_text())
    return {name: value for name, value in read.items() if name != "digest"}


def test_a_run_leaves_its_folder_and_says_how_it_went(config: Path, capsys: Any) -> None:
    assert fit(config) == 0
    folder = config.parent / "run"
    assert {"config.yaml", "checkpoints", "tensorboard", "final_metrics.json"} <= {
        entry.name for entry in folder.iterdir()
    }
    assert any(entry.name.startswith("events") for entry in (folder / "tensorboard").iterdir())
    read = figures(config)
    assert (read["step"], read["epoch"]) == (21, 3)
    assert {"seen/exact", "unseen/exact", "seconds", "fgvr"} < set(read)
    assert "loss" not in read
    out, err = capsys.readouterr()
    assert "exact" in out
    assert "unseen" in out
    assert "step 21/21 | loss" in err
    assert not [noise for noise in ("LeafSpec", "TPU", "logging interval", "FLOPs") if noise in out + err]
    saved = read_checkpoint(checkpoints_in(folder / "checkpoints")[-1])
    assert saved["fgvr"]["config"]["model"]["init_args"]["lr"] == 1e-3  # PyYAML alone would read a string
    assert saved["fgvr"]["fingerprint"]["data"] == "toy-a"
    assert saved["hyper_parameters"] == {"lr": 1e-3, "manual": False}


def test_a_complete_run_is_evaluated_and_not_trained_again(config: Path, capsys: Any) -> None:
    fit(config)
    before = figures(config) | {"data/seen/quarantined": 2.0}
    (config.parent / "run/final_metrics.json").write_text(json.dumps(before))
    weights = [path.stat().st_mtime_ns for path in checkpoints_in(config.parent / "run/checkpoints")]
    capsys.readouterr()
    assert fit(config) == 0
    assert "is complete (step 21)" in capsys.readouterr().err
    assert figures(config) == before
    assert [path.stat().st_mtime_ns for path in checkpoints_in(config.parent / "run/checkpoints")] == weights


@pytest.fixture
def scored(config: Path) -> Path:
    config.write_text(config.read_text().replace("toy_run.ToyModel", "toy_run.ScoredToy"))
    return config


def test_a_start_is_scored_before_training_and_stands_beside_the_end(scored: Path, capsys: Any) -> None:
    assert fit(scored) == 0
    began = json.loads((scored.parent / "run/start_metrics.json").read_text())
    ended = figures(scored)
    assert {key: value for key, value in ended.items() if key.startswith("start/")} == {
        f"start/{key}": value for key, value in began.items() if key not in ("fgvr", "digest")
    }
    assert began["seen/exact"] != ended["seen/exact"]
    assert "seen start" in capsys.readouterr().out
    curves = EventAccumulator(str(scored.parent / "run/tensorboard")).Reload()
    points = curves.Scalars("seen/exact")
    assert [point.step for point in points] == [0, 7, 14, 21]
    assert points[0].value == pytest.approx(began["seen/exact"])
    (scored.parent / "run/start_metrics.json").unlink()
    assert fit(scored) == 0
    assert figures(scored) == ended  # evaluated again, and the start is what it was
    assert "seen start" in capsys.readouterr().out


def test_scoring_the_start_changes_nothing_of_the_training(config: Path, tmp_path: Path) -> None:
    for name in ("ToyModel", "ScoredToy"):
        path = tmp_path / f"{name}.yaml"
        path.write_text(config.read_text().replace("ToyModel", name).replace("/run", f"/{name}"))
        assert fit(path) == 0
    ends = [checkpoints_in(tmp_path / name / "checkpoints")[-1] for name in ("ToyModel", "ScoredToy")]
    assert same_weights(read_checkpoint(ends[0]), read_checkpoint(ends[1]))


def test_a_resumed_run_keeps_the_start_it_had(scored: Path, caplog: Any) -> None:
    fit(scored, "--trainer.max_steps=10")
    file = scored.parent / "run/start_metrics.json"
    file.write_text('{"seen/exact": 0.125, "fgvr": "0"}')
    line = ["fit", "--config", str(scored), "--run.allow_changed", "[config,code]"]
    assert main([*line, "--trainer.max_steps=12"]) == 0
    assert figures(scored)["start/seen/exact"] == 0.125
    file.unlink()
    with caplog.at_level(logging.WARNING, logger="fgvr"):
        assert main([*line, "--trainer.max_steps=14"]) == 0
    assert "what it scored before it trained is not known" in caplog.text
    assert figures(scored)["step"] == 14
    assert not any(key.startswith("start/") for key in figures(scored))


def test_a_run_that_starts_from_anothers_checkpoint_scores_that(scored: Path, tmp_path: Path) -> None:
    fit(scored, "--trainer.max_steps=10")
    path = checkpoints_in(tmp_path / "run/checkpoints")[-1]
    line = [f"--run.dir={tmp_path / 'next'}", f"--run.resume={path}", "--run.allow_changed=[config,code]"]
    assert main(["fit", "--config", str(scored), *line, "--trainer.max_steps=12"]) == 0
    read = json.loads((tmp_path / "next/final_metrics.json").read_text())
    assert read["start/seen/exact"] == pytest.approx(figures(scored)["seen/exact"])
    curves = EventAccumulator(str(tmp_path / "next/tensorboard")).Reload()
    assert [point.step for point in curves.Scalars("seen/exact")] == [10, 12]


def test_a_quick_try_scores_no_start(scored: Path) -> None:
    assert fit(scored, "--trainer.fast_dev_run=true") == 0
    assert not (scored.parent / "run/start_metrics.json").exists()


def test_a_complete_run_can_be_given_more_or_started_again(config: Path, capsys: Any) -> None:
    fit(config, "--trainer.max_steps=10")
    assert figures(config)["step"] == 10
    assert fit(config) == 2
    assert "config: trainer.max_steps: 10 -> -1" in capsys.readouterr().err
    assert main(["fit", "--config", str(config), "--run.allow_changed", "[config,code]"]) == 0
    assert figures(config)["step"] == 21
    assert fit(config, "--run.fresh", "true", "--trainer.max_steps=5") == 0
    assert figures(config)["step"] == 5
    assert json.loads((config.parent / "run-1/final_metrics.json").read_text())["step"] == 21


def test_the_saved_config_repeats_the_run(config: Path, tmp_path: Path) -> None:
    fit(config, "--run.fresh", "true")
    again = [f"--run.dir={tmp_path / 'again'}"]
    assert fit(config.parent / "run/config.yaml", *again) == 0
    ends = [checkpoints_in(tmp_path / name / "checkpoints")[-1] for name in ("run", "again")]
    assert same_weights(read_checkpoint(ends[0]), read_checkpoint(ends[1]))
    assert not (tmp_path / "again-1").exists()


def test_checkpoints_can_be_evaluated(config: Path, capsys: Any) -> None:
    line = ["--config", str(config)]
    assert main(["validate", *line]) == 2
    assert "no whole checkpoint" in capsys.readouterr().err
    fit(config)
    for verb in ("validate", "test"):
        assert main([verb, *line]) == 0
        read = json.loads((config.parent / f"run/{verb}_metrics.json").read_text())
        assert read["seen/exact"] == pytest.approx(figures(config)["seen/exact"])
    capsys.readouterr()
    assert main(["validate", *line, "--ckpt_path", "best"]) == 0
    best = json.loads((config.parent / "run/checkpoints/best.json").read_text())
    assert f"exact at step {best['step']}: seen" in capsys.readouterr().err
    assert main(["validate", *line, "--model.init_args.shape.width", "7"]) == 2
    assert "does not fit the model" in capsys.readouterr().err


class Untested(ToyData):
    """Has nothing to test on."""

    def test_dataloader(self) -> list[ToyCohort]:
        return []


def test_a_test_of_nothing_is_no_empty_table(config: Path, capsys: Any) -> None:
    fit(config, "--trainer.max_steps=2")
    assert main(["test", "--config", str(config), "--data.class_path", "test_cli.Untested"]) == 2
    assert "There must be photos to test on" in capsys.readouterr().err
    assert not (config.parent / "run/test_metrics.json").exists()


def test_a_users_callbacks_do_not_replace_ours(config: Path) -> None:
    added = (
        "trainer:\n  callbacks:\n"
        "  - class_path: lightning.pytorch.callbacks.EarlyStopping\n"
        "    init_args: {monitor: seen/exact, stopping_threshold: -1000.0, mode: max}\n"
        "  - class_path: fgvr.callbacks.progress.Progress\n    init_args: {seconds: 1000.0}\n"
    )
    config.write_text(config.read_text().replace("trainer:\n", added))
    for step in (7, 14):  # stopped early, which is an end for now: the same command goes on
        assert fit(config) == 76
        assert (figures(config)["step"], figures(config)["stopped_by"]) == (step, "EarlyStopping")
        assert checkpoints_in(config.parent / "run/checkpoints")
    assert fit(config) == 0
    assert figures(config)["step"] == 21
    assert "stopped_by" not in figures(config)


class StopEarly(Callback):
    """Stops the training after five steps, for no reason that it gives."""

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        trainer.should_stop = trainer.global_step == 5


def test_a_stop_that_is_not_the_last_step_is_no_end(config: Path, capsys: Any) -> None:
    text = config.read_text()
    config.write_text(text.replace("trainer:\n", "trainer:\n  callbacks: [{class_path: test_cli.StopEarly}]\n"))
    assert fit(config) == 76
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == "fgvr: stopped by a callback. The same command goes on from the last checkpoint."
    assert not (config.parent / "run/final_metrics.json").exists()
    assert fit(config) == 0
    assert figures(config)["step"] == 21


def test_a_run_that_is_refused_gives_back_what_it_moved_aside(config: Path, capsys: Any) -> None:
    fit(config, "--trainer.max_steps=2")
    before = figures(config)
    assert fit(config, "--run.fresh=true", "--model.init_args.shape.width=0") == 2
    assert "width must be at least 1" in capsys.readouterr().err
    assert figures(config) == before
    assert not (config.parent / "run-1").exists()


def test_a_second_run_in_the_folder_is_refused(config: Path, capsys: Any) -> None:
    lock = claim(RunFolder(config.parent / "run"))
    assert fit(config) == 2
    assert f"is being written by process {os.getpid()}" in capsys.readouterr().err
    lock.release()


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        (
            "max_epochs",
            "max_epoch",
            "toy.yaml: there is no setting trainer.max_epoch; the nearest is trainer.max_epochs",
        ),
        ("lr: 1e-3", "lr: fast", "model.init_args.lr must be a number, got fast."),
        ("width: 5", "width: 0", "width must be at least 1, got 0: choose a larger one."),
        ("save_every: 4", "save_every: 0", "run.save_every and run.keep must be at least 1"),
        ("data:\n  class_path: toy_run.ToyData\n", "", "data is required"),
        ("  dir:", "  #dir:", "run.dir is required"),
        ("max_epochs: 3", "max_epochs: 3\n  max_epochs: 4", "found duplicate key max_epochs"),
        ("max_epochs: 3", "max_epochs: ${nothing}", "Interpolation key 'nothing' not found"),
        ("max_epochs: 3", "default_root_dir: /tmp/x", "leave trainer.default_root_dir (/tmp/x) out"),
        ("accelerator: cpu", "accelerator: gpu", "No supported gpu backend found"),
        ("max_epochs: 3", "precision: 16-mixed", "must be 32-true or bf16-mixed, got 16-mixed: choose bf16-mixed"),
    ],
)
def test_mistakes_are_one_sentence_and_build_nothing(
    config: Path, capsys: Any, old: str, new: str, sentence: str
) -> None:
    config.write_text(config.read_text().replace(old, new))
    assert fit(config) == 2
    err = capsys.readouterr().err.strip().splitlines()[-1]
    assert err.startswith("fgvr: ")
    assert sentence in err
    assert not (config.parent / "run").exists()


STREAM = """
data:
  class_path: fgvr.datamodules.SFTData
  init_args:
    train: [{{path: {folder}}}]
    task: {{class_path: fgvr.data.OpenWorld, init_args: {{question: Which?}}}}
"""


@pytest.mark.parametrize(
    "setting", ["limit_train_batches: 5", "limit_train_batches: 1", "limit_train_batches: 0.5", "overfit_batches: 1"]
)
def test_a_stream_is_not_cut_short_by_the_trainer(config: Path, capsys: Any, setting: str) -> None:
    text = config.read_text().replace("max_epochs: 3", f"max_epochs: 1\n  {setting}")
    config.write_text(text)
    stream = STREAM.format(folder=config.parent)
    config.write_text(text.replace("\ndata:\n  class_path: toy_run.ToyData\n", stream))
    capsys.readouterr()
    assert fit(config) == 2
    key, value = setting.split(": ")
    sentence = f"fgvr: trainer.{key} must be left out with SFTData, got {value}: "
    (said,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith(sentence)]
    assert "data.init_args.epoch_length" in said
    assert not (config.parent / "run").exists()


def test_other_data_may_be_cut_short_and_bfloat16_is_no_mistake(config: Path) -> None:
    assert fit(config, "--trainer.limit_train_batches=2", "--trainer.precision=bf16-mixed") == 0
    assert figures(config)["step"] == 6


def test_curves_of_a_run_without_a_checkpoint_are_drawn_once(config: Path) -> None:
    fit(config, "--trainer.max_steps=5")
    shutil.rmtree(config.parent / "run/checkpoints")
    (config.parent / "run/final_metrics.json").unlink()
    fit(config, "--trainer.max_steps=4")
    curves = EventAccumulator(str(config.parent / "run/tensorboard")).Reload()
    assert [point.step for point in curves.Scalars("loss")] == [1, 2, 3, 4]


def test_print_config_prints_what_can_be_read_again(config: Path, capsys: Any, tmp_path: Path) -> None:
    assert main(["fit", "--config", str(config), "--print_config"]) == 0
    printed = tmp_path / "printed.yaml"
    printed.write_text(capsys.readouterr().out)
    assert "width: 5" in printed.read_text()
    assert fit(printed, "--trainer.max_steps=2") == 0


# Starts the same command again and again, each time in a new process that is killed at a random moment, of its start or
# after it has begun to train, until one ends by itself. Forked from a process that has imported everything, so that a
# start costs little.
KILLED_RUNS = """
import os, random, signal, sys, time
from fgvr.__main__ import main
import fgvr.cli, toy_run, torch

torch.set_num_threads(1)
line, kills = sys.argv[2:], 0
sys.argv = ["fgvr"]
rng = random.Random(int(os.environ["SEED"]))
journal = next(option.partition("=")[2] for option in line if "journal" in option)

def trained():
    return os.path.getsize(journal) if os.path.exists(journal) else 0

while True:
    before = trained()
    if (child := os.fork()) == 0:
        os._exit(main(line))
    begun, end, done = rng.random() < 0.2, time.monotonic() + rng.uniform(0.0, 0.8), 0
    while not done and (kills >= 5 or not begun or time.monotonic() < end):
        time.sleep(0.01)
        done, status = os.waitpid(child, os.WNOHANG)
        if not begun and trained() > before:
            begun, end = True, time.monotonic() + rng.uniform(0.0, 0.8)
    if done:
        print(kills)
        sys.exit(os.waitstatus_to_exitcode(status))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    kills += 1
"""


def test_killed_at_random_moments_the_run_ends_with_the_same_weights(config: Path, tmp_path: Path) -> None:
    config.write_text(config.read_text().replace("max_epochs: 3", "max_epochs: 10\n  val_check_interval: 3"))
    ends: dict[str, dict[str, Any]] = {}
    journals: dict[str, list[str]] = {}
    for name in ("straight", "killed"):
        line = ["fit", "--config", str(config), f"--run.dir={tmp_path / name}", "--run.allow_changed=[code,config]"]
        line += [f"--model.journal={tmp_path / name}.txt", "--run.save_every=3"]
        if name == "straight":
            torch.set_num_threads(1)
            assert main(line) == 0
        else:
            command = [sys.executable, "-c", KILLED_RUNS, "x", *line, "--model.pause=0.03"]
            environment = {
                **os.environ,
                "PYTHONPATH": f"{Path(__file__).parents[1]}:{Path(__file__).parent}",
                "SEED": "1",
            }
            run = subprocess.run(command, capture_output=True, text=True, env=environment)
            assert run.returncode == 0, run.stderr
            assert int(run.stdout.splitlines()[-1]) >= 3
            assert "Resuming at step" in run.stderr
        ends[name] = read_checkpoint(checkpoints_in(tmp_path / name / "checkpoints")[-1])
        journals[name] = (tmp_path / f"{name}.txt").read_text().splitlines()
    assert same_weights(ends["straight"], ends["killed"])
    assert set(journals["killed"]) == set(journals["straight"])  # whatever was done again was done alike
    assert len(set(journals["straight"])) == len(journals["straight"])
