import json
from pathlib import Path
from typing import Any

import pytest

from fgvr.errors import AGAIN, ENOUGH, Unfinished, UserError
from fgvr.runs.folder import RunFolder, Start
from fgvr.runs.starts import FILE, counted_start

TERM = Unfinished("SIGTERM", 143)


def begin(run: RunFolder, end: BaseException | None = None, start: Start = Start()) -> None:  # noqa: B008
    with counted_start(run, start):
        if end is not None:
            raise end


@pytest.mark.parametrize("end", [Unfinished("SIGUSR1", AGAIN), TERM, RuntimeError("a bug")], ids=str)
def test_starts_at_one_step_come_to_an_end_and_then_begin_anew(tmp_path: Path, end: BaseException) -> None:
    run = RunFolder(tmp_path, restarts=2)
    for _ in range(2):
        for _ in range(3):
            with pytest.raises(type(end)):
                begin(run, end)
        with pytest.raises(UserError, match=r"was started again 2 times at step 0 .*never came to a later checkpoint"):
            begin(run, end)
        assert not (tmp_path / FILE).exists()


@pytest.mark.parametrize(
    "end", [None, UserError("a setting"), KeyboardInterrupt(), Unfinished("EarlyStopping", ENOUGH)], ids=str
)
def test_an_end_that_the_user_knows_of_does_not_count(tmp_path: Path, end: Any) -> None:
    run = RunFolder(tmp_path, restarts=1)
    with pytest.raises(Unfinished):
        begin(run, TERM)
    if end is None:
        begin(run)
    else:
        with pytest.raises(type(end)):
            begin(run, end)
    assert not (tmp_path / FILE).exists()


def test_a_later_step_a_fresh_run_and_one_without_a_limit_are_not_held_back(tmp_path: Path) -> None:
    run = RunFolder(tmp_path, restarts=1)
    with pytest.raises(Unfinished):
        begin(run, TERM)
    known = json.loads((tmp_path / FILE).read_text())
    assert (known["step"], known["starts"]) == (0, 1)
    for other in (RunFolder(tmp_path, restarts=1, fresh=True), RunFolder(tmp_path)):
        for _ in range(3):
            with pytest.raises(Unfinished):
                begin(other, TERM)


def test_a_complete_run_whose_evaluation_never_ends_in_time_is_not_started_for_ever(tmp_path: Path) -> None:
    run, complete = RunFolder(tmp_path, restarts=1), Start(complete=True)
    for _ in range(2):
        with pytest.raises(Unfinished):
            begin(run, TERM, complete)
    with pytest.raises(UserError, match="give the job more time"):
        begin(run, TERM, complete)


def test_a_limit_below_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"run\.restarts must be at least 1, got 0"):
        RunFolder(tmp_path, restarts=0)
