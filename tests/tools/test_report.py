from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from toy_report import write_run, write_shards

from fgvr.__main__ import main


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("report")
    write_run(base / "run", write_shards(base / "birds"))
    return base


def test_a_report_is_one_file_and_ends_with_what_to_do_next(folder: Path, tmp_path: Path, capsys: Any):
    before = {path: path.stat().st_mtime_ns for path in (folder / "run").rglob("*")}
    assert main(["report", str(folder / "run"), "--out", str(tmp_path / "out")]) == 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["index.html"]
    assert {path: path.stat().st_mtime_ns for path in (folder / "run").rglob("*")} == before, "a run is only read"
    *_, absent, last = capsys.readouterr().out.splitlines()
    assert "at the page's end with what would bring it: risk and coverage; the ladder" in absent
    file = tmp_path / "out/index.html"
    assert last.startswith(f"{file} is the report (")
    assert "open it in a browser" in last
    assert f"python -m fgvr report {folder / 'run'} runs/OTHER --out {tmp_path / 'out'}" in last


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["runs/nowhere"], "a report is of runs, but runs/nowhere is no folder"),
        (["RUN", "RUN"], "each run may be given once"),
        (["RUN", "--rollouts", "0"], "report.rollouts must be at least 1, got 0"),
        (["--runs", "[]"], "a report needs a run: python -m fgvr report runs/NAME --out report"),
        (["RUN", "--data", "[nowhere]"], "a shard set is a folder, but nowhere is not one"),
    ],
)
def test_what_cannot_be_shown_is_refused_in_a_sentence(
    folder: Path, tmp_path: Path, capsys: Any, words: list[str], said: str
):
    line = [str(folder / "run") if word == "RUN" else word for word in words]
    assert main(["report", *line, "--out", str(tmp_path / "out")]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
