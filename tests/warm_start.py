"""Runs that begin at once: forked from a process that has imported what a run imports, which takes most of a short one.

Each is a process group of its own, as `python -m fgvr` started with a new session would be, and no child of the tests'
process: it may be killed, stopped or sent signals by its pid as any other.

What such a run does not show: signals while it imports, what is read from the environment by then, and sets of names in
another order, as all of them hash alike. `rl_run.FRESH` begins one anew.
"""

from __future__ import annotations

import array
import atexit
import functools
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).parents[1]
PER_RUN = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RUN_ID")  # read by each run
READ_BY_IMPORTS = ("HF_", "KMP_", "LD_", "MKL_", "OMP_", "PYTHON", "TOKENIZERS_", "TORCH_", "TRANSFORMERS_")
IMPORTED = (
    "fgvr.cli", "fgvr.modules", "fgvr.callbacks", "fgvr.datamodules", "fgvr.strategies", "fgvr.judges.served", "peft",
    "fgvr.models.tiny_qwen", "transformers.models.qwen2_5_vl.modeling_qwen2_5_vl", "torch.utils.tensorboard",
)  # fmt: skip


def can_be_warm(settings: Mapping[str, str]) -> bool:
    """Whether a process that has begun already can still take up these variables."""
    return all(one in PER_RUN or one.startswith("FGVR_") for one in settings)


def comes_too_late(settings: Mapping[str, str], began_with: Mapping[str, str]) -> list[str]:
    """Variables of a run that its process has read already, when they had other values or none."""
    names = [name for name in {**settings, **began_with} if name.startswith(READ_BY_IMPORTS)]
    return sorted(name for name in names if settings.get(name) != began_with.get(name))


class Warm:
    """A started run, to be used as a `subprocess.Popen` of text."""

    def __init__(self, args: Sequence[str], env: Mapping[str, str], out: IO[str] | None = None) -> None:
        """`args` as for `python -m fgvr`, `env` beside what all have; what it says goes to `out`, or to a pipe.

        Raises ValueError for variables that come too late.
        """
        self.args, self.returncode = list(args), None
        self.stdout: IO[str] | None = None
        own = {**env, **shared()}
        with _ASKING:
            zygote, began_with = _zygote()
        if late := comes_too_late(own, began_with):
            raise ValueError(f"no forked run can take up {', '.join(late)}: begin it anew")
        reading, writing = (None, out.fileno()) if out is not None else os.pipe()
        ours, theirs = socket.socketpair()
        asked = json.dumps({"args": self.args, "env": own, "cwd": os.getcwd()}).encode()
        with theirs, _ASKING:
            zygote.sendall(len(asked).to_bytes(4) + asked)
            socket.send_fds(zygote, [b"!"], [writing, theirs.fileno()])
        if reading is not None:
            os.close(writing)
            self.stdout = os.fdopen(reading, encoding="utf-8", errors="replace")
        self._told, self._file = ours, ours.makefile("r")
        self.pid = int(self._file.readline())

    def poll(self) -> int | None:
        if self.returncode is None and select.select([self._told], [], [], 0)[0]:
            self._hear()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code, or minus the number of the signal; raises TimeoutExpired."""
        if self.returncode is None:
            if not select.select([self._told], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            self._hear()
        assert self.returncode is not None
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, None]:
        """All that it says until it has ended; raises TimeoutExpired."""
        end, said = None if timeout is None else time.monotonic() + timeout, []
        if self.stdout is not None:
            file = self.stdout.fileno()
            while True:
                left = None if end is None else max(0.0, end - time.monotonic())
                if not select.select([file], [], [], left)[0]:
                    raise subprocess.TimeoutExpired(self.args, timeout or 0, b"".join(said))
                if not (part := os.read(file, 1 << 16)):
                    break
                said.append(part)
            self.stdout.close()
        self.wait(None if end is None else max(0.1, end - time.monotonic()))
        return b"".join(said).decode(errors="replace"), None

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def _hear(self) -> None:
        self.returncode = int(self._file.readline())
        self._file.close()
        self._told.close()


Started = subprocess.Popen[str] | Warm
_ASKING = threading.Lock()  # tests start runs from several threads, and what each asks for is two messages


def shared() -> dict[str, str]:
    """Variables of every run that tests start."""
    paths = filter(None, [str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH")])
    return {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}


@functools.cache
def _zygote() -> tuple[socket.socket, Mapping[str, str]]:
    """The process that runs are forked from, and its environment; it ends when this one does."""
    ours, theirs = socket.socketpair()
    line = [sys.executable, "-c", "import warm_start; warm_start.serve()", str(theirs.fileno())]
    environment = {**os.environ, **shared(), "GOMP_SPINCOUNT": "2000"}
    process = subprocess.Popen(line, env=environment, pass_fds=[theirs.fileno()], start_new_session=True)
    theirs.close()
    atexit.register(_end, ours, process)
    return ours, environment


def _end(asked: socket.socket, process: subprocess.Popen[bytes]) -> None:
    asked.close()
    process.wait()


def serve() -> None:
    """Forks a run for each that is asked for, until there is nobody left to ask."""
    import importlib

    asking = socket.socket(fileno=int(sys.argv[1]))
    for name in IMPORTED:
        importlib.import_module(name)
    ended, wake = os.pipe()
    os.set_blocking(wake, False)
    os.set_blocking(ended, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake)
    running: dict[int, socket.socket] = {}
    while True:
        ready, _, _ = select.select([asking, ended], [], [])
        if ended in ready:
            os.read(ended, 1 << 12)
            _tell_ended(running)
        if asking in ready:
            asked = _asked(asking)
            if asked is None:
                return
            said, told = asked.pop("files")
            if (pid := os.fork()) == 0:
                os.close(ended)
                os.close(wake)
                for one in (asking, *running.values()):  # not its number alone: that will be another file's
                    one.close()
                return _become(said, told, **asked)
            os.close(said)
            running[pid] = socket.socket(fileno=told)


def _asked(asking: socket.socket) -> dict[str, Any] | None:
    if not (size := _exactly(asking, 4)):
        return None
    asked = json.loads(_exactly(asking, int.from_bytes(size)))
    _, rights, *_ = asking.recvmsg(1, socket.CMSG_LEN(2 * array.array("i").itemsize))
    files = array.array("i")
    for _level, _kind, data in rights:
        files.frombytes(data)
    return {**asked, "files": list(files)}


def _exactly(asking: socket.socket, size: int) -> bytes:
    """So many bytes; fewer where the other end is gone."""
    found = b""
    while len(found) < size and (part := asking.recv(size - len(found))):
        found += part
    return found


def _tell_ended(running: dict[int, socket.socket]) -> None:
    while running:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        with running.pop(pid) as told, suppress(BrokenPipeError):  # nobody waits for it any more
            told.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())


def _become(said: int, told: int, args: list[str], env: dict[str, str], cwd: str) -> None:
    """Goes on as `python -m fgvr` with these arguments."""
    import runpy

    import numpy as np
    from lightning.fabric.utilities.rank_zero import _get_rank, rank_zero_only

    os.setsid()
    os.write(told, f"{os.getpid()}\n".encode())  # whoever reads it may signal the group
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.close(told)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for file, place in ((nothing, 0), (said, 1), (said, 2)):
        os.dup2(file, place)
    os.close(nothing)
    os.close(said)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    np.random.seed()
    rank_zero_only.rank = _get_rank() or 0  # which it was given when it was imported
    sys.argv = ["fgvr", *args]
    runpy.run_module("fgvr", run_name="__main__", alter_sys=True)
