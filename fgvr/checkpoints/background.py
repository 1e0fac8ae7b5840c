"""A process of its own that writes checkpoints, from memory which it shares with the training.

The training copies its tensors there and goes on; whoever kills it in the middle finds what half-written saves leave.
"""

from __future__ import annotations

import io
import json
import logging
import mmap
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
import time
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

import torch
from torch import Tensor

from fgvr.checkpoints.format import Saving
from fgvr.checkpoints.manifest import FileRecord
from fgvr.errors import UserError

ALIGNED = 64  # bytes between whose multiples the tensors' memory begins
SPARE = 16  # memory that grows does so by one part in so many more than is needed now
LOOK = 0.2  # seconds between two looks at whether the training still runs
COMMAND = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from fgvr.checkpoints.background import serve; serve(*map(int, sys.argv[2:]))"
)

log = logging.getLogger(__name__)


class BackgroundWriter:
    """Writes one process's part of a checkpoint at a time; `room` bytes for its tensors are made ready at once."""

    def __init__(self, room: int = 0) -> None:
        self._memory = _SharedMemory()
        self._connection, theirs = Pipe()
        shared = (theirs.fileno(), self._memory.descriptor)
        line = [sys.executable, "-c", COMMAND, json.dumps(sys.path), *map(str, (*shared, room, os.getpid()))]
        self._process = subprocess.Popen(line, pass_fds=shared, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        theirs.close()

    def begin(self, saving: Saving) -> None:
        """Copies the part; what becomes of the tensors from now on is not seen.

        Raises UserError as `result` does, and where there is no memory for the copy.
        """
        outgoing = _Outgoing()
        told = outgoing.told(saving)
        try:
            self._memory.fill(outgoing.storages)
        except OSError as error:
            raise UserError(
                "run.save_in_background must have memory for a copy of what is saved, but there is none for "
                f"{saving.path} ({error.strerror}): leave it out, or start with more memory."
            ) from error
        try:
            self._connection.send_bytes(told)
        except OSError as error:
            raise self._ended() from error

    @property
    def ended(self) -> bool:
        """Whether the process is gone, which it should not be."""
        return self._process.poll() is not None

    @property
    def done(self) -> bool:
        """Whether `result` would return, or raise, at once."""
        return self._connection.poll()

    def result(self) -> dict[str, FileRecord]:
        """Waits for the files that `begin` asked for. Raises UserError when the disk refused them."""
        try:
            files, refusal = self._connection.recv()
        except (EOFError, OSError) as error:
            raise self._ended() from error
        if refusal is not None:
            raise UserError(refusal)
        return files

    def close(self) -> None:
        """Ends the process, in the middle of what it may be writing."""
        self._connection.close()
        self._process.kill()
        self._process.wait()
        self._memory.close()

    def _ended(self) -> UserError:
        return UserError(
            f"The process that writes checkpoints has ended by itself (exit code {self._process.wait()}), so what it "
            "was writing is lost; the checkpoints already saved are untouched: see that memory suffices for a second "
            "copy of what is saved, or leave run.save_in_background out, then start again."
        )


def serve(connection: int, memory: int, room: int, parent: int) -> None:
    """What the process does until the other closes the connection, or ends."""
    # meant for the training, which says when to end
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    torch.set_num_threads(1)
    if room and hasattr(os, "posix_fallocate"):
        os.posix_fallocate(memory, 0, room)
    pipe = Connection(connection)
    while True:
        try:
            told = pipe.recv_bytes()
        except EOFError:
            return
        saving: Saving = _Incoming(told, memory).load()
        try:
            answer = saving.write(), None
        except UserError as refusal:
            answer = None, str(refusal)
        del saving  # its tensors lie in the shared memory
        pipe.send(answer)


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(LOOK)
    os._exit(1)


class _SharedMemory:
    """Memory that two processes see, without a name and outside of /dev/shm, which containers keep small."""

    def __init__(self) -> None:
        if hasattr(os, "memfd_create"):
            self._file = os.fdopen(os.memfd_create("fgvr-checkpoint"), "r+b")
        else:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115
        self.descriptor = self._file.fileno()
        self._bytes: Tensor | None = None
        self._pinned = False

    def fill(self, storages: list[torch.UntypedStorage]) -> None:
        """Copies the storages to where `_places` says."""
        places, end = _places([storage.nbytes() for storage in storages])
        on_gpu = any(storage.device.type == "cuda" for storage in storages)
        if end:
            there = self._of_size(end, on_gpu)
            for storage, place in zip(storages, places, strict=True):
                bytes_of = torch.empty(0, dtype=torch.uint8, device=storage.device).set_(storage)
                there[place : place + len(bytes_of)].copy_(bytes_of, non_blocking=True)
        if on_gpu:
            torch.cuda.synchronize()

    def close(self) -> None:
        self._unpin()
        self._bytes = None
        self._file.close()

    def _of_size(self, size: int, pinned: bool) -> Tensor:
        if self._bytes is None or len(self._bytes) < size:
            self._unpin()
            room = os.fstat(self.descriptor).st_size
            if room < size:
                room = size + size // SPARE
                os.ftruncate(self.descriptor, room)
            flags = mmap.MAP_SHARED | getattr(mmap, "MAP_POPULATE", 0)  # else each page costs a fault at the first save
            self._bytes = torch.frombuffer(mmap.mmap(self.descriptor, room, flags=flags), dtype=torch.uint8)
            log.info("Checkpoints are copied to %.1f MB of memory, and written from there.", room / 1e6)
        if pinned and not self._pinned:
            self._pin(self._bytes)
        return self._bytes

    def _pin(self, memory: Tensor) -> None:
        runtime: Any = torch.cuda.cudart()
        error = int(runtime.cudaHostRegister(memory.data_ptr(), memory.nbytes, 0))
        self._pinned = error == 0
        if error:
            log.warning("Memory for checkpoints could not be pinned (CUDA error %d): copies to it are slower.", error)

    def _unpin(self) -> None:
        if self._pinned and self._bytes is not None:
            runtime: Any = torch.cuda.cudart()
            runtime.cudaHostUnregister(self._bytes.data_ptr())
            self._pinned = False


def _places(sizes: list[int]) -> tuple[list[int], int]:
    """Where each of some storages begins in the shared memory, and where the last one ends."""
    places, end = [], 0
    for size in sizes:
        places.append(end)
        end += -(-size // ALIGNED) * ALIGNED
    return places, end


class _Outgoing(pickle.Pickler):
    """Takes the tensors' memory out of what is sent to our own process, and notes where it will lie."""

    def __init__(self) -> None:
        self._buffer = io.BytesIO()
        super().__init__(self._buffer)
        self.storages: list[torch.UntypedStorage] = []
        self._numbers: dict[int, int] = {}

    def told(self, saving: Saving) -> bytes:
        self.dump(saving)
        return pickle.dumps([storage.nbytes() for storage in self.storages]) + self._buffer.getvalue()

    def persistent_id(self, obj: Any) -> Any:
        if not isinstance(obj, Tensor) or obj.is_meta:
            return None
        storage = obj.untyped_storage()
        number = self._numbers.setdefault(storage._cdata, len(self.storages))
        if number == len(self.storages):
            self.storages.append(storage)
        return id(obj), number, obj.dtype, obj.storage_offset(), tuple(obj.shape), obj.stride()


class _Incoming(pickle.Unpickler):
    """What `_Outgoing` told of, its tensors laid over the shared memory."""

    def __init__(self, told: bytes, memory: int) -> None:
        stream = io.BytesIO(told)
        self._sizes: list[int] = pickle.load(stream)
        super().__init__(stream)
        self._places, end = _places(self._sizes)
        self._memory = mmap.mmap(memory, end) if end else None
        self._storages: dict[int, torch.UntypedStorage] = {}
        self._tensors: dict[int, Tensor] = {}

    def persistent_load(self, pid: Any) -> Tensor:
        identity, number, dtype, offset, shape, stride = pid
        if identity not in self._tensors:
            self._tensors[identity] = torch.empty(0, dtype=dtype).set_(self._storage(number), offset, shape, stride)
        return self._tensors[identity]

    def _storage(self, number: int) -> torch.UntypedStorage:
        if number not in self._storages:
            size = self._sizes[number]
            if size:
                assert self._memory is not None
                there = torch.frombuffer(self._memory, dtype=torch.uint8, count=size, offset=self._places[number])
                self._storages[number] = there.untyped_storage()
            else:
                self._storages[number] = torch.UntypedStorage(0)
        return self._storages[number]
