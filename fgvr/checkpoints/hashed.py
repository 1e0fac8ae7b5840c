"""Files of a checkpoint that are hashed on their way to the disk, so that nothing is read again to vouch for it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import torch

from fgvr.checkpoints.manifest import FileRecord
from fgvr.retries import patiently


class HashingWriter:
    """The stream torch.save writes into: counts and hashes on the way, and keeps the disk's own error."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.size = 0
        self.digest = hashlib.sha256()
        self.failure: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            self.file.write(data)
        except OSError as error:
            self.failure = error
            raise
        self.digest.update(data)
        self.size += len(data)
        return len(data)

    def flush(self) -> None:
        self.file.flush()

    @property
    def record(self) -> FileRecord:
        return FileRecord(self.size, self.digest.hexdigest())


@contextmanager
def hashed(path: Path) -> Iterator[HashingWriter]:
    """A new file that is on the disk when the context has been left."""
    with path.open("wb") as file:
        yield HashingWriter(file)
        file.flush()
        os.fsync(file.fileno())


def write_state(content: dict[str, Any], path: Path) -> FileRecord:
    """Writes plain data and tensors by torch.save; from the beginning again where the disk fails for a moment."""
    return patiently(lambda: _write_state(content, path), path)


def write_file(path: Path, data: bytes) -> None:
    """Writes bytes, from the beginning again likewise."""

    def write() -> None:
        with hashed(path) as writer:
            writer.write(data)

    patiently(write, path)


def _write_state(content: dict[str, Any], path: Path) -> FileRecord:
    with hashed(path) as writer:
        try:
            torch.save(content, writer)  # pyright: ignore[reportArgumentType]
        except RuntimeError:
            # torch reports a full disk as a failure of its own writer
            if writer.failure is not None:
                raise writer.failure from None
            raise
    return writer.record
