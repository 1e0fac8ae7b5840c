import errno
import os
import subprocess
import sys
from pathlib import Path
from threading import Timer
from typing import Any

import pytest
from refusals import FLOCK, refusing, seccomp

from fgvr.errors import UserError
from fgvr.runs.claim import LOCK, RunLock, claim
from fgvr.runs.folder import RunFolder


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "run")


def saved(run: RunFolder) -> Path:
    path = run.checkpoints / "step-00000001.ckpt"
    path.mkdir(parents=True)
    return path


def test_fresh_moves_the_old_run_aside(run: RunFolder) -> None:
    for number in (1, 2):
        saved(run)
        (claimed := claim(RunFolder(run.dir, fresh=True)))
        assert not list(run.checkpoints.iterdir())
        assert len(list((run.dir.with_name(f"run-{number}") / "checkpoints").iterdir())) == 1
        (run.dir / "config.yaml").touch()
        claimed.release()


def test_two_runs_in_one_folder(run: RunFolder) -> None:
    lock = claim(run)
    with pytest.raises(UserError, match=f"is being written by process {os.getpid()}"):
        RunLock(run.dir)
    lock.release()
    claim(run).release()


@seccomp
def test_a_disk_that_cannot_lock_is_only_warned_about(run: RunFolder, caplog: Any) -> None:
    for error in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
        caplog.clear()
        refusing({FLOCK: error}, lambda: claim(run).release())
        assert f"cannot lock files ({os.strerror(error)})" in caplog.text
    with pytest.raises(UserError, match=r"must be writable \(Input/output error: .*run\)"):
        refusing({FLOCK: errno.EIO}, lambda: claim(run))


def test_the_lock_goes_with_the_process_that_held_it(run: RunFolder) -> None:
    run.dir.mkdir()
    ready, tell = os.pipe()
    if (child := os.fork()) == 0:
        RunLock(run.dir)
        os.write(tell, b"x")
        os.kill(os.getpid(), 9)
    os.read(ready, 1)
    os.waitpid(child, 0)
    RunLock(run.dir).release()


# Takes the lock, forks a child that lives on, says its number, and is killed.
ORPHANING = """
import os, sys, time
from pathlib import Path
from fgvr.runs.claim import RunLock

lock = RunLock(Path(sys.argv[1]))
if sys.argv[2] == "keeps":
    os.set_inheritable(os.dup(lock._file.fileno()), True)
if (child := os.fork()) == 0:
    os.close(1)
    time.sleep(100)
    os._exit(0)
print(child, flush=True)
os.kill(os.getpid(), 9)
"""


def orphan(run: RunFolder, keeps: str) -> tuple[int, int]:
    """The numbers of a killed holder of the lock and of the child that it left behind."""
    run.dir.mkdir()
    line = [sys.executable, "-c", ORPHANING, str(run.dir), keeps]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        return process.pid, int(process.stdout.read())


def test_a_child_of_a_killed_run_does_not_hold_the_lock(run: RunFolder) -> None:
    _, child = orphan(run, "lets go")
    try:
        os.kill(child, 0)
        RunLock(run.dir).release()
    finally:
        os.kill(child, 9)


def test_a_holder_that_has_ended_is_not_said_to_write(run: RunFolder) -> None:
    holder, child = orphan(run, "keeps")
    try:
        with pytest.raises(UserError, match=f"process {holder} on .*, which has ended, left a process behind"):
            RunLock(run.dir)
    finally:
        os.kill(child, 9)


@pytest.mark.parametrize("lets_go", [True, False])
def test_the_lock_of_another_machine_which_may_have_failed_is_waited_for(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, lets_go: bool
) -> None:
    monkeypatch.setattr("fgvr.runs.claim.LEASE", 0.3)
    monkeypatch.setattr("fgvr.runs.claim.PAUSE", 0.05)
    run.dir.mkdir()
    held = RunLock(run.dir)
    (run.dir / LOCK).write_text("process 7 on node-12")
    if lets_go:
        Timer(0.1, held.release).start()
        RunLock(run.dir).release()
    else:
        with pytest.raises(UserError, match="is being written by process 7 on node-12: wait for it to end"):
            RunLock(run.dir)
        held.release()
    assert caplog.text.count("is locked by process 7 on node-12; if that machine has failed") == 1


def test_what_a_killed_process_left_is_cleared(run: RunFolder) -> None:
    path = saved(run)
    (run.checkpoints / ".step-2.ckpt.new-abc").mkdir()
    claim(run).release()
    assert list(run.checkpoints.iterdir()) == [path]


def test_a_run_that_writes_nothing_leaves_nothing(tmp_path: Path) -> None:
    deep = RunFolder(tmp_path / "a/b/run")
    claim(deep).release()
    assert not (tmp_path / "a").exists()
    deep.dir.mkdir(parents=True)
    claim(deep).release()
    assert deep.dir.is_dir()  # it was there before
    saved(deep)
    claim(RunFolder(deep.dir, fresh=True)).release()
    assert [path.name for path in deep.dir.parent.iterdir()] == ["run"]
    assert list(deep.checkpoints.iterdir())
    other = claim(RunFolder(tmp_path / "a/c"))
    (tmp_path / "a/c/config.yaml").touch()
    other.release()
    assert (tmp_path / "a/c/checkpoints").is_dir()


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="must be writable"):
        claim(RunFolder(tmp_path / "file" / "run"))
