"""Programs that tests of real components need, installed by apt where they are missing."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path


def missing(packages: Mapping[str, str]) -> list[str]:
    """The packages, by command, whose commands are not there."""
    return [package for command, package in packages.items() if shutil.which(command) is None]


def can_install(packages: Mapping[str, str]) -> bool:
    """Whether all of the commands are there, or may be."""
    return not missing(packages) or (os.getuid() == 0 and shutil.which("apt-get") is not None)


def install(packages: Mapping[str, str]) -> None:
    """Installs what is missing; another process of the tests may be about to do so too.

    Raises RuntimeError with what apt said.
    """
    with (Path(tempfile.gettempdir()) / "fgvr-apt.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        names = missing(packages)
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for line in (["update"], ["install", "-y", "--no-install-recommends", *names]) if names else ():
            done = subprocess.run(
                ["apt-get", "-q", *line], env=environment, text=True, capture_output=True, timeout=400
            )
            if done.returncode:
                raise RuntimeError(f"apt-get {' '.join(line)} failed: {done.stderr[-2000:]}")
