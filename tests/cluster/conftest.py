"""One real SLURM cluster for all tests of this folder."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster.slurm_cluster import PACKAGES, SlurmCluster
from packages import can_install


@pytest.fixture
def cluster(running: SlurmCluster) -> Iterator[SlurmCluster]:
    """The cluster with no job in it, also after a test that has failed."""
    yield running
    running.cancel_all()


@pytest.fixture(scope="session")
def running() -> Iterator[SlurmCluster]:
    if os.getuid() != 0:
        pytest.skip("SLURM's daemons are started as root")
    if not can_install(PACKAGES):
        pytest.skip("SLURM is not installed, and there is no apt to install it with")
    with tempfile.TemporaryDirectory(prefix="fgvr-slurm-") as folder, SlurmCluster(Path(folder)) as cluster:
        yield cluster
