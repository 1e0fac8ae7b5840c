"""A run whose processes hang or vanish ends in all of them, with a code and a sentence of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from two_processes import CONFIG, ROOT, both, callback, said

from fgvr.watchdog.process import HUNG

SILENCE = 4.0  # seconds


def ends(folder: Path, *options: str) -> tuple[list[int], list[str], float]:
    """The codes of both, what they said, and how many seconds the second ended after the first."""
    processes = both(folder, *options, f"--run.silence={SILENCE}")
    deadline, first = time.monotonic() + 120, 0.0
    while (codes := [process.poll() for process in processes]) and None in codes and time.monotonic() < deadline:
        first = first or (time.monotonic() if any(code is not None for code in codes) else 0.0)
        time.sleep(0.05)
    late = time.monotonic() - first
    return [process.wait(15) for process in processes], said(folder), late


def befalls(fault: str, rank: int, phase: str) -> str:
    options = f'{{"fault": "{fault}", "rank": {rank}, "phase": "{phase}"}}'
    return callback("hanging_run.Befalls", options)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "rank", "phase"),
    [
        ("waits_for_ever", 1, "sampling"),
        ("holds_the_lock", 1, "scoring"),
        ("is_stopped", 0, "validating"),
    ],
)
def test_a_hang_of_one_process_ends_both_with_their_stacks(tmp_path: Path, fault: str, rank: int, phase: str) -> None:
    codes, texts, _ = ends(tmp_path, befalls(fault, rank, phase))
    assert codes == [HUNG, HUNG], texts
    for number, text in enumerate(texts):
        place = phase if number == rank else r"[a-z ]+"
        assert re.search(rf"fgvr: the stacks of process {number} \({place} at step \d\):\n.*most recent call", text)
        assert re.search(r"process \d must give a sign of life every 4 s \(run.silence\), but gave none for 4 s", text)
    assert f"in {fault}" in texts[rank]
    assert "Traceback" not in "".join(texts)


@pytest.mark.slow
@pytest.mark.parametrize(("rank", "phase"), [(0, "saving"), (1, "updating")])
def test_the_kill_of_one_process_ends_the_other_with_a_sentence(tmp_path: Path, rank: int, phase: str) -> None:
    codes, texts, late = ends(tmp_path, befalls("is_killed", rank, phase))
    assert codes[rank] == -signal.SIGKILL
    assert codes[1 - rank] == HUNG, texts
    assert late < 10
    assert f"process {rank} has ended without a word while {phase}" in texts[1 - rank]
    assert "Traceback" not in "".join(texts)


@pytest.mark.slow
def test_by_lightnings_own_launcher_the_first_process_ends_so_too(tmp_path: Path) -> None:
    (tmp_path / "toy.yaml").write_text(CONFIG)
    line = [sys.executable, "-m", "fgvr", "fit", f"--config={tmp_path / 'toy.yaml'}", f"--run.dir={tmp_path / 'run'}"]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    done = subprocess.run(
        [*line, befalls("is_killed", 1, "updating")], capture_output=True, text=True, env=environment, timeout=120
    )
    assert done.returncode == HUNG, done.stderr
    assert "fgvr: process 0 ends with another: process 1 has ended without a word while updating" in done.stderr
    assert "Forcefully terminating" not in done.stderr
