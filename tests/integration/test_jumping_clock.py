"""A node whose time of day jumps by an hour, forth and back: a run notices none of it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from killed_runs import curves
from rl_run import ends, start
from toy_run import same_weights

from fgvr.checkpoints.format import checkpoints_in, read_checkpoint

TESTS = Path(__file__).parents[1]
CONFIG = """
model: {class_path: toy_run.ToyModel, init_args: {pause: 0.4}}
data: {class_path: toy_run.ToyData}
trainer: {accelerator: cpu, max_steps: 12, val_check_interval: 5, log_every_n_steps: 1}
run: {save_every: 2, allow_changed: [code], save_in_background: true, silence: 60}
"""


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("gcc") is None or sys.platform != "linux", reason="makes a library to preload")
def test_no_limit_no_watchdog_and_no_curve_notices(tmp_path: Path):
    library, config = tmp_path / "clock.so", tmp_path / "toy.yaml"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, TESTS / "jumping_clock.c", "-ldl"], check=True)
    jumps = {"LD_PRELOAD": str(library)}
    clock = [sys.executable, "-c", "import time\nfor _ in range(7): print(time.time()); time.sleep(0.5)"]
    seen = subprocess.run(clock, env=jumps, capture_output=True, text=True, check=True).stdout.split()
    steps = [float(after) - float(before) for before, after in pairwise(seen)]
    assert max(steps) > 3600 > 0 > -3600 > min(steps), "the clock of this machine cannot be made to jump"

    config.write_text(CONFIG)
    whole, run = tmp_path / "whole", tmp_path / "run"
    ends(start(config, whole))
    jobs, code = 0, 75
    while code == 75 and jobs < 9:
        job = start(config, run, "--trainer.max_time", "00:00:00:03", **jumps)
        said, code, jobs = job.communicate(timeout=240)[0], job.returncode, jobs + 1
        assert code == 0 or "stopped by trainer.max_time." in said, said
        assert not re.search("hangs|is asked again", said)
    assert jobs in (2, 3), "twelve steps of 0.4 s, three seconds a job"
    ours, theirs = (checkpoints_in(one / "checkpoints")[-1] for one in (run, whole))
    assert ours.name == theirs.name == "step-00000012.ckpt"
    assert same_weights(read_checkpoint(ours), read_checkpoint(theirs))
    drawn, expected = curves(run), curves(whole)
    assert len(drawn.pop("hp_metric")) == jobs  # Lightning's own, at each start
    assert len(expected.pop("hp_metric")) == 1
    assert drawn == expected
