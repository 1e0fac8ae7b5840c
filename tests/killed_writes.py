"""A process that is killed in the middle of its saving: before its k-th file operation, or halfway through a write."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

from fgvr.checkpoints import background  # noqa: F401 - its own files are read before the count begins
from fgvr.checkpoints.hashed import HashingWriter

OPERATIONS = ("fsync", "rename", "replace", "mkdir", "unlink", "rmdir", "open")


def killed_at(number: int, *others: int) -> None:
    """From now on counts this process's file operations, and ends it, after `others`, as `kill -9` does at one."""
    count = 0

    def is_due() -> bool:
        nonlocal count
        count += 1
        return count == number

    def die() -> None:
        for process in (*others, os.getpid()):
            os.kill(process, signal.SIGKILL)

    def guarded(plain: Callable[..., Any]) -> Callable[..., Any]:
        def operation(*args: Any, **kwargs: Any) -> Any:
            if is_due():
                die()
            return plain(*args, **kwargs)

        return operation

    def write(self: HashingWriter, data: Any) -> int:
        if is_due():
            self.file.write(bytes(data)[: len(data) // 2])
            self.file.flush()
            die()
        return plain_write(self, data)

    plain_write = HashingWriter.write
    HashingWriter.write = write
    for name in OPERATIONS:
        setattr(os, name, guarded(getattr(os, name)))
