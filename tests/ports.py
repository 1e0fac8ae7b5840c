"""Where processes of a test can meet."""

from __future__ import annotations

import socket


def free_port() -> int:
    """One of this machine's, which another may take before it is used."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
