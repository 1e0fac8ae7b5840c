"""A real training, taught by a real server, as the two components of one job."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from cluster.slurm_cluster import SlurmCluster
from rl_run import ROOT, ends, json_rows, judged_config, sft_config, start

from fgvr.checkpoints.format import checkpoints_in

pytestmark = [pytest.mark.slow, pytest.mark.timeout(290)]
JUDGE = f"{sys.executable} {ROOT / 'tests/judge_server.py'} '{{}}' $JUDGE_PORT"


def test_a_real_run_is_taught_by_the_judge_of_its_job(tmp_path: Path, cluster: SlurmCluster) -> None:
    ends(start(sft_config(tmp_path), tmp_path / "sft"))
    config = judged_config(tmp_path, "judged", "judged.sqlite")
    settings = {
        "JUDGE_COMMAND": JUDGE,
        "JUDGE_HEALTH": "/v1/models",
        "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}",
        "OMP_NUM_THREADS": "1",
    }
    components = ["--gres=none", ":", "--gres=none", "--ntasks-per-node=1"]
    script = ROOT / "slurm/train_with_judge.sbatch"
    job = cluster.submit(*components, str(script), str(config), folder=tmp_path, settings=settings)
    said = (tmp_path / f"slurm-{job}.log").read_text
    assert cluster.ended(job, 240) == ("COMPLETED", 0), said()
    assert cluster.processes(job) == {}
    assert [path.name for path in checkpoints_in(tmp_path / "judged/checkpoints")][-1] == "step-00000012.ckpt"
    assert any(row["reward"] for row in json_rows(tmp_path / "judged/rollouts.jsonl"))
    assert "The judge answers at" in said()
