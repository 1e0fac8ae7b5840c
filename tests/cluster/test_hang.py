"""A job whose processes wait for one another for ever, or of which one is killed."""

from __future__ import annotations

from pathlib import Path

import pytest
from cluster.slurm_cluster import NODES, SlurmCluster
from two_processes import CONFIG, ROOT, callback

from fgvr.watchdog.process import HUNG

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


def completed_once_queued_again(cluster: SlurmCluster, folder: Path, fault: str, tasks: int) -> str:
    """What a job said of whose tasks the last meets with the fault."""
    (folder / "toy.yaml").write_text(CONFIG)
    befalls = callback("hanging_run.Befalls", f'{{"fault": "{fault}", "rank": {tasks - 1}}}')
    line = ["--gres=none", f"--ntasks-per-node={tasks}", str(ROOT / "slurm/train.sbatch"), "toy.yaml"]
    settings = {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "OMP_NUM_THREADS": "1"}
    strategy = "auto" if tasks == 1 else "ddp"
    options = ["--run.dir=run", "--run.silence=4", f"--trainer.strategy={strategy}", befalls]
    job = cluster.submit(*line, *options, folder=folder, settings=settings)
    said = folder / f"slurm-{job}.log"
    assert cluster.ended(job, 240) == ("COMPLETED", 0), said.read_text()
    assert cluster.leftovers(job) == {}
    assert cluster.restarts(job) == 1
    assert f"The run goes on when SLURM starts job {job} again." in said.read_text()
    return said.read_text()


@pytest.mark.parametrize("tasks", [1, 2])
def test_a_job_of_which_a_task_is_killed_is_queued_again(tmp_path: Path, cluster: SlurmCluster, tasks: int) -> None:
    """As the system does where a node has no memory left."""
    said = completed_once_queued_again(cluster, tmp_path, "is_killed", tasks)
    assert "Killed" in said
    assert f"with exit code {HUNG}" in said


def test_a_job_of_which_a_task_hangs_is_queued_again(tmp_path: Path, cluster: SlurmCluster) -> None:
    said = completed_once_queued_again(cluster, tmp_path, "holds_the_lock", 2)
    for rank in (0, 1):
        assert f"fgvr: the stacks of process {rank} (updating at step 2):" in said
    assert "in holds_the_lock" in said
    assert f"srun: error: {NODES[0]}: task" in said
    assert f"with exit code {HUNG}" in said
