"""Files that are whole or not there, whenever the process that writes them is killed."""

from __future__ import annotations

import os
from pathlib import Path


def write_whole(file: Path, data: bytes) -> None:
    """Writes beside the target, flushes to the disk, then renames: a reader sees the old file or the whole new one."""
    beside = part_name(file)
    with beside.open("wb") as stream:
        stream.write(data)
    put_in_place(beside, file)


def part_name(file: Path) -> Path:
    """Where a file is written before it is whole: hidden, in the same folder, one per process."""
    return file.with_name(f".{file.name}.{os.getpid()}.part")


def put_in_place(beside: Path, file: Path) -> None:
    """Flushes a finished file to the disk and gives it its name; the rename is flushed too."""
    _flush(beside)
    os.replace(beside, file)
    _flush(file.parent)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
