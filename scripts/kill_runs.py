"""Kills small real trainings as `kill -9` does, at moments drawn evenly over each start, until they have ended.

Each run then must have ended as the one that nobody disturbed: the same samples, seeds, rewards, completions and
weights at every batch, told by a book that is only ever added to, and the same bits in the last checkpoint.
Run: python scripts/kill_runs.py --kills 1000    40 minutes of one core; 20 kills take two
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from jsonargparse import auto_cli

if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # threads would not outlive a fork
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from random_kills import kill_runs  # pyright: ignore[reportMissingImports]

    auto_cli(kill_runs)
