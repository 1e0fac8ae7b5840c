"""A hub of models on this machine, as far as fetching one asks it: what it has, its files, and its refusals."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(ThreadingHTTPServer):
    """Models by name, each a folder; those in `gated` are given to nobody. `asked` are the files that were sent."""

    daemon_threads = True

    def __init__(self, models: dict[str, Path], gated: tuple[str, ...] = ()) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.models, self.gated = models, gated
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


@contextmanager
def serving(models: dict[str, Path], gated: tuple[str, ...] = ()) -> Iterator[Hub]:
    hub = Hub(models, gated)
    thread = Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    server: Hub  # pyright: ignore[reportIncompatibleVariableOverride]
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/[^/]+)?", path):
            self._model(found[1])
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/[^/]+", path):
            self._tree(found[1])
        elif found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/[^/]+/(.+)", path):
            self._file(found[1], found[2])
        else:
            self._refuse(404, "EntryNotFound")

    do_HEAD = do_GET

    def _model(self, name: str) -> None:
        if name in self.server.gated:
            self._refuse(403, "GatedRepo")
        elif (folder := self.server.models.get(name)) is None:
            self._refuse(404, "RepoNotFound")
        else:
            files = [{"rfilename": path, "size": file.stat().st_size} for path, file in files_of(folder)]
            self._send(json.dumps({"id": name, "modelId": name, "sha": COMMIT, "siblings": files}).encode())

    def _tree(self, name: str) -> None:
        folder = self.server.models[name]
        files = [
            {"type": "file", "path": path, "size": file.stat().st_size, "oid": _etag(file)}
            for path, file in files_of(folder)
        ]
        self._send(json.dumps(files).encode())

    def _file(self, name: str, file: str) -> None:
        path = self.server.models[name] / file
        if not path.is_file():
            return self._refuse(404, "EntryNotFound")
        if self.command == "GET":
            self.server.asked.append(file)
        self._send(path.read_bytes(), 200, ETag=f'"{_etag(path)}"', **{"X-Repo-Commit": COMMIT})

    def _refuse(self, code: int, why: str) -> None:
        self._send(b"{}", code, **{"X-Error-Code": why, "X-Error-Message": f"no: {why}"})

    def _send(self, body: bytes, code: int = 200, **headers: str) -> None:
        self.send_response(code)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def files_of(folder: Path) -> list[tuple[str, Path]]:
    """All files below a model's folder, by their names on the hub."""
    return [(file.relative_to(folder).as_posix(), file) for file in sorted(folder.rglob("*")) if file.is_file()]


def _etag(file: Path) -> str:
    return hashlib.sha1(file.read_bytes()).hexdigest()
