import json
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from toy_run import same_weights

from fgvr.__main__ import main
from fgvr.checkpoints.format import checkpoints_in, read_checkpoint

CONFIG = """
model: {{class_path: toy_run.ToyModel, init_args: {{pause: 0.1, journal: {folder}.txt}}}}
data: {{class_path: toy_run.ToyData}}
trainer: {{accelerator: cpu, max_epochs: 3, val_check_interval: 5, log_every_n_steps: 1}}
run: {{dir: {folder}, allow_changed: [code], best: seen/exact}}
"""


def fit(folder: Path, *options: str) -> int:
    config = folder.parent / f"{folder.name}.yaml"
    config.write_text(CONFIG.format(folder=folder))
    return main(["fit", "--config", str(config), *options])


@pytest.mark.parametrize("behind", ["false", pytest.param("true", marks=pytest.mark.slow)])
def test_a_job_that_is_out_of_time_leaves_a_run_that_the_next_one_goes_on_with(
    tmp_path: Path, capsys: Any, behind: str
) -> None:
    assert fit(tmp_path / "whole") == 0
    run = tmp_path / "run"
    jobs = 0
    while (
        code := fit(run, "--trainer.max_time", "00:00:00:01", "--run.save_in_background", behind)
    ) == 75 and jobs < 9:
        jobs += 1
        said = capsys.readouterr().err.splitlines()
        assert said[-1] == "fgvr: stopped by trainer.max_time. The same command goes on from the last checkpoint."
        assert not (run / "final_metrics.json").exists()
    assert code == 0
    assert jobs >= 2  # each had its own second
    ends = [checkpoints_in(folder / "checkpoints")[-1] for folder in (tmp_path / "whole", run)]
    assert same_weights(*map(read_checkpoint, ends))
    figures = [json.loads((folder / "final_metrics.json").read_text()) for folder in (tmp_path / "whole", run)]
    for ended in figures:
        assert all(ended.pop(name) for name in ("seconds", "digest"))  # the digest is of the seconds too
    assert figures[0] == figures[1]
    journals = [(tmp_path / f"{name}.txt").read_text().splitlines() for name in ("whole", "run")]
    assert journals[0] == journals[1]  # no step twice, no validation that is not due, no epoch cut short
    curves = EventAccumulator(str(run / "tensorboard")).Reload()
    assert [point.step for point in curves.Scalars("loss")] == list(range(1, 22))
    best = [(folder / "checkpoints/best.json").read_text() for folder in (tmp_path / "whole", run)]
    assert best[0] == best[1]


def test_time_enough_is_no_stop(tmp_path: Path) -> None:
    assert fit(tmp_path / "run", "--trainer.max_time", "{minutes: 5}", "--trainer.max_steps", "2") == 0
    assert json.loads((tmp_path / "run/final_metrics.json").read_text())["step"] == 2


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--trainer.max_time", "an hour"], "trainer.max_time must have the form DD:HH:MM:SS, got an hour"),
        (
            ["--trainer.callbacks", "lightning.pytorch.callbacks.Timer"],
            "trainer.callbacks must hold no Timer, whose time goes on from one job to the next",
        ),
    ],
    ids=["no time", "a timer"],
)
def test_what_is_no_time_of_a_job_is_refused(tmp_path: Path, capsys: Any, options: list[str], sentence: str) -> None:
    assert fit(tmp_path / "run", *options) == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
