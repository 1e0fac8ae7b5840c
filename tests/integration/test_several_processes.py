"""Two processes of one run: one of them tends the folder, both start from the same place."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from ports import free_port
from toy_run import same_weights
from warm_start import Warm

from fgvr.checkpoints.format import checkpoints_in, read_checkpoint, read_manifest, write_checkpoint

CONFIG = """
model: {class_path: toy_run.ToyModel}
data: {class_path: toy_run.ToyData}
trainer: {accelerator: cpu, strategy: ddp, devices: 2, max_steps: 6, max_epochs: -1, logger: false}
run: {save_every: 2, allow_changed: [code]}
"""


def start(folder: Path, run: str, *options: str, **settings: str) -> Warm:
    (folder / "toy.yaml").write_text(CONFIG)
    line = ["fit", "--config", str(folder / "toy.yaml"), f"--run.dir={folder / run}", *options]
    return Warm(line, {**os.environ, **settings})


def start_both(folder: Path, runs: tuple[str, str], *options: str) -> list[Warm]:
    """As a launcher does that starts all processes at once."""
    shared = {
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "TORCHELASTIC_RUN_ID": "toy",
    }
    return [
        start(folder, run, *options, RANK=str(rank), LOCAL_RANK=str(rank), **shared) for rank, run in enumerate(runs)
    ]


def finish(processes: list[Warm], code: int) -> list[str]:
    said = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [code] * len(processes), said
    return said


@pytest.mark.slow
def test_two_processes_go_back_to_one_checkpoint(tmp_path: Path) -> None:
    finish([start(tmp_path, "run")], 0)
    checkpoints = tmp_path / "run/checkpoints"
    straight = {path.name: read_checkpoint(path) for path in checkpoints_in(checkpoints)}
    assert list(straight) == ["step-00000002.ckpt", "step-00000004.ckpt", "step-00000006.ckpt"]
    (tmp_path / "run/final_metrics.json").unlink()
    said = finish(start_both(tmp_path, ("run", "run"), f"--run.resume={checkpoints / 'step-00000002.ckpt'}"), 0)
    assert "the 2 later checkpoints were moved" in said[0]
    assert "moved" not in said[1]
    assert [path.name for path in checkpoints.glob("set-aside*")] == ["set-aside-1"]
    assert len(list((checkpoints / "set-aside-1").iterdir())) == 2
    for path in checkpoints_in(checkpoints):
        assert same_weights(read_checkpoint(path), straight[path.name])
    assert len(checkpoints_in(checkpoints)) == 3
    assert json.loads((tmp_path / "run/final_metrics.json").read_text())["step"] == 6


@pytest.mark.slow
def test_of_two_processes_the_one_that_saves_may_do_so_in_the_background(tmp_path: Path) -> None:
    finish(start_both(tmp_path, ("once", "once")), 0)
    said = finish(start_both(tmp_path, ("behind", "behind"), "--run.save_in_background=true"), 0)
    assert "The checkpoint of step 6, written in the background, is whole." in said[0]
    once, behind = (checkpoints_in(tmp_path / run / "checkpoints") for run in ("once", "behind"))
    assert [path.name for path in once] == [path.name for path in behind]
    assert all(same_weights(*map(read_checkpoint, pair)) for pair in zip(once, behind, strict=True))


def test_processes_that_see_different_folders_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "one/checkpoints/step-00000003.ckpt"
    write_checkpoint({"global_step": 3, "w": torch.zeros(1)}, path)
    said = finish(start_both(tmp_path, ("one", "other")), 2)
    starts = "process 0 starts from step-00000003.ckpt and"
    assert f"{starts} another one does not: see that" in said[0]
    assert f"{starts} process 1 at the beginning: see that" in said[1]
    assert not (tmp_path / "other").exists()
    assert read_manifest(path).step == 3
