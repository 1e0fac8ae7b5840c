"""A training of two tasks that SLURM takes its nodes from again and again, in every way it has."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from cluster.slurm_cluster import NODES, SlurmCluster, wait_until
from killed_runs import curves, final_figures
from rl_run import ROOT, grpo_config, json_rows, learn_sft
from toy_run import same_weights

from fgvr.checkpoints.format import checkpoints_in, read_checkpoint, read_manifest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
SETTINGS = {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "OMP_NUM_THREADS": "1"}
STEPS, RESUMING = 40, "Resuming at step"


def warn(cluster: SlurmCluster, job: int) -> None:
    """As at the limit of its time."""
    cluster.run("scancel", "--signal=USR1", str(job))


def outbid(cluster: SlurmCluster, job: int) -> None:
    """By a job of another partition that wants all nodes."""
    cluster.run("sbatch", "--partition=urgent", "--nodes=2", "--exclusive", "--output=/dev/null", "--wrap", "sleep 1")


def lose_a_node(cluster: SlurmCluster, job: int) -> None:
    node = cluster.run("squeue", "-h", "-j", str(job), "-o", "%N")
    assert node in NODES
    cluster.run("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=smoke")

    def comes_back() -> bool:
        with suppress(subprocess.CalledProcessError):  # not while the job's processes on it are ended
            cluster.run("scontrol", "update", f"NodeName={node}", "State=RESUME")
            return True
        return False

    wait_until(comes_back, 60, "the node to come back")


def test_a_job_that_is_cut_in_every_way_ends_as_one_that_nobody_disturbs(tmp_path: Path, cluster: SlurmCluster) -> None:
    learn_sft(tmp_path)
    config = grpo_config(tmp_path, "cut")
    options = ["--trainer.strategy", "ddp", "--trainer.max_steps", str(STEPS), "--run.keep", "99"]
    script = ["--gres=none", "--ntasks-per-node=2", str(ROOT / "slurm/train.sbatch"), str(config), *options]
    whole, run = tmp_path / "whole", tmp_path / "cut"
    job = cluster.submit(*script, "--run.dir", str(whole), folder=tmp_path, settings=SETTINGS)
    assert cluster.ended(job, 300) == ("COMPLETED", 0), (tmp_path / f"slurm-{job}.log").read_text()

    job = cluster.submit(*script, folder=tmp_path, settings=SETTINGS)
    log_file = tmp_path / f"slurm-{job}.log"

    def said() -> str:
        return log_file.read_text() if log_file.exists() else ""

    ways: list[Callable[[SlurmCluster, int], None]] = [warn, outbid, lose_a_node, warn]
    for number, cut in enumerate(ways):
        # by this start: what a lost node was running may save once more
        wait_until(lambda: said().count(RESUMING) == number, 120, "the run to go on")  # noqa: B023
        before = saved(run)
        wait_until(lambda: saved(run) > before, 120, "a step to be saved")  # noqa: B023
        cut(cluster, job)
        wait_until(lambda: cluster.restarts(job) == number + 1, 60, "the job to be queued again")  # noqa: B023
    assert cluster.ended(job, 300) == ("COMPLETED", 0), said()
    assert cluster.leftovers(job) == {}
    assert cluster.restarts(job) == len(ways)

    last = [checkpoints_in(one / "checkpoints")[-1] for one in (run, whole)]
    assert [path.name for path in last] == [f"step-{STEPS:08d}.ckpt"] * 2
    assert same_weights(*map(read_checkpoint, last))
    assert final_figures(run) == final_figures(whole)
    for log in ("rollouts", "samples"):
        for rank in (0, 1):
            rows = [json_rows(one / f"{log}.rank{rank}.jsonl") for one in (run, whole)]
            assert rows[0] == rows[1]
            assert rows[0]
    assert curves(run) == curves(whole)
    assert said().count(RESUMING) == len(ways)
    assert said().count("fgvr: stopped by SIGUSR1. The same command goes on from the last checkpoint.") >= 2
    assert said().count(f"The run goes on when SLURM starts job {job} again.") >= 2


def saved(run: Path) -> int:
    return max((read_manifest(path).step for path in checkpoints_in(run / "checkpoints")), default=0)
