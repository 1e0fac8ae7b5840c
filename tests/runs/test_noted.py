from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from fgvr.checkpoints.manifest import CheckpointManifest
from fgvr.runs import noted
from fgvr.runs.folder import Start
from fgvr.runs.noted import environment, note_start, noted_environments


def test_a_start_leaves_its_config_and_what_it_runs_on(tmp_path: Path):
    note_start(tmp_path, {"model": {"lr": 0.1}}, Start(), 2)
    assert yaml.safe_load((tmp_path / "config.yaml").read_text()) == {"model": {"lr": 0.1}}
    (row,) = noted_environments(tmp_path)
    assert (row["step"], row["processes"]) == (0, 2)
    assert {"torch", "transformers", "lightning"} <= row["packages"].keys()
    assert str(tmp_path) not in json.dumps(row), "no path is told"


def test_a_start_elsewhere_adds_a_row_and_one_like_the_last_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    now: dict[str, Any] = environment()
    for step, python in ((0, "3.11"), (10, "3.11"), (20, "3.12"), (30, "3.12")):
        monkeypatch.setattr(noted, "environment", lambda python=python: now | {"python": python})
        note_start(tmp_path, {}, Start(manifest=CheckpointManifest(step, 0, {})), 1)
    assert [(row["step"], row["python"]) for row in noted_environments(tmp_path)] == [(0, "3.11"), (20, "3.12")]


@pytest.mark.parametrize("text", ["", "{", "3", "[" * 100_000])
def test_a_file_that_cannot_be_read_is_begun_anew(tmp_path: Path, text: str):
    (tmp_path / "environment.json").write_text(text)
    assert noted_environments(tmp_path) == []
    note_start(tmp_path, {}, Start(), 1)
    assert [row["step"] for row in noted_environments(tmp_path)] == [0]
