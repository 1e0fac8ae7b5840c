"""The files of one folder, read by offset, and kept open while they are being read."""

from __future__ import annotations

import os
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path

from fgvr.errors import UserError
from fgvr.retries import patiently

OPEN_FILES = 64


class OpenFiles:
    """Reads files of `folder` by name; at most `OPEN_FILES` stay open. A copy in another process opens its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._open: OrderedDict[str, int] = OrderedDict()

    def read(self, name: str, offset: int, size: int) -> bytes:
        """Fewer bytes than `size` where the file ends before. Raises OSError.

        With a fresh handle after every failure, as a network disk needs it after its server came back.
        """

        def read() -> bytes:
            if name in self._open:
                with suppress(OSError):
                    return self._read_open(name, offset, size)
            return self._read_open(name, offset, size)

        return patiently(read, f"{self.folder}/{name}")

    def close(self) -> None:
        """Reading opens them again."""
        for descriptor in self._open.values():
            with suppress(OSError):
                os.close(descriptor)
        self._open.clear()

    def __getstate__(self) -> dict[str, object]:
        return {"folder": self.folder, "_open": OrderedDict()}

    def path(self, name: str) -> Path:
        """Raises UserError for a name that leads out of the folder."""
        if Path(name).name != name:
            raise UserError(f"a shard lies in its set's folder, but the manifest of {self.folder} names {name!r}")
        return self.folder / name

    def _read_open(self, name: str, offset: int, size: int) -> bytes:
        """Closes the handle of a file that cannot be read."""
        try:
            descriptor = self._open.get(name)
            if descriptor is None:
                descriptor = self._open[name] = os.open(self.path(name), os.O_RDONLY | os.O_CLOEXEC)
                while len(self._open) > OPEN_FILES:
                    os.close(self._open.popitem(last=False)[1])
            self._open.move_to_end(name)
            return _read_fully(descriptor, offset, size)
        except OSError:
            if (stale := self._open.pop(name, None)) is not None:
                with suppress(OSError):
                    os.close(stale)
            raise


def _read_fully(descriptor: int, offset: int, size: int) -> bytes:
    data = os.pread(descriptor, size, offset)
    while len(data) < size and (more := os.pread(descriptor, size - len(data), offset + len(data))):
        data += more
    return data
