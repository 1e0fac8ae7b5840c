"""Which jobs slurm/parts.sh queues again: after which codes, and that it is this job alone."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from cluster.slurm_cluster import SlurmCluster, wait_until
from rl_run import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
# Stands in for fgvr: does as its first option says in a job's first start, and tells its options.
STAND_IN = """
import os, signal, sys, time
rank, task, what = os.environ["SLURM_PROCID"], os.environ.get("SLURM_ARRAY_TASK_ID"), sys.argv[1]
again = "SLURM_RESTART_COUNT" in os.environ
print(f"rank {rank} task {task} again {again} " + " ".join(sys.argv[2:]), flush=True)
if not again and what == "killed":
    if rank == "0":
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(1)
    sys.exit(50)  # by its watchdog
if not again and what == "array" and task == "1":
    time.sleep(3)
    sys.exit(75)
if not again and what == "deaf":
    signal.raise_signal(signal.SIGUSR1)
if what == "warned":
    signal.signal(signal.SIGUSR1, lambda *_: print("warned", flush=True))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
    open("listens", "w").close()
    time.sleep(100)
"""


def submit(cluster: SlurmCluster, folder: Path, what: str, *line: str) -> int:
    (folder / "slurm").mkdir(parents=True)
    (folder / "stand_in.py").write_text(STAND_IN)
    (folder / "toy.yaml").touch()
    (folder / "slurm/env.sh").write_text(f"FGVR=({sys.executable} stand_in.py {what})\n")
    return cluster.submit("--gres=none", *line, str(ROOT / "slurm/train.sbatch"), "toy.yaml", folder=folder)


def said(folder: Path) -> str:
    return "".join(file.read_text() for file in sorted(folder.glob("slurm-*.log")))


def test_a_run_that_was_killed_goes_on_and_a_task_of_an_array_alone(tmp_path: Path, cluster: SlurmCluster) -> None:
    """The last task bears the number of the array, by which SLURM would queue all of it again."""
    one, both, deaf = tmp_path / "one", tmp_path / "both", tmp_path / "deaf"
    jobs = [submit(cluster, one, "killed"), submit(cluster, both, "killed", "--ntasks-per-node=2")]
    jobs.append(submit(cluster, deaf, "deaf"))
    array = submit(cluster, tmp_path / "array", "array", "--array=0-1")
    for job, folder, starts in zip(jobs, (one, both, deaf), (1, 2, 1), strict=True):
        assert cluster.ended(job) == ("COMPLETED", 0), said(folder)
        assert cluster.restarts(job) == 1
        assert said(folder).count("--run.again true") == starts
        assert not list(folder.glob("slurm-*-code-*"))
    assert all("with exit code 50" in said(folder) for folder in (one, both))
    lines = said(tmp_path / "array").splitlines()
    assert [sum(f"task {task} again" in line for line in lines) for task in (0, 1)] == [1, 2], lines
    assert f"train: The run goes on when SLURM starts job {array}_1 again." in lines


def test_a_job_that_is_cancelled_after_a_warning_stays_so(tmp_path: Path, cluster: SlurmCluster) -> None:
    job = submit(cluster, tmp_path / "warned", "warned")
    tmp_path /= "warned"
    wait_until((tmp_path / "listens").exists, 90, "the run")
    cluster.run("scancel", "--signal=USR1", str(job))
    wait_until(lambda: "warned" in said(tmp_path), 60, "the warning")
    cluster.run("scancel", str(job))
    assert cluster.ended(job)[0] == "CANCELLED", said(tmp_path)
    assert cluster.restarts(job) == 0


def test_data_of_one_name_are_refused(tmp_path: Path, cluster: SlurmCluster) -> None:
    for folder in ("a", "b", "run/checkpoints/step-00000001.ckpt"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "val.yaml").touch()
    (tmp_path / "run/config.yaml").touch()
    script = ROOT / "slurm/eval_array.sbatch"
    line = ["--gres=none", "--array=0-1", str(script), "run", "a/val.yaml", "b/val.yaml"]
    cluster.submit(*line, folder=tmp_path)
    wait_until(lambda: not cluster.run("squeue", "-h"), 180, "the end of the array")
    assert said(tmp_path).count("there are two of val.yaml") == 2
