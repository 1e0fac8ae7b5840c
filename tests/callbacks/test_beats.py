"""A run whose processes hang or vanish ends in all of them, with a code and a sentence of its own."""

from __future__ import annotations

import re
import signal
import time
from pathlib import Path

import pytest
from two_processes import both, callback, said

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
