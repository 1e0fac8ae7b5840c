"""Runs on a real file system that is full, read-only or over a quota from some step on: nothing is lost, they go on."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Callback, LightningModule, Trainer
from small_disks import disk_with_a_quota, fill, small_disk, use_up
from toy_run import same_weights

from fgvr.__main__ import main
from fgvr.callbacks.steps import StepLogger, with_step_loggers
from fgvr.checkpoints.format import checkpoints_in, read_checkpoint, verify_checkpoint

CONFIG = """
model: {{class_path: toy_run.ToyModel, init_args: {{lr: 1e-3}}}}
data: {{class_path: toy_run.ToyData}}
trainer:
  accelerator: cpu
  max_steps: 8
  log_every_n_steps: 1
  enable_progress_bar: false
  callbacks: [{{class_path: tests.integration.test_small_disks.Harm, init_args: {{disk: {disk}, how: {how}}}}}]
run: {{dir: {disk}/run, save_every: 2, allow_changed: [code]}}
"""
REFUSED = r"fgvr: The checkpoint {run}/checkpoints/step-00000006.ckpt .*"
TOLD = {
    "full": REFUSED + r"No space left on device; 0 MB are free there\).*",
    "read-only": REFUSED + "Read-only file system.*",
    # the curves, which are written by a thread of their own, may find it used up before the checkpoint does
    "quota": f"({REFUSED}quota says.*|fgvr: {{run}}/tensorboard must find room, but its user's share of the disk .*)",
}


class Harm(Callback):
    """After the fifth step of a first attempt the disk is full, its quota used up, or no checkpoint may be written."""

    def __init__(self, disk: Path, how: str) -> None:
        self.disk, self.how = disk, how

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        if trainer.global_step == 4:
            time.sleep(0.5)  # so that what is written in the background is whole
        if trainer.global_step != 5 or (mark := self.disk.with_name("harmed")).exists():
            return
        mark.touch()
        if self.how == "full":
            fill(self.disk)
        elif self.how == "quota":
            use_up(self.disk)
        else:
            place = str(self.disk / "run" / "checkpoints")
            subprocess.run(["mount", "--bind", place, place], check=True)
            subprocess.run(["mount", "-o", "remount,bind,ro", place], check=True)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # the curves' own thread
@pytest.mark.parametrize("background", [False, True], ids=["at once", "in the background"])
@pytest.mark.parametrize("how", ["full", "read-only", pytest.param("quota", marks=pytest.mark.slow)])
def test_what_was_saved_is_whole_and_the_run_goes_on_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], how: str, background: bool
):
    monkeypatch.setattr(sys, "argv", ["fgvr"])
    config = tmp_path / "toy.yaml"
    with (disk_with_a_quota if how == "quota" else small_disk)(tmp_path / "disk", megabytes=20) as disk:
        config.write_text(CONFIG.format(disk=disk, how=how))
        line = ["fit", "--config", str(config), f"--run.save_in_background={background}"]
        assert main(line) == 2
        told = capfd.readouterr().err
        assert re.fullmatch(TOLD[how].format(run=disk / "run"), told.splitlines()[-1])
        saved = checkpoints_in(disk / "run" / "checkpoints")
        assert [path.stem for path in saved] == ["step-00000002", "step-00000004"]
        for path in saved:
            verify_checkpoint(path)
        if how != "read-only":
            assert not list((disk / "run").rglob(".*.new-*")), "what did not fit leaves no remains"
            (disk / "filler").unlink()
            os.sync()  # a quota knows of it only then
        else:
            subprocess.run(["umount", str(disk / "run" / "checkpoints")], check=True)
        assert main(line) == 0
        assert main([*line, f"--run.dir={tmp_path / 'whole'}"]) == 0
        ends = [checkpoints_in(run / "checkpoints")[-1] for run in (disk / "run", tmp_path / "whole")]
        assert same_weights(*map(read_checkpoint, ends))


def draw_much(logger: StepLogger) -> None:
    for number in range(3):
        logger.log_metrics({f"loss {number} {name}": 1.0 for name in range(2000)})
        logger.save()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # its writer's own thread
def test_curves_that_find_no_room_say_where_and_so_does_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(sys, "argv", ["fgvr"])
    with small_disk(tmp_path / "disk", megabytes=20) as disk:
        logger = StepLogger(disk / "run")
        with_step_loggers(Trainer(logger=logger, accelerator="cpu", barebones=False, max_steps=1))
        logger.log_metrics({"loss": 1.0})
        fill(disk)
        with pytest.raises(OSError, match="No space left") as error:
            draw_much(logger)
        assert error.value.filename == str(disk / "run/tensorboard")
        (tmp_path / "toy.yaml").write_text(CONFIG.format(disk=disk, how="full"))
        assert main(["fit", "--config", str(tmp_path / "toy.yaml"), f"--run.dir={disk}/other"]) == 2
        assert capfd.readouterr().err.splitlines()[-1] == (
            f"fgvr: {disk}/other must find room, but the disk is full (No space left on device): make room, then start "
            "again."
        )
