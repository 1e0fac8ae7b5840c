"""Tells small trainings of two processes to end, by SIGUSR1 at random moments, as SLURM does before a job's limit.

Each signal must end in a whole, newer checkpoint and exit code 75, and each run as the one that nobody disturbed: where
one process lags behind the other, where loaders have workers, and where the model is in parts.
Run: python scripts/signal_runs.py --signals 20    15 minutes of two cores
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from jsonargparse import auto_cli

if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # threads would not outlive a fork
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from random_signals import signal_runs  # pyright: ignore[reportMissingImports]

    auto_cli(signal_runs)
