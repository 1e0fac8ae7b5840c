"""MATLAB's .mat files (version 5 to 7) as plain lists, texts and dicts: nothing in them is run or built."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fgvr.errors import UserError

MOST = 16 * 2**20  # bytes, of a file and of all that it unpacks to
DEEPEST = 8  # cells in cells
NUMBERS = {1: "b", 2: "B", 3: "h", 4: "H", 5: "i", 6: "I", 7: "f", 9: "d", 12: "q", 13: "Q"}
TEXTS = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}
MATRIX, PACKED = 14, 15
CELL, STRUCT, CHAR = 1, 2, 4
NUMERIC = range(6, 16)


class _Broken(ValueError):
    """The bytes are not what the format says."""


def read_mat(file: Path) -> dict[str, Any]:
    """The variables of a file by their names: numbers and cells as flat lists in column order, a char array as a text,
    a struct array as a list of dicts. What else MATLAB stores (objects, functions) is left out.

    Raises UserError for a file that is missing, over 16 MiB (unpacked too), damaged or of version 7.3 (HDF5).
    """
    try:
        if file.stat().st_size > MOST:
            raise _Broken(f"it is larger than {MOST >> 20} MiB")
        data = file.read_bytes()
        if data[:8] == b"\x89HDF\r\n\x1a\n" or data[:10] == b"MATLAB 7.3":
            raise _Broken("it is of version 7.3: save it with -v7")
        if len(data) < 128 or data[126:128] not in (b"IM", b"MI"):
            raise _Broken("it has no header of one")
        return _Reader("<" if data[126:128] == b"IM" else ">").variables(data[128:])
    except (OSError, ValueError, struct.error, zlib.error) as error:
        raise UserError(
            f"{file} must be a readable .mat file, but {getattr(error, 'strerror', None) or error}"
        ) from error


@dataclass
class _Reader:
    order: str
    left: int = MOST

    def variables(self, data: bytes) -> dict[str, Any]:
        found: dict[str, Any] = {}
        place = 0
        while place < len(data):
            kind, body, place = self._element(data, place)
            if kind == PACKED:
                kind, body, _ = self._element(self._unpacked(body), 0)
            if kind == MATRIX:
                name, value = self._matrix(body, 0)
                found[name] = value
        return found

    def _unpacked(self, body: bytes) -> bytes:
        unpacking = zlib.decompressobj()
        data = unpacking.decompress(body, self.left)
        if unpacking.unconsumed_tail:
            raise _Broken(f"it unpacks to more than {MOST >> 20} MiB")
        self.left = max(1, self.left - len(data))
        return data

    def _element(self, data: bytes, place: int) -> tuple[int, bytes, int]:
        """The kind and bytes of the element at a place, and the place of the next."""
        kind, size = struct.unpack_from(f"{self.order}II", data, place)
        if kind >> 16:  # up to four bytes stand within the tag
            kind, size, start, end = kind & 0xFFFF, kind >> 16, place + 4, place + 8
        else:
            start = place + 8
            end = start + size + (-size % 8 if kind != PACKED else 0)
        if start + size > len(data):
            raise _Broken("it is cut off")
        return kind, data[start : start + size], end

    def _matrix(self, body: bytes, depth: int) -> tuple[str, Any]:
        if not body:
            return "", []
        if depth > DEEPEST:
            raise _Broken(f"it holds cells in cells {DEEPEST} times over")
        _, flags, place = self._element(body, 0)
        (flag,) = struct.unpack_from(f"{self.order}I", flags)
        _, raw, place = self._element(body, place)
        dims = struct.unpack(f"{self.order}{len(raw) // 4}i", raw[: len(raw) // 4 * 4])
        _, name, place = self._element(body, place)
        count = 1
        for size in dims:
            count *= max(0, size)
        if count > len(body):  # each has a byte or more
            raise _Broken("it states more entries than it has bytes")
        return name.decode("latin-1"), self._content(flag & 0xFF, body, place, count, depth)

    def _content(self, kind: int, body: bytes, place: int, count: int, depth: int) -> Any:
        if kind == CELL:
            return self._matrices(body, place, count, depth)
        if kind == STRUCT:
            _, raw, place = self._element(body, place)
            (length,) = struct.unpack_from(f"{self.order}i", raw)
            _, raw, place = self._element(body, place)
            if length < 1:
                raise _Broken("its fields have no names")
            names = [raw[at : at + length].split(b"\0")[0].decode("latin-1") for at in range(0, len(raw), length)]
            values = iter(self._matrices(body, place, count * len(names), depth))
            return [{name: next(values) for name in names} for _ in range(count)]
        if kind == CHAR:
            stored, raw, _ = self._element(body, place) if count else (16, b"", 0)
            if stored not in TEXTS:
                raise _Broken(f"it holds a text of the unknown kind {stored}")
            wide = "" if TEXTS[stored] in ("latin-1", "utf-8") else "-le" if self.order == "<" else "-be"
            return raw.decode(TEXTS[stored] + wide)
        if kind in NUMERIC:
            stored, raw, _ = self._element(body, place)
            if stored not in NUMBERS:
                raise _Broken(f"it holds numbers of the unknown kind {stored}")
            letter = NUMBERS[stored]
            held = len(raw) // struct.calcsize(f"{self.order}{letter}")
            return list(struct.unpack_from(f"{self.order}{held}{letter}", raw))
        return None

    def _matrices(self, body: bytes, place: int, count: int, depth: int) -> list[Any]:
        if count * 8 > len(body):
            raise _Broken("it states more entries than it has bytes")
        held: list[Any] = []
        for _ in range(count):
            kind, inner, place = self._element(body, place)
            if kind != MATRIX:
                raise _Broken(f"a cell must be a matrix, but it is of kind {kind}")
            held.append(self._matrix(inner, depth + 1)[1])
        return held
