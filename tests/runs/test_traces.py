"""A run that is refused before its first step leaves nothing that it made; what stood there before stays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rl_run import grpo_config, json_rows, sft_config

from fgvr.__main__ import main
from fgvr.runs.folder import RunFolder
from fgvr.runs.traces import Traces

REFUSED = {
    "--data.task.question Which<|im_end|>?": "must not spell a control token",
    "--run.best seen/exakt": "run.best must be a figure of the validation",
    "--trainer.check_val_every_n_epoch 1 --trainer.val_check_interval 99": "check_val_every_n_epoch to null",
    "--data.micro_batch_tokens 1": "or raise max_bad_share",
}


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sft_config(tmp_path_factory.mktemp("run"))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_undo_takes_away_what_came_and_nothing_else(tmp_path: Path):
    for name in ("config.yaml", "tensorboard/events.1"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("before")
    before, traces = contents(tmp_path), Traces(RunFolder(tmp_path))
    for name in ("config.yaml", "tensorboard/events.2", "pictures/a/b.png", "start_metrics.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_text("after")
    traces.undo()
    assert contents(tmp_path) == before
    assert not (tmp_path / "pictures").exists()


@pytest.mark.parametrize("line", REFUSED)
def test_a_refused_run_leaves_no_folder(config: Path, capsys: Any, line: str):
    assert main(["fit", "--config", str(config), *line.split(" ")]) == 2
    assert REFUSED[line] in capsys.readouterr().err
    assert not (config.parent / "sft").exists()


def test_a_refused_run_leaves_another_runs_folder_as_it_was(config: Path, capsys: Any):
    other = config.parent / "other"
    line = ["fit", "--config", str(config), "--run.dir", str(other)]
    assert main([*line, "--trainer.max_steps", "2"]) == 0
    changed = ("--run.allow_changed", "[config, code]")
    before = {name: data for name, data in contents(other).items() if name != ".lock"}
    assert main([*line, "--trainer.max_steps", "4", "--run.best", "seen/exakt", *changed]) == 2
    assert "run.best must be a figure" in capsys.readouterr().err
    now = {name: data for name, data in contents(other).items() if name != ".lock"}
    assert now == before


def test_a_run_that_took_a_step_keeps_what_it_wrote(config: Path, capsys: Any):
    kept = config.parent / "kept"
    line = ["fit", "--config", str(config), "--run.dir", str(kept), "--trainer.max_steps", "4"]
    assert main([*line, "--trainer.val_check_interval", "2", "--run.best", "seen/a/b"]) == 2
    assert "got 'seen/a/b'" in capsys.readouterr().err
    assert (kept / "config.yaml").exists()
    assert list((kept / "tensorboard").iterdir())


def test_a_run_refused_as_it_goes_back_keeps_the_checkpoints_it_set_aside(config: Path):
    back = config.parent / "back"
    line = ["fit", "--config", str(config), "--run.dir", str(back), "--run.save_every", "1"]
    assert main([*line, "--trainer.max_steps", "3"]) == 0
    first = min((back / "checkpoints").glob("step-*"))
    going_back = ("--run.resume", str(first), "--run.allow_changed", "[config]")
    assert main([*line, "--trainer.max_steps", "4", *going_back, "--run.best", "seen/exakt"]) == 2
    assert len(list((back / "checkpoints").glob("set-aside*/step-*"))) == 2


def test_what_was_evaluated_before_a_refusal_stays_to_be_looked_at(config: Path, capsys: Any):
    folder, taught = config.parent, config.parent / "hardly-taught"
    assert main(["fit", "--config", str(config), "--run.dir", str(taught), "--trainer.max_steps", "1"]) == 0
    start = ("--model.init_args.policy.backbone.init_args.run", str(taught))
    assert main(["fit", "--config", str(grpo_config(folder, "rl")), *start]) == 2
    assert "Most replies of the start must be of the form" in capsys.readouterr().err
    assert json_rows(folder / "rl/answers.jsonl")
