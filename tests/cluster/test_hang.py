"""A job whose processes wait for one another for ever."""

from __future__ import annotations

from pathlib import Path

import pytest
from cluster.slurm_cluster import NODES, SlurmCluster
from two_processes import CONFIG, ROOT, callback

from fgvr.watchdog.process import HUNG

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def test_a_job_of_which_a_task_hangs_is_queued_again(tmp_path: Path, cluster: SlurmCluster) -> None:
    (tmp_path / "toy.yaml").write_text(CONFIG)
    hangs = callback("hanging_run.Befalls", '{"fault": "holds_the_lock", "rank": 1}')
    line = ["--gres=none", "--ntasks-per-node=2", str(ROOT / "slurm/train.sbatch"), "toy.yaml"]
    settings = {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "OMP_NUM_THREADS": "1"}
    job = cluster.submit(*line, "--run.dir=run", "--run.silence=4", hangs, folder=tmp_path, settings=settings)
    assert cluster.ended(job, 240) == ("COMPLETED", 0), (tmp_path / f"slurm-{job}.log").read_text()
    assert cluster.leftovers(job) == {}
    assert cluster.restarts(job) == 1
    said = (tmp_path / f"slurm-{job}.log").read_text()
    for rank in (0, 1):
        assert f"fgvr: the stacks of process {rank} (updating at step 2):" in said
    assert "in holds_the_lock" in said
    assert f"srun: error: {NODES[0]}: task" in said
    assert f"with exit code {HUNG}" in said
    assert f"The run goes on when SLURM starts job {job} again." in said
