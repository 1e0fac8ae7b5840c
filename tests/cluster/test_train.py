"""A real training as a job of one task, and of two that share its batches."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from cluster.slurm_cluster import SlurmCluster, wait_until
from rl_run import ROOT, json_rows, sft_config

from fgvr.checkpoints.format import checkpoints_in, read_manifest

SCRIPT = ROOT / "slurm/train.sbatch"
SETTINGS = {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "OMP_NUM_THREADS": "1"}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


def test_a_job_trains_to_its_end(tmp_path: Path, cluster: SlurmCluster) -> None:
    config = sft_config(tmp_path)
    options = ["--gres=none", str(SCRIPT), str(config), "--trainer.max_steps", "8"]
    job = cluster.submit(*options, folder=tmp_path, settings=SETTINGS)
    assert cluster.ended(job, 240) == ("COMPLETED", 0), said(tmp_path, job)
    assert cluster.leftovers(job) == {}
    assert (tmp_path / "sft/final_metrics.json").is_file(), said(tmp_path, job)
    assert checkpoints_in(tmp_path / "sft/checkpoints")


@pytest.mark.parametrize(("arguments", "words"), [((), "must be given"), (("nowhere.yaml",), "has no nowhere.yaml")])
def test_a_job_that_cannot_train_says_why(tmp_path: Path, cluster: SlurmCluster, arguments, words: str) -> None:
    job = cluster.submit("--gres=none", str(SCRIPT), *arguments, folder=tmp_path, settings=SETTINGS)
    assert cluster.ended(job, 60) == ("FAILED", 2)
    assert words in (tmp_path / f"slurm-{job}.log").read_text()


def slowed(config: Path) -> Path:
    """A run each of whose steps takes at least half a second."""
    settings = yaml.safe_load(config.read_text())
    settings["trainer"]["callbacks"].append({"class_path": "rl_run.SlowSteps", "init_args": {"seconds": 0.5}})
    config.write_text(yaml.safe_dump(settings))
    return config


def said(folder: Path, job: int) -> str:
    """The log of a job, which is there once it has begun."""
    file = folder / f"slurm-{job}.log"
    return file.read_text() if file.exists() else ""


def steps(run: Path) -> list[int]:
    return [read_manifest(path).step for path in checkpoints_in(run / "checkpoints")]


def test_a_job_whose_time_is_over_queues_itself_again(tmp_path: Path, cluster: SlurmCluster) -> None:
    """By the limit that the run itself is given, of which each start has the whole; the log is that of all of them."""
    config, run = slowed(sft_config(tmp_path)), tmp_path / "sft"
    options = ["--gres=none", str(SCRIPT), str(config), "--trainer.max_steps", "6", "--run.keep", "99"]
    job = cluster.submit(*options, "--trainer.max_time", "00:00:00:01", folder=tmp_path, settings=SETTINGS)
    assert cluster.ended(job, 280) == ("COMPLETED", 0), said(tmp_path, job)
    restarts = cluster.restarts(job)
    assert restarts > 0
    assert (
        said(tmp_path, job).count("fgvr: stopped by trainer.max_time. The same command goes on from the last")
        == restarts
    )
    assert said(tmp_path, job).count(f"train: The run goes on when SLURM starts job {job} again.") == restarts
    assert steps(run)[-1] == 6
    assert len(steps(run)) > restarts
    assert [row["step"] for row in json_rows(run / "samples.jsonl")] == list(range(6))


def test_a_job_that_is_warned_saves_and_goes_on(tmp_path: Path, cluster: SlurmCluster) -> None:
    """Two tasks, each with two workers, and all of their processes get the signal; `scancel` alone ends the job."""
    config, run = sft_config(tmp_path), tmp_path / "sft"
    options = ["--trainer.strategy", "ddp", "--trainer.max_steps", "4000", "--trainer.limit_val_batches", "0"]
    line = ["--gres=none", "--ntasks-per-node=2", str(SCRIPT), str(config), *options, "--data.init_args.workers", "2"]
    job = cluster.submit(*line, folder=tmp_path, settings=SETTINGS)
    for restart in (1, 2):
        wait_until(lambda: said(tmp_path, job).count("Resuming at step") == restart - 1, 120, "the job to begin")  # noqa: B023
        before = len(json_rows(run / "samples.rank0.jsonl"))
        wait_until(lambda: len(json_rows(run / "samples.rank0.jsonl")) > before + 5, 120, "the training")  # noqa: B023
        cluster.run("scancel", "--signal=USR1", str(job))
        wait_until(lambda: cluster.restarts(job) == restart, 60, "the job to be queued again")  # noqa: B023
        assert len(steps(run)) >= restart, said(tmp_path, job)
    cluster.run("scancel", str(job))
    assert cluster.ended(job, 60)[0] == "CANCELLED"
    assert cluster.leftovers(job) == {}
    assert (
        said(tmp_path, job).count("fgvr: stopped by SIGUSR1. The same command goes on from the last checkpoint.") == 4
    )  # of both


def test_a_job_that_gets_nowhere_comes_to_an_end(tmp_path: Path, cluster: SlurmCluster) -> None:
    config = sft_config(tmp_path)
    settings = yaml.safe_load(config.read_text())
    settings["trainer"]["callbacks"].append({"class_path": "test_exits.StandsStill"})
    config.write_text(yaml.safe_dump(settings))
    job = cluster.submit("--gres=none", str(SCRIPT), str(config), folder=tmp_path, settings=SETTINGS)
    assert cluster.ended(job, 280) == ("FAILED", 2), said(tmp_path, job)
    assert cluster.restarts(job) == 4
    assert "was started again 3 times at step 0 (run.restarts) and never came to a later checkpoint" in said(
        tmp_path, job
    )
