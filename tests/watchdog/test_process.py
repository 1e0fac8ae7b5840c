from __future__ import annotations

import mmap
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from ports import free_port

from fgvr.watchdog.process import HUNG, RECORD, Record, descendants, is_there

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has what a watchdog takes")
ROOT = Path(__file__).parents[2]
PROGRAM = """
import os, signal, socket, subprocess, sys, time
from faults import *
from fgvr.watchdog.beats import LOADING, SAMPLING, allow, beat, leave, meet, watched

with watched():
    allow(0.8)
    beat(SAMPLING, 7)
    {work}
"""


def start(work: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    line = [sys.executable, "-c", PROGRAM.format(work=work.replace("\n", "\n    "))]
    pipe = subprocess.PIPE
    return subprocess.Popen(line, stdout=pipe, stderr=pipe, text=True, env=environment, start_new_session=True)


def ended(process: subprocess.Popen[str], within: float = 30) -> tuple[int, str]:
    """Its code, and what it and its watchdog said on stderr; both have ended, since nobody can write there any more."""
    _, said = process.communicate(timeout=within)
    return process.returncode, said


@pytest.mark.parametrize("fault", ["waits_for_ever", "holds_the_lock", "is_stopped"])
def test_what_hangs_shows_its_stacks_and_ends(fault: str) -> None:
    code, said = ended(start(f"{fault}()"))
    assert code == HUNG
    first, second, *_ = said.splitlines()
    assert first.startswith(
        "fgvr: process 0 must give a sign of life every 0.8 s (run.silence), but gave none for 1 s while sampling at "
        "step 7"
    )
    assert second == "fgvr: the stacks of process 0 (sampling at step 7):"
    assert 'faults.py", line' in said
    assert f"in {fault}" in said


@pytest.mark.slow
def test_what_a_hanging_process_has_started_ends_with_it() -> None:
    child = "child = subprocess.Popen(['sleep', '300'], stdout=-3, stderr=-3); print(child.pid, flush=True)"
    process = start(f"{child}\nwaits_for_ever()")
    assert process.stdout is not None
    sleeping = int(process.stdout.readline())
    (below,) = [one for one in descendants(process.pid) if one[0] == sleeping]
    assert ended(process)[0] == HUNG
    assert gone([below])


def gone(processes: list[tuple[int, int]]) -> bool:
    deadline = time.monotonic() + 10
    while any(map(is_there, processes)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not any(map(is_there, processes))


@pytest.mark.parametrize(
    "work",
    [
        "beat(LOADING, seconds=5)\ntime.sleep(1.5)",
        "for _ in range(15): time.sleep(0.1); beat()",
        "allow(None)\nbeat(SAMPLING)\ntime.sleep(1.5)",
    ],
)
def test_what_goes_on_or_is_slow_is_left_alone_and_so_is_its_end(work: str) -> None:
    assert ended(start(work)) == (0, "")


def test_what_ends_by_itself_is_no_surprise() -> None:
    assert ended(start("leave(); os._exit(3)")) == (3, "")
    code, said = ended(start("raise KeyError('eel')"))
    assert code == 1
    assert "fgvr:" not in said


def test_what_is_killed_is_told_of_and_its_watchdog_ends() -> None:
    code, said = ended(start("is_killed()"))
    assert code == -signal.SIGKILL
    assert said.startswith("fgvr: process 0 has ended without a word while sampling at step 7: it was killed")


def test_time_in_which_both_are_suspended_does_not_count() -> None:
    process = start("print('here', flush=True)\nfor _ in range(10): time.sleep(0.1); beat()")
    assert process.stdout is not None
    process.stdout.readline()
    os.killpg(process.pid, signal.SIGSTOP)
    time.sleep(1.5)
    os.killpg(process.pid, signal.SIGCONT)
    assert ended(process) == (0, "")


def test_signals_that_ask_a_run_to_end_are_not_the_watchdogs() -> None:
    work = "[signal.signal(one, signal.SIG_IGN) for one in (1, 2, 10, 12, 15)]\nprint('here', flush=True)\nis_stopped()"
    process = start(work)
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(0.3)
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM):
        os.killpg(process.pid, number)
    assert ended(process)[0] == HUNG


MEETING = """
with socket.create_server(("127.0.0.1", {port})) as listener:
    meet(0, listener, ("", {port}, "secret"))
"""


def together(port: int, works: list[str]) -> list[subprocess.Popen[str]]:
    first = start(f"{MEETING.format(port=port)}\nprint('here', flush=True)\n{works[0]}")
    assert first.stdout is not None
    first.stdout.readline()
    met = "meet({rank}, None, ('127.0.0.1', {port}, 'secret'))\n"
    return [first, *(start(met.format(rank=rank, port=port) + work) for rank, work in enumerate(works[1:], start=1))]


@pytest.mark.parametrize("killed", [0, 2])
def test_the_kill_of_one_ends_all(killed: int) -> None:
    works = ["for _ in range(200): time.sleep(0.1); beat()"] * 3
    works[killed] = "time.sleep(0.7); is_killed()"
    processes = together(free_port(), works)
    began = time.monotonic()
    told = [ended(process) for process in processes]
    assert time.monotonic() - began < 10
    assert [code for code, _ in told] == [-signal.SIGKILL if rank == killed else HUNG for rank in range(3)]
    for rank, (_, said) in enumerate(told):
        assert f"process {killed} has ended without a word" in said.splitlines()[0]
        assert rank == killed or said.startswith(f"fgvr: process {rank} ends with another: ")


def test_where_one_hangs_all_show_their_stacks() -> None:
    going = "for _ in range(200): time.sleep(0.1); beat('updating', 8)"
    processes = together(free_port(), [going, going, "holds_the_lock()"])
    told = [ended(process) for process in processes]
    assert [code for code, _ in told] == [HUNG] * 3
    for rank, (_, said) in enumerate(told):
        assert "process 2 must give a sign of life" in said.splitlines()[0]
        place = "sampling at step 7" if rank == 2 else "updating at step 8"
        assert f"fgvr: the stacks of process {rank} ({place}):" in said
    assert "in holds_the_lock" in told[2][1]


def test_who_does_not_know_the_secret_is_not_heard() -> None:
    port = free_port()
    (process,) = together(port, ["for _ in range(15): time.sleep(0.1); beat()"])
    stranger = """import socket
with socket.create_connection(("127.0.0.1", %d)) as line:
    line.sendall(b'guess' + bytes([10]) + b'{"sentence": "the eel", "stacks": false}' + bytes([10]))
    assert line.recv(1) == b""
"""
    subprocess.run([sys.executable, "-c", stranger % port], check=True, timeout=20)
    assert ended(process) == (0, "")


def test_processes_below_one_are_found_wherever_they_stand() -> None:
    process = subprocess.Popen(["sh", "-c", "sleep 300 & sh -c 'sleep 300 & wait'; wait"], start_new_session=True)
    try:
        deadline = time.monotonic() + 10
        while len(below := descendants(process.pid)) < 3 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert len(below) == 3
        assert all(map(is_there, below))
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert gone(below)


def test_what_is_written_is_read() -> None:
    memory = mmap.mmap(-1, RECORD.size)
    RECORD.pack_into(memory, 0, 5, 1.5, 7, 1, "Müll".encode())
    assert Record.read(memory) == Record(5, 1.5, 7, 1, "Müll")
