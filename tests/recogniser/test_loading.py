from __future__ import annotations

from pathlib import Path

import pytest

import fgvr
from fgvr.errors import UserError


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({"device": "gpu"}, "device must be auto, cpu or cuda, got 'gpu'"),
        ({"device": "cuda:1"}, "CUDA_VISIBLE_DEVICES"),
        ({"checkpoint": "newest"}, "checkpoint must be last or best, got 'newest'"),
        ({}, "there must be a run or an export at '.*nowhere', but there is none"),
    ],
)
def test_what_cannot_be_loaded_is_refused_in_a_sentence(tmp_path: Path, how: dict[str, str], says: str):
    with pytest.raises(UserError, match=says):
        fgvr.load(tmp_path / "nowhere", **how)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({"path": ""}, "got an empty text: give it, or . for this folder"),
        ({"path": None}, "path must be text or a Path, got NoneType"),
        ({"path": b"run"}, "path must be text or a Path, got bytes"),
        ({"path": "run", "data": 3}, "data must be text or a Path, got int"),
        ({"path": ".", "data": "nowhere"}, "a shard set is a folder, but nowhere is not one"),
    ],
)
def test_what_is_no_path_is_refused_in_a_sentence(how: dict[str, object], says: str):
    with pytest.raises(UserError, match=says):
        fgvr.load(**how)  # pyright: ignore[reportArgumentType]
