"""A job whose processes wait for one another for ever."""

from __future__ import annotations

from pathlib import Path

import pytest
from cluster.slurm_cluster import SlurmCluster
from two_processes import CONFIG, ROOT, callback

from fgvr.watchdog.process import HUNG

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def test_a_task_that_hangs_ends_the_job_with_a_code_of_its_own(tmp_path: Path, cluster: SlurmCluster) -> None:
    (tmp_path / "toy.yaml").write_text(CONFIG)
    hangs = callback("hanging_run.Befalls", '{"fault": "holds_the_lock", "rank": 1}')
    line = ["--gres=none", "--ntasks-per-node=2", str(ROOT / "slurm/train.sbatch"), "toy.yaml"]
    settings = {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "OMP_NUM_THREADS": "1"}
    options = ["--run.dir=run", "--run.silence=4", hangs]
    job = cluster.submit(*line, *options, folder=tmp_path, settings=settings)
    said = (tmp_path / f"slurm-{job}.log").read_text
    assert cluster.ended(job, 180) == ("FAILED", HUNG), said()
    assert cluster.leftovers(job) == {}
    for rank in (0, 1):
        assert f"fgvr: the stacks of process {rank} (updating at step 2):" in said()
    assert "in holds_the_lock" in said()
