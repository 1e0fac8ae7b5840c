"""Files that are whole or not there, whenever the process that writes them is killed; and whose damage is noticed."""

from __future__ import annotations

import hashlib
import json
import os
import re
import zlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from fgvr.errors import UserError
from fgvr.retries import patiently

DIGEST = "digest"
DIGEST_FORM = re.compile(r"sha256:[0-9a-f]{64}")
CHECK = b',"check":"crc32:%08x"}\n'
CHECK_FORM = re.compile(rb',"check":"crc32:([0-9a-f]{8})"\}\n')
CHECK_BYTES = len(CHECK % 0)


def write_whole(file: Path, data: bytes) -> None:
    """Writes beside the target, flushes to the disk, then renames: a reader sees the old file or the whole new one.

    Where the disk fails for a moment all of it is done again: a flush that failed has lost what it was to flush.
    """
    beside = part_name(file)

    def write() -> None:
        with beside.open("wb") as stream:
            stream.write(data)
        put_in_place(beside, file)

    try:
        patiently(write, file)
    except OSError as error:
        error.filename = error.filename or str(file)  # a write that fails does not say of what
        with suppress(OSError):
            beside.unlink()
        raise


def refuse_home_mark(path: Path, setting: str) -> None:
    """Raises UserError, which names the `setting`, for what would become a folder called ~."""
    if path.parts[:1] and path.parts[0].startswith("~") and not os.path.lexists(path.parts[0]):
        home = os.path.expanduser(path)
        instead = f"write {home}" if home != str(path) else f"write ./{path} if it is to be called so"
        raise UserError(f"{setting} must not begin with ~, which a shell alone reads, got {path}: {instead}")


def refuse_no_folder(out: Path, setting: str = "out") -> None:
    """Raises UserError, which names the `setting`, where no folder `out` can be written. Makes nothing."""
    refuse_home_mark(out, setting)
    place = next(one for one in (out, *out.absolute().parents) if os.path.lexists(one))
    if not place.is_dir():
        raise UserError(f"{setting} must be a folder that can be written, but {place} is not one: choose another")
    if not os.access(place, os.W_OK | os.X_OK):
        raise UserError(f"{setting} must be a folder that can be written, but {place} may not be: choose another")


def part_name(file: Path) -> Path:
    """Where a file is written before it is whole: hidden, in the same folder, one per process."""
    return file.with_name(f".{file.name}.{os.getpid()}.part")


def put_in_place(beside: Path, file: Path) -> None:
    """Flushes a finished file to the disk and gives it its name; the rename is flushed too."""
    flush(beside)
    os.replace(beside, file)
    flush(file.parent)


def flush(path: Path) -> None:
    """Sends a file, or the entries of a folder, to the disk."""
    descriptor = patiently(lambda: os.open(path, os.O_RDONLY), path)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sealed(content: Mapping[str, Any], indent: int | None = None) -> bytes:
    """A JSON object in its one spelling, with a digest of itself under "digest". Raises ValueError for NaN."""
    digest = hashlib.sha256(_spelt(content, None)).hexdigest()
    return _spelt({**content, DIGEST: f"sha256:{digest}"}, indent)


def unsealed(data: bytes) -> tuple[dict[str, Any], bool]:
    """What `sealed` was given, and whether a digest vouches for it: files of older versions have none.

    Raises ValueError for what is no JSON object, and when a single bit is not as it was written.
    """
    try:
        content = json.loads(data)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(content, dict):
        raise ValueError(f"it holds {type(content).__name__}, not an object")
    if content.pop(DIGEST, None) is None:
        if any(isinstance(value, str) and DIGEST_FORM.fullmatch(value) for value in content.values()):
            raise ValueError("its digest stands under another name")
        return content, False
    if data != sealed(content) and data != sealed(content, indent=1):  # the second takes ten times as long
        raise ValueError("it does not have the digest that it states")
    return content, True


def sealed_line(row: Mapping[str, Any]) -> bytes:
    """A JSON object with at least one key as a line that ends in its own checksum. Raises ValueError for NaN."""
    text = json.dumps(row, separators=(",", ":"), allow_nan=False).encode()
    return text[:-1] + CHECK % zlib.crc32(text)


def unsealed_line(line: bytes) -> dict[str, Any]:
    """What `sealed_line` was given; a line of an older version, which has no checksum, as it stands.

    Raises ValueError for a line that is torn or no JSON object, and when a single bit is not as it was written.
    """
    checked = CHECK_FORM.fullmatch(line[-CHECK_BYTES:])
    text = line[:-CHECK_BYTES] + b"}" if checked else line
    row = json.loads(text)
    if not line.endswith(b"\n") or not isinstance(row, dict):
        raise ValueError("it is not a whole object")
    if checked is not None and int(checked[1], 16) != zlib.crc32(text):
        raise ValueError("it does not have the checksum that it states")
    if checked is None and ("check" in row or any(str(value).startswith("crc32:") for value in row.values())):
        raise ValueError("its checksum is damaged")
    return row


def _spelt(content: Mapping[str, Any], indent: int | None) -> bytes:
    separators = (",", ":") if indent is None else None
    return (json.dumps(content, indent=indent, sort_keys=True, separators=separators, allow_nan=False) + "\n").encode()
