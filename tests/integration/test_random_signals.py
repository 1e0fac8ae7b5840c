"""A run of two processes, its model in parts, that is told to end at random moments and goes on exactly."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from rl_run import ROOT


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_signals_end_in_whole_checkpoints_and_change_nothing():
    line = [sys.executable, str(ROOT / "scripts/signal_runs.py"), "--signals", "2", "--cases", "[fsdp2]"]
    run = subprocess.run(line, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert run.returncode == 0, run.stderr[-3000:]
    assert "fsdp2: 2 of 2 signals ended in a whole checkpoint and an exact resume" in run.stdout
