"""File systems of their own, small enough to be filled, for tests that may mount them."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """An empty file system at `folder`, gone with all that is on it when the context is left."""
    folder.mkdir(exist_ok=True)
    mount(folder, megabytes)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def mount(folder: Path, megabytes: int) -> None:
    """Skips the test where file systems cannot be mounted."""
    line = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "fgvr", str(folder)]
    if shutil.which("mount") is None or subprocess.run(line, capture_output=True).returncode:
        pytest.skip("file systems cannot be mounted here")


def fill(disk: Path) -> Path:
    """Takes all the room that is left, in a file that may be removed."""
    filler = disk / "filler"
    filler.write_bytes(bytes(shutil.disk_usage(disk).free))
    return filler
