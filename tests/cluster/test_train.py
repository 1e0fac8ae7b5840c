"""A real training as a job of one task, and of two that share its batches."""

from __future__ import annotations

from pathlib import Path

import pytest
from cluster.slurm_cluster import SlurmCluster
from rl_run import ROOT, sft_config

from fgvr.checkpoints.format import checkpoints_in

SCRIPT = ROOT / "slurm/train.sbatch"
SETTINGS = {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "OMP_NUM_THREADS": "1"}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(290)]


@pytest.mark.parametrize("tasks", [1, 2])
def test_a_job_trains_to_its_end(tmp_path: Path, cluster: SlurmCluster, tasks: int) -> None:
    config = sft_config(tmp_path)
    strategy = ["--trainer.strategy", "ddp"] if tasks > 1 else []
    options = ["--gres=none", f"--ntasks-per-node={tasks}", str(SCRIPT), str(config), *strategy]
    job = cluster.submit(*options, folder=tmp_path, settings=SETTINGS)
    said = (tmp_path / f"slurm-{job}.log").read_text
    assert cluster.ended(job, 240) == ("COMPLETED", 0), said()
    assert cluster.leftovers(job) == {}
    assert (tmp_path / "sft/final_metrics.json").is_file(), said()
    assert checkpoints_in(tmp_path / "sft/checkpoints")


@pytest.mark.parametrize(("arguments", "words"), [((), "must be given"), (("nowhere.yaml",), "has no nowhere.yaml")])
def test_a_job_that_cannot_train_says_why(tmp_path: Path, cluster: SlurmCluster, arguments, words: str) -> None:
    job = cluster.submit("--gres=none", str(SCRIPT), *arguments, folder=tmp_path, settings=SETTINGS)
    assert cluster.ended(job, 60) == ("FAILED", 2)
    assert words in (tmp_path / f"slurm-{job}.log").read_text()
