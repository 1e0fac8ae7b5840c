"""When a run may be forked from a process that has begun already."""

from __future__ import annotations

from warm_start import can_be_warm, comes_too_late


def test_what_a_run_reads_itself_may_be_told_to_a_forked_one() -> None:
    assert can_be_warm({"RANK": "1", "FGVR_JUDGE_URL": "http://x"})
    assert not can_be_warm({"PYTHONHASHSEED": "1"})


def test_what_imports_have_read_comes_too_late() -> None:
    began = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "HOME": "/root"}
    assert comes_too_late({**began, "HOME": "/tmp", "RANK": "1"}, began) == []
    assert comes_too_late({**began, "HF_HUB_OFFLINE": "0", "PYTHONHASHSEED": "1"}, began) == [
        "HF_HUB_OFFLINE", "PYTHONHASHSEED"
    ]  # fmt: skip
    assert comes_too_late({"HOME": "/root"}, began) == ["HF_HUB_OFFLINE", "OMP_NUM_THREADS"]
