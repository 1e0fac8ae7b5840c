import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from fgvr.errors import Unfinished
from fgvr.signals import Stop, asked, hold, holding_at_most, importing, let_go, listening

ROOT = Path(__file__).parents[1]
USR1, USR2, INT, HUP, TERM = signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT, signal.SIGHUP, signal.SIGTERM


def send(*numbers: signal.Signals, held: Stop = Stop.NONE, then: Stop | None = None) -> None:
    with listening():
        hold(held)
        for number in numbers:
            os.kill(os.getpid(), number)
        if then is not None:
            hold(then)
        assert asked() == Stop.NONE


@pytest.mark.parametrize(
    ("numbers", "stop"),
    [
        ([], Stop.NONE),
        ([USR1], Stop.USR1),
        ([USR2], Stop.USR2),
        ([USR1, USR2, USR1], Stop.USR1),
        ([INT], Stop.CTRL_C),
        ([USR1, INT], Stop.CTRL_C),
        ([TERM], Stop.TERM),
        ([TERM, TERM, INT], Stop.TERM),  # launchers pass one on twice
        ([USR2, TERM], Stop.WARNED),
        ([TERM, USR1], Stop.TERM),
        ([USR1, HUP], Stop.HUNG_UP),
    ],
    ids=str,
)
def test_what_is_held_is_noted(numbers: list[signal.Signals], stop: Stop) -> None:
    before = [signal.getsignal(number) for number in (USR1, USR2, INT, TERM)]
    with listening():
        hold(Stop.TERM)
        for number in numbers:
            os.kill(os.getpid(), number)
        assert asked() == stop
        let_go()
    assert asked() == Stop.NONE
    assert [signal.getsignal(number) for number in (USR1, USR2, INT, TERM)] == before


@pytest.mark.parametrize(
    ("held", "numbers", "by", "code"),
    [
        (Stop.NONE, [USR1], "SIGUSR1", 75),
        (Stop.NONE, [TERM], "SIGTERM", 143),
        (Stop.CTRL_C, [TERM], "SIGTERM", 143),
        (Stop.CTRL_C, [HUP], "SIGHUP", 129),
        (Stop.CTRL_C, [USR1, TERM], "SIGTERM after a warning", 75),
    ],
    ids=str,
)
def test_what_is_not_held_ends_at_once(held: Stop, numbers: list[Any], by: str, code: int) -> None:
    with pytest.raises(Unfinished) as stop:
        send(*numbers, held=held)
    assert (stop.value.by, stop.value.exit_code) == (by, code)


def test_ctrl_c_that_is_not_held_is_pythons_own() -> None:
    with pytest.raises(KeyboardInterrupt):
        send(INT)


def test_what_was_noted_is_obeyed_when_it_is_held_no_more() -> None:
    with pytest.raises(Unfinished) as stop:
        send(TERM, held=Stop.TERM, then=Stop.CTRL_C)
    assert stop.value.by == "SIGTERM"


def test_work_that_is_kept_holds_less_and_then_as_much_as_before() -> None:
    with listening():
        hold(Stop.TERM)
        with holding_at_most(Stop.CTRL_C):
            os.kill(os.getpid(), INT)
        os.kill(os.getpid(), TERM)
        assert asked() == Stop.CTRL_C
        let_go()
    with pytest.raises(Unfinished) as stop:
        _broken_off()
    assert stop.value.exit_code == 143


def _broken_off() -> None:
    with listening():
        hold(Stop.TERM)
        with holding_at_most(Stop.CTRL_C):
            os.kill(os.getpid(), TERM)


def _imported(number: signal.Signals, done: list[str]) -> None:
    with listening(), importing():
        os.kill(os.getpid(), number)
        done.append("whole")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_imports_come_to_their_end_first(number: signal.Signals, code: int, capfd: Any) -> None:
    """Half a torch aborts the process, and half a numpy leaves errors that say nothing of Ctrl-C."""
    done = list[str]()
    with pytest.raises(Unfinished) as stop:
        _imported(number, done)
    assert (done, stop.value.exit_code) == (["whole"], code)
    assert capfd.readouterr().err == "", "no step is to be saved"
    with listening(Stop.USR1):
        with importing():
            os.kill(os.getpid(), signal.SIGUSR1)
        assert asked() == Stop.USR1, "which is held on"
    with importing():  # where nobody listens
        pass


