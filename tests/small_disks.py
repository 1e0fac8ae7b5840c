"""File systems of their own, small enough to be filled, for tests that may mount them."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from packages import can_install, install


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


QUOTAS = {"mkfs.btrfs": "btrfs-progs"}  # whose quotas bind root too, and are part of every kernel that has it


@contextmanager
def disk_with_a_quota(folder: Path, megabytes: int) -> Iterator[Path]:
    """A folder on a file system with room enough, of which it may take so much; skips where there can be none."""
    if not can_install(QUOTAS):
        pytest.skip("btrfs-progs are not installed, and there is no apt to install them with")
    install(QUOTAS)
    image = folder.with_name("image")
    with image.open("wb") as file:
        file.truncate(160 << 20)
    subprocess.run(["mkfs.btrfs", "-q", "-m", "single", str(image)], check=True, capture_output=True)
    folder.mkdir()
    if subprocess.run(["mount", "-o", "loop", str(image), str(folder)], capture_output=True).returncode:
        pytest.skip("file systems with quotas cannot be mounted here")
    try:
        share = folder / "share"
        for line in (
            ["quota", "enable", folder],
            ["subvolume", "create", share],
            ["qgroup", "limit", f"{megabytes}M", share],
        ):
            subprocess.run(["btrfs", *map(str, line)], check=True, capture_output=True)
        yield share
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def use_up(share: Path) -> Path:
    """Takes all that the quota still gives, in a file that may be removed."""
    filler = share / "filler"
    with suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(64 << 10))
            os.fsync(file.fileno())
    return filler


def fill(disk: Path) -> Path:
    """Takes all the room that is left, in a file that may be removed."""
    filler = disk / "filler"
    filler.write_bytes(bytes(shutil.disk_usage(disk).free))
    return filler
