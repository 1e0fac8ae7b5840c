"""The audit's own controls, and what must not move a figure, on whole runs of the command."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from audited import coloured_photos, config, random_photos
from ports import free_port
from rl_run import ends, start

from fgvr.__main__ import main

LETTERS = {"class_path": "fgvr.data.ClosedWorld", "init_args": {"options": 4, "letters": True}}
FILES = ("audit.json", "audit.md", "audit_replies.jsonl")


@pytest.fixture
def coloured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sys, "argv", ["fgvr"])
    coloured_photos(tmp_path)
    return tmp_path


def audit_of(folder: Path, module: str) -> tuple[dict[tuple[str, str], Any], str]:
    """The rows of the table by choice and setting, and the page."""
    file = config(folder, "eval", 20, module, choice=LETTERS, seeds=3, strengths=["random"], encoders=[])
    assert main(["validate", "--config", str(file)]) == 0
    made = json.loads((folder / "eval/audit.json").read_text())
    assert made["chance"] == 0.25
    return {(line["choice"], line["setting"]): line for line in made["lines"]}, (folder / "eval/audit.md").read_text()


def is_at_chance(line: dict[str, Any]) -> bool:
    _, low, high = line["means"]["all"]
    return low <= 0.25 <= high


def test_a_policy_that_always_picks_the_first_is_at_chance_and_has_all_right_on_the_released_rule(
    coloured: Path,
) -> None:
    lines, page = audit_of(coloured, "audited.FirstLetterRun")
    assert is_at_chance(lines["ours", "siblings, shuffled, one choice"])
    assert lines["released rule", "label first, label within the answer"]["means"]["all"] == [1, 1, 1]
    assert "This policy always picks the first option." in page
    assert "100.0% on the released rule: that rule cannot tell it from one that looks." in page
    assert "cannot be told from chance (25.0%)" in page


def test_a_policy_that_looks_is_right_and_without_the_photo_at_chance(coloured: Path) -> None:
    lines, page = audit_of(coloured, "audited.ByColourRun")
    assert lines["ours", "siblings, shuffled, one choice"]["means"]["all"] == [1, 1, 1]
    assert is_at_chance(lines["control", "a grey picture for the photo"])
    assert is_at_chance(lines["control", "always the first option"])
    assert "at chance (25.0%)." in page


@pytest.mark.slow
def test_two_processes_come_to_the_figures_of_one(tmp_path: Path) -> None:
    random_photos(tmp_path)
    files = [config(tmp_path, name, 3, choice=LETTERS, seeds=2) for name in ("one", "two")]
    one = start(files[0], tmp_path / "one", verb="validate")
    ends(one)
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    shared["TORCHELASTIC_RUN_ID"] = "audit"
    options = ("--trainer.strategy=ddp", "--trainer.devices=2")
    ranks = [
        start(files[1], tmp_path / "two", *options, verb="validate", RANK=rank, LOCAL_RANK=rank, **shared)
        for rank in ("0", "1")
    ]
    for process in ranks:
        ends(process)
    for file in FILES:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes(), file
    logged = [json.loads((tmp_path / run / "validate_metrics.json").read_text()) for run in ("one", "two")]
    own, other = ({k: v for k, v in one.items() if "audit/" in k} for one in logged)
    assert own == other
