"""The watchdog's own program: standard library alone, started by its path, so that it is there in milliseconds.

It needs nothing of the process it watches but a few bytes of memory that both see. So it lives on when that one is
stopped, holds its interpreter's lock or waits for another for ever. It ends within a second of it.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import struct
import sys
import time
from contextlib import suppress
from mmap import mmap
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

# Beats so far, seconds that a beat may be away from the next (0: any number), the step, whether the process leaves by
# itself, and what it is doing.
RECORD = struct.Struct("=QdqQ64s")
HUNG = 50  # exit code of a process that a watchdog ends; it is also the number of the signal that does so
STACKS = 51  # the signal by which a process shows where each of its threads is
IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)  # meant for the run
EVERY = 0.25  # seconds between two looks
SHOWING = 1.5  # seconds for all processes to write their stacks
DYING = 3.0  # seconds for a process to end


class Record(NamedTuple):
    """What the process has last written of itself."""

    beats: int
    allowed: float
    step: int
    leaves: int
    phase: str

    @classmethod
    def read(cls, memory: mmap) -> Record:
        beats, allowed, step, leaves, phase = RECORD.unpack_from(memory)
        return cls(beats, allowed, step, leaves, phase.rstrip(b"\0").decode("utf-8", "replace"))

    def place(self) -> str:
        return f"{self.phase} at step {self.step}"


class Line:
    """To the other processes' watchdogs: all of them are connected to that of process 0, which passes on what it hears.

    Nothing is made of a line that breaks: the processes' own connections tell what that means.
    """

    def __init__(self, listener: int | None, address: tuple[str, int] | None, secret: str) -> None:
        self._secret, self._ready = secret.encode() + b"\n", selectors.DefaultSelector()
        self._heard: dict[socket.socket, bytes] = {}
        self._listener: socket.socket | None = None
        self._passes_on = listener is not None
        if listener is not None:
            self._listener = socket.socket(fileno=listener)
            self._listener.setblocking(False)
            self._ready.register(self._listener, selectors.EVENT_READ)
        elif address is not None:
            with suppress(OSError):
                hub = socket.create_connection(address, timeout=30)
                hub.sendall(self._secret)
                self._add(hub)
                self._heard[hub] = self._secret  # what comes from there is believed

    def tell(self, message: dict[str, Any], but: socket.socket | None = None) -> None:
        for other in [one for one in self._heard if one is not but]:
            with suppress(OSError):
                other.settimeout(1.0)
                other.sendall(json.dumps(message).encode() + b"\n")

    def wait(self, seconds: float) -> dict[str, Any] | None:
        """What another watchdog told within so many seconds."""
        for key, _ in self._ready.select(seconds):
            assert isinstance(key.fileobj, socket.socket)
            if key.fileobj is self._listener:
                with suppress(OSError):
                    self._add(key.fileobj.accept()[0])
            elif (message := self._read(key.fileobj)) is not None:
                if self._passes_on:
                    self.tell(message, but=key.fileobj)
                return message
        return None

    def _add(self, other: socket.socket) -> None:
        other.setblocking(False)
        self._heard[other] = b""
        self._ready.register(other, selectors.EVENT_READ)

    def _read(self, other: socket.socket) -> dict[str, Any] | None:
        try:
            more = other.recv(65536)
        except BlockingIOError:
            return None
        except OSError:
            more = b""
        self._heard[other] += more
        said, secret = self._heard[other], self._secret
        if not more or not said.startswith(secret[: len(said)]):
            self._ready.unregister(other)
            del self._heard[other]
            other.close()
            return None
        line, ended, rest = said[len(secret) :].partition(b"\n")
        if not ended:
            return None
        self._heard[other] = secret + rest
        return json.loads(line)


class Watchdog:
    """Looks at process `process`, number `rank` of the run, until it ends, or until it or another must be ended."""

    def __init__(self, process: int, memory: mmap, rank: int, line: Line) -> None:
        self.process, self.memory, self.rank, self.line = process, memory, rank, line

    def look(self) -> None:
        silent, beats, before = 0.0, -1, time.monotonic()
        while True:
            told = self.line.wait(EVERY)
            record, now = Record.read(self.memory), time.monotonic()
            if os.getppid() != self.process:
                return self._vanished(record)
            if told is not None:
                return self._told(told)
            # a pause of this process is one of the other: both were suspended
            silent = silent + min(now - before, 2 * EVERY) if record.beats == beats else 0.0
            beats, before = record.beats, now
            if 0 < record.allowed < silent:
                return self._silent(record, silent)

    def _silent(self, record: Record, seconds: float) -> None:
        sentence = (
            f"process {self.rank} must give a sign of life every {record.allowed:g} s (run.silence), but gave none for "
            f"{seconds:.0f} s while {record.place()}: see by the stacks what it waits for; the same command goes on"
        )
        say(f"fgvr: {sentence}.")
        self.line.tell({"sentence": sentence, "stacks": True})
        self._end(stacks=True)

    def _vanished(self, record: Record) -> None:
        if record.leaves:
            return
        sentence = (
            f"process {self.rank} has ended without a word while {record.place()}: it was killed, as by the system "
            "when memory runs out; the same command goes on"
        )
        say(f"fgvr: {sentence}.")
        self.line.tell({"sentence": sentence, "stacks": False})

    def _told(self, message: dict[str, Any]) -> None:
        say(f"fgvr: process {self.rank} ends with another: {message['sentence']}.")
        self._end(stacks=message["stacks"])

    def _end(self, stacks: bool) -> None:
        below = descendants(self.process)
        if stacks:
            self._show_stacks()
        self._signal(HUNG)
        late = time.monotonic() + DYING
        while os.getppid() == self.process and time.monotonic() < late:
            time.sleep(0.05)
        self._signal(signal.SIGKILL)
        # what it has started ends by itself, other processes of the run among it, or is ended
        while any(map(is_there, below)) and time.monotonic() < late:
            time.sleep(0.05)
        for number, began in below:
            if is_there((number, began)):
                with suppress(ProcessLookupError):
                    os.kill(number, signal.SIGKILL)

    def _show_stacks(self) -> None:
        """By a signal that even a process that is stopped gets: it goes on for the moment that it still has."""
        say(f"fgvr: the stacks of process {self.rank} ({Record.read(self.memory).place()}):")
        self._signal(STACKS)
        self._signal(signal.SIGCONT)
        time.sleep(SHOWING)

    def _signal(self, number: int) -> None:
        if os.getppid() == self.process:  # whoever has its number now
            with suppress(ProcessLookupError):
                os.kill(self.process, number)


def descendants(process: int) -> list[tuple[int, int]]:
    """All processes below one, save this one, by their number and when they began."""
    parents: dict[int, int] = {}
    began: dict[int, int] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        if (found := _stat(int(folder.name))) is not None:
            parents[int(folder.name)], began[int(folder.name)] = found
    found, new = set[int](), {process}
    while new := {one for one, parent in parents.items() if parent in new} - found:
        found |= new
    return [(one, began[one]) for one in found - {os.getpid()}]


def is_there(process: tuple[int, int]) -> bool:
    found = _stat(process[0])
    return found is not None and found[1] == process[1]


def _stat(process: int) -> tuple[int, int] | None:
    """The parent of a process and when it began, in ticks; None where it has ended."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else (int(fields[1]), int(fields[19]))


def say(sentence: str) -> None:
    with suppress(OSError):
        os.write(2, f"{sentence}\n".encode())


def main(process: int, memory: int, rank: int, listener: int, host: str, port: int, secret: str) -> NoReturn:
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    line = Line(None if listener < 0 else listener, (host, port) if host else None, secret)
    Watchdog(process, mmap(memory, RECORD.size), rank, line).look()
    os._exit(0)


if __name__ == "__main__":
    main(**json.loads(sys.stdin.read()))
