from __future__ import annotations

import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from benchmark_trees import cells, structs
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import savemat

from fgvr.errors import UserError
from fgvr.sources.mat_file import read_mat


@pytest.mark.parametrize("packed", [False, True])
def test_what_matlab_stores_is_read(tmp_path: Path, packed: bool):
    held = {
        "numbers": np.arange(6, dtype=np.uint16).reshape(2, 3),
        "halves": np.array([[0.5, -2.0]]),
        "names": cells(["F/A-18", "Crème brûlée", "x"]),
        "rows": structs([{"class": 3, "fname": "a.jpg"}, {"class": 250, "fname": "b.jpg"}]),
        "none": np.zeros((0, 0)),
    }
    savemat(tmp_path / "x.mat", held, do_compression=packed)
    read = read_mat(tmp_path / "x.mat")
    assert read["numbers"] == [0, 3, 1, 4, 2, 5]
    assert read["halves"] == [0.5, -2.0]
    assert read["names"] == ["F/A-18", "Crème brûlée", "x"]
    assert read["rows"] == [{"class": [3], "fname": "a.jpg"}, {"class": [250], "fname": "b.jpg"}]
    assert read["none"] == []


def head(body: bytes) -> bytes:
    return b"MATLAB 5.0".ljust(124) + b"\0\1IM" + body


def element(kind: int, body: bytes) -> bytes:
    return kind.to_bytes(4, "little") + len(body).to_bytes(4, "little") + body


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "no header"),
        (b"\x89HDF\r\n\x1a\n" + bytes(200), "save it with -v7"),
        (head(element(14, b"x" * 8)[:-4]), "cut off"),
        (head((15).to_bytes(4, "little") + (3).to_bytes(4, "little") + b"abc"), "incorrect header"),
        (head(element(15, zlib.compress(bytes(17 * 2**20), 1))), "unpacks to more than 16 MiB"),
    ],
)
def test_a_damaged_file_is_a_sentence(tmp_path: Path, data: bytes, why: str):
    (tmp_path / "x.mat").write_bytes(data)
    with pytest.raises(UserError, match=rf"x.mat must be a readable .mat file, but .*{why}"):
        read_mat(tmp_path / "x.mat")


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_no_damage_ends_in_anything_else(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject):
    file = tmp_path_factory.getbasetemp() / "any.mat"
    savemat(file, {"names": cells(["a", "bc"]), "rows": structs([{"class": 3, "fname": "a.jpg"}])})
    held = bytearray(file.read_bytes())
    for _ in range(data.draw(st.integers(1, 6))):
        held[data.draw(st.integers(124, len(held) - 1))] = data.draw(st.integers(0, 255))
    file.write_bytes(held)
    with suppress(UserError):
        read_mat(file)