def test_what_is_ignored_stays_ignored() -> None:
    before = signal.signal(USR2, signal.SIG_IGN)
    try:
        send(USR2)
    finally:
        signal.signal(USR2, before)


def test_another_thread_listens_to_nothing() -> None:
    noted: list[Stop] = []

    def listen() -> None:
        with listening():
            hold(Stop.TERM)
            noted.append(asked())

    thread = Thread(target=listen)
    thread.start()
    thread.join()
    assert noted == [Stop.NONE]


AGAIN = """
import os, signal, sys, time
from fgvr.signals import Stop, hold, listening
from fgvr.watchdog.beats import watched
with watched(), listening():
    hold(Stop.TERM)
    for name in sys.argv[1:]:
        os.kill(os.getpid(), signal.Signals[name])
        time.sleep(1.1)
print("goes on")
"""
FORKED = """
import os, signal, time
from fgvr.signals import Stop, asked, hold, listening
with listening():
    hold(Stop.TERM)
    if (child := os.fork()) == 0:
        time.sleep(0.5)
        os._exit(asked())
    time.sleep(0.1)
    os.kill(child, signal.SIGTERM)
    assert os.waitpid(child, 0)[1] == 0
    assert asked() == Stop.NONE
"""


CLOSED = """
import signal, sys, time
from fgvr.__main__ import main
from fgvr.signals import Stop, asked, hold
def work(*_):
    hold(Stop.TERM)
    print("listens", flush=True)
    while asked() == Stop.NONE:
        time.sleep(0.01)
    print("a bar, say", flush=True)  # to nobody
    raise asked().error()
import fgvr.__main__
fgvr.__main__._run = work
sys.exit(main(["fit"]))
"""


def test_a_terminal_that_is_closed_ends_a_run_as_a_signal_does() -> None:
    child, terminal = pty.fork()
    if child == 0:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        os.chdir(ROOT)
        os.execv(sys.executable, [sys.executable, "-c", CLOSED])
    assert b"listens" in os.read(terminal, 100)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 129


def test_a_warning_waits_until_the_start_is_counted(tmp_path: Path) -> None:
    """Or a job that is always warned while python loads would be queued again for ever."""
    (tmp_path / "toy.yaml").write_text(TOY.format(folder=tmp_path))
    line = [sys.executable, "-m", "fgvr", "fit", "--config", str(tmp_path / "toy.yaml")]
    paths = {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    run = subprocess.Popen(line, env={**os.environ, **paths}, stderr=subprocess.PIPE, text=True)
    while str(USR1.value) not in _caught(run.pid):
        time.sleep(0.01)
    run.send_signal(USR1)
    assert "stopped by SIGUSR1. Nothing was saved yet" in run.communicate()[1]
    assert run.returncode == 75
    assert '"starts": 1' in (tmp_path / "run/starts.json").read_text()


def _caught(process: int) -> set[str]:
    """Numbers of the signals that a process has handlers for."""
    rows = Path(f"/proc/{process}/status").read_text().splitlines()
    (caught,) = [int(row.split()[1], 16) for row in rows if row.startswith("SigCgt")]
    return {str(number) for number in range(1, 65) if caught >> (number - 1) & 1}


TOY = """
model: {{class_path: toy_run.ToyModel}}
data: {{class_path: toy_run.ToyData}}
trainer: {{accelerator: cpu, max_steps: 6, logger: false, enable_progress_bar: false}}
run: {{dir: {folder}/run, restarts: 3}}
"""


@pytest.mark.parametrize(
    ("names", "code"),
    [("SIGINT SIGINT", 130), ("SIGTERM SIGTERM", 143), ("SIGINT SIGTERM", 143), ("SIGUSR1 SIGTERM SIGUSR1", 0)],
)
def test_a_second_one_ends_the_process_at_once(names: str, code: int) -> None:
    line = [sys.executable, "-c", AGAIN, *names.split()]
    done = subprocess.run(line, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == code, done.stderr
    assert ("stopped at once by a second signal" in done.stderr) == bool(code)
    assert "ended without a word" not in done.stderr  # which its watchdog says of what was killed
    assert (done.stdout == "goes on\n") != bool(code)


def test_a_forked_child_notes_nothing_and_lives_on() -> None:
    done = subprocess.run([sys.executable, "-c", FORKED], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
