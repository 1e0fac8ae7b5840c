from __future__ import annotations

from pathlib import Path

import pytest
from toy_report import write_run, write_shards

from fgvr.errors import UserError
from fgvr.report.ran import Ran, flat, named_apart, read_run
from fgvr.whole_files import sealed


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("ran")
    return write_run(base / "run", write_shards(base / "birds"))


def test_a_run_is_what_its_folder_tells(folder: Path):
    ran = read_run(folder)
    assert (ran.name, ran.method, ran.steps, ran.facts["seconds"]) == ("run", "GRPO", 6, 125.0)
    assert ran.figures["start"]["seen/exact"] == 0.25
    assert ran.figures["final"]["seen/exact"] == 0.5
    assert not any(key.startswith("start/") for key in ran.figures["final"])
    assert (len(ran.sampled), len(ran.answers), ran.remarks) == (24, 6, [])
    assert ran.environments[0]["packages"]["torch"]
    assert ran.callback("SampleLogging")
    assert not ran.callback("Throughput")


def test_what_is_damaged_becomes_a_remark_and_the_rest_is_read(folder: Path, tmp_path: Path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").write_text("model: [")
    lines = (folder / "rollouts.jsonl").read_bytes().splitlines(keepends=True)
    (run / "rollouts.jsonl").write_bytes(
        b"".join([lines[0], lines[1].replace(b"seen", b"sean", 1)[:-9], b"\n", b"{}\n", lines[2]])
    )
    (run / "final_metrics.json").write_bytes(sealed({"step": 6, "seen/n": 6})[:-4])
    ran = read_run(run)
    assert len(ran.sampled) == 2
    assert ran.remarks[0].startswith("config.yaml cannot be read as yaml")
    assert ran.remarks[1].startswith("final_metrics.json cannot be read")
    assert ran.remarks[2] == "rollouts.jsonl has 2 lines that are not as they were written; they are left out."


@pytest.mark.parametrize(("name", "said"), [("nowhere", "is no folder"), ("empty", "has neither config.yaml nor")])
def test_what_is_no_run_is_refused(tmp_path: Path, name: str, said: str):
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        UserError, match=f"a report is of runs, but .*{said}.*give run.dir of a run, such as runs/photos"
    ):
        read_run(tmp_path / name)


def test_runs_of_one_name_are_told_apart_by_their_folders_and_none_is_given_twice(tmp_path: Path):
    runs = [Ran(tmp_path / name / "run", "run") for name in "ab"]
    named_apart(runs)
    assert [run.name for run in runs] == ["a/run", "b/run"]
    with pytest.raises(UserError, match="each run may be given once"):
        named_apart([Ran(tmp_path, "x"), Ran(tmp_path, "x")])


def test_settings_are_flat_by_their_whole_names():
    assert flat({"a": {"b": [1, {"c": "x"}], "d": {}}}) == {"a.b.0": "1", "a.b.1.c": '"x"', "a.d": "{}"}
