from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from small_disks import mount, small_disk
from toy_stream import write_set

from fgvr.errors import UserError
from fgvr.retries import TRANSIENT, TRIES, Retries, await_mount

TESTS = Path(__file__).parent


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("gcc") is None or sys.platform != "linux", reason="makes a library to preload")
def test_what_a_disk_refuses_for_a_moment_is_asked_again_and_what_is_half_written_never_counts(tmp_path: Path):
    """Every kind of call on every kind of file, failing in the C library below Python and torch."""
    library, folder = tmp_path / "flaky.so", tmp_path / "checkpoints"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, TESTS / "flaky_disk.c", "-ldl"], check=True)
    folder.mkdir()
    shards = write_set(tmp_path / "set", {"train-seen": [4]})
    environment = {**os.environ, "LD_PRELOAD": str(library), "PYTHONPATH": f"{TESTS.parent}:{TESTS}"}
    command = [sys.executable, str(TESTS / "flaky_files.py"), str(folder), str(shards)]
    run = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert run.returncode == 0, run.stderr
    told = re.findall(
        r"(\S+): the file system answered (.*) and is asked again \(try (\d) of 5; (\d+) times", run.stderr
    )
    assert [int(times) for *_, times in told] == [*range(1, len(told) + 1)]
    assert run.stdout == f"retries {len(told)}\n"
    assert {error for _, error, _, _ in told} == {
        "Stale file handle", "Input/output error", "Transport endpoint is not connected",
    }  # fmt: skip


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT])
def test_an_answer_is_not_asked_for_again(error: int):
    asked, patiently = [], Retries()

    def refuse() -> None:
        asked.append(1)
        raise OSError(error, os.strerror(error))

    with pytest.raises(OSError, match=re.escape(os.strerror(error))):
        patiently(refuse, "here")
    assert len(asked) == 1
    assert patiently.count == 0
    assert error not in TRANSIENT


def test_the_number_of_tries_is_bounded_and_the_last_error_is_the_one_that_is_raised(monkeypatch: pytest.MonkeyPatch):
    slept: list[float] = []
    monkeypatch.setattr("tenacity.nap.time.sleep", slept.append)
    patiently = Retries()

    def refuse() -> None:
        raise OSError(errno.ESTALE, f"stale {len(slept)}")

    with pytest.raises(OSError, match=f"stale {TRIES - 1}"):
        patiently(refuse, "here")
    assert slept == pytest.approx([0.1, 0.4, 1.6, 6.4])
    assert patiently.count == TRIES - 1


def table_of(tmp_path: Path, point: Path, options: str = "rw") -> Path:
    table = tmp_path / "fstab"
    table.write_text(f"# what is mounted at boot\nserver:/data {point} nfs {options} 0 0\n\nnone swap swap sw 0 0\n")
    return table


def test_a_disk_that_is_mounted_late_is_waited_for(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    with small_disk(tmp_path / "trial", 1):
        pass
    point = tmp_path / "data"
    point.mkdir()
    late = threading.Timer(0.5, mount, (point, 1))
    late.start()
    try:
        await_mount(point / "birds", table_of(tmp_path, point), seconds=20)
        assert point.is_mount()
    finally:
        late.join()
        subprocess.run(["umount", "-l", str(point)], check=True)
    assert f"{point} is not mounted yet; {point / 'birds'} is waited for" in caplog.text


def test_a_disk_that_is_never_mounted_is_one_sentence(tmp_path: Path):
    point = tmp_path / "data"
    with pytest.raises(UserError, match=f"{point} is a mount point of .*fstab with nothing mounted there after 0.2 s"):
        await_mount(point / "birds", table_of(tmp_path, point), seconds=0.2)


def test_what_the_table_does_not_promise_is_not_waited_for(tmp_path: Path):
    point = tmp_path / "data"
    await_mount(tmp_path / "other", table_of(tmp_path, point))
    await_mount(point / "birds", table_of(tmp_path, point, "rw,noauto"))
    await_mount(point / "birds", tmp_path / "no table")
