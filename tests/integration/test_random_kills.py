"""Runs of four methods, killed at random moments: nothing lost, nothing done otherwise, and a book that would tell."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from shutil import copytree

import pytest
from ledger import BOOK, assert_same_story
from rl_run import ROOT, ends, sft_config, start


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_twenty_kills_change_nothing(tmp_path: Path):
    out = tmp_path / "kills.json"
    line = [sys.executable, str(ROOT / "scripts/kill_runs.py"), "--kills", "20", "--out", str(out)]
    run = subprocess.run(line, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert run.returncode == 0, run.stderr[-3000:]
    told = json.loads(out.read_text())
    assert list(told) == ["sft", "grpo", "tapo", "divek"]
    assert [sum(one["kills"].values()) for one in told.values()] == [5] * 4
    assert all(one["runs"] >= 1 and one["batches"] >= 12 for one in told.values())


@pytest.mark.slow
def test_the_book_tells_what_was_done_otherwise_or_not_at_all(tmp_path: Path):
    config, run, whole = sft_config(tmp_path), tmp_path / "run", tmp_path / "whole"
    ends(start(config, run, "--trainer.max_steps=4", "--trainer.callbacks+=ledger.Ledger"))
    copytree(run, whole)
    told = (run / BOOK).read_text()
    first, second, *_ = rows = told.splitlines(keepends=True)
    assert len(rows) == 4
    (run / BOOK).write_text(told + second)
    assert assert_same_story(run, whole) == 1
    row = json.loads(second)
    otherwise = [json.dumps(row | {key: "another"}) + "\n" for key in ("step", "seed", "uids", "weights")]
    beyond = json.dumps(row | {"epoch": 7}) + "\n"
    for book in (told.replace(first, ""), told + beyond, *(told + line for line in otherwise)):
        (run / BOOK).write_text(book)
        with pytest.raises(AssertionError):
            assert_same_story(run, whole)
