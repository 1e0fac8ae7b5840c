"""A kernel that really refuses a system call, for errors that no ordinary disk gives."""

from __future__ import annotations

import ctypes
import platform
import struct
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pytest

FLOCK, RENAME, RMDIR = 73, 82, 84  # as x86-64 counts its calls
NO_NEW_PRIVILEGES, SET_SECCOMP, FILTER = 38, 22, 2
LOAD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, ERROR = 0x7FFF0000, 0x00050000

T = TypeVar("T")

seccomp = pytest.mark.skipif(
    (platform.system(), platform.machine()) != ("Linux", "x86_64"), reason="needs seccomp as x86-64 has it"
)


def refusing(errors: Mapping[int, int], body: Callable[[], T]) -> T:
    """Runs `body` in a thread of its own in which each call of `errors` fails with the errno given."""

    def run() -> T:
        lines = [(LOAD, 0, 0, 0)]
        for call, error in errors.items():
            lines += [(JUMP_IF_EQUAL, 0, 1, call), (RETURN, 0, 0, ERROR | error)]
        lines.append((RETURN, 0, 0, ALLOW))
        code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in lines))
        program = struct.pack("HxxxxxxP", len(lines), ctypes.addressof(code))
        libc = ctypes.CDLL(None)
        if libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0) or libc.prctl(SET_SECCOMP, FILTER, program, 0, 0):
            pytest.skip("seccomp is not permitted here")
        return body()

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(run).result()
