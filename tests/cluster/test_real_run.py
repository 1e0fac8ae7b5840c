"""A real training, taught by a real server, as the two components of one job."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cluster.slurm_cluster import SlurmCluster, wait_until
from rl_run import ROOT, json_rows, judged_config, learn_sft

from fgvr.checkpoints.format import checkpoints_in, read_manifest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # five jobs, on a machine that may be busy
JUDGE = f"{sys.executable} {ROOT / 'tests/judge_server.py'} '{{}}' $JUDGE_PORT"


@pytest.fixture
def job_of(tmp_path: Path, cluster: SlurmCluster) -> Callable[..., int]:
    """Submits the program itself, without a stand-in: `job_of(*options)` is the id of a job in `tmp_path`."""
    learn_sft(tmp_path)
    config = judged_config(tmp_path, "judged", "judged.sqlite")
    settings = {
        "JUDGE_COMMAND": JUDGE,
        "JUDGE_HEALTH": "/v1/models",
        "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}",
        "OMP_NUM_THREADS": "1",
    }
    line = ["--gres=none", ":", "--gres=none", "--ntasks-per-node=1", str(ROOT / "slurm/train_with_judge.sbatch")]
    return lambda *options: cluster.submit(*line, str(config), *options, folder=tmp_path, settings=settings)


def test_a_real_run_is_taught_by_the_judge_of_its_job(
    tmp_path: Path, cluster: SlurmCluster, job_of: Callable[..., int]
) -> None:
    job = job_of()
    said = (tmp_path / f"slurm-{job}.log").read_text
    assert cluster.ended(job, 240) == ("COMPLETED", 0), said()
    assert cluster.leftovers(job) == {}
    assert [path.name for path in checkpoints_in(tmp_path / "judged/checkpoints")][-1] == "step-00000012.ckpt"
    assert any(row["reward"] for row in json_rows(tmp_path / "judged/rollouts.jsonl"))
    assert "The judge answers at" in said()


def test_a_real_run_that_is_warned_goes_on_with_a_judge_of_its_own(
    tmp_path: Path, cluster: SlurmCluster, job_of: Callable[..., int]
) -> None:
    run = tmp_path / "judged"
    run.mkdir()
    (run / "hpc_ckpt_1.ckpt").write_text("what Lightning's requeueing would begin with")

    def saved() -> int:
        cluster.look_again()
        return max((read_manifest(path).step for path in checkpoints_in(run / "checkpoints")), default=0)

    def said(job: int) -> str:
        return (tmp_path / f"slurm-{job}.log").read_text()

    job = job_of("--trainer.max_steps", "40", "--run.keep", "99")  # none is removed while it is looked at
    for restart, sent in enumerate(("USR1", "USR2")):
        before = saved()
        wait_until(lambda: saved() > before, 120, "a step to be saved")  # noqa: B023
        cluster.run("scancel", f"--signal={sent}", str(job))
        wait_until(lambda: cluster.restarts(job) == restart + 1, 60, "the job to be queued again")  # noqa: B023
        assert f"fgvr: stopped by SIG{sent}. The same command goes on from the last checkpoint." in said(job)
    wait_until(lambda: saved() == 40, 120, "the last step to be saved")
    assert cluster.ended(job, 240) == ("COMPLETED", 0), said(job)
    assert said(job).count("Resuming at step") == 2
    assert saved() == 40
    assert [path.name for path in run.glob("hpc_ckpt*")] == ["hpc_ckpt_1.ckpt"]
