from pathlib import Path

import pytest

from fgvr.errors import UserError
from fgvr.runs.finding import resolve


def test_what_is_no_run_is_told_of_as_what_it_is(tmp_path: Path):
    (tmp_path / "set").mkdir()
    for name in ("_info.json", "manifest.json"):
        (tmp_path / "set" / name).write_text("{}")
    for path, said in {
        tmp_path / "set": r"--ckpt must be a checkpoint or a run's folder, got .*set, a shard set: give a run's",
        tmp_path / "nowhere": r"with one, but .*nowhere is not there: check it",
        tmp_path: "which holds none",
    }.items():
        with pytest.raises(UserError, match=said):
            resolve(path)
    (tmp_path / "manifest.json").write_text("{}")
    assert resolve(tmp_path) == tmp_path, "a checkpoint is itself"
