from __future__ import annotations

from typing import Any

import pytest
import torch

from fgvr.errors import UserError
from fgvr.strategies.world import ranks_of, shared_by


@pytest.mark.parametrize(
    ("trainer", "ranks"),
    [
        ({"devices": 8}, 8),
        ({"devices": 8, "num_nodes": 4}, 32),
        ({"devices": "2", "num_nodes": 2}, 4),
        ({"devices": [0, 3]}, 2),
        ({"devices": "0,2,5"}, 3),
        ({"devices": "auto", "accelerator": "cpu"}, 1),
    ],
)
def test_ranks_are_counted_as_the_trainer_would(monkeypatch: pytest.MonkeyPatch, trainer: dict[str, Any], ranks: int):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 6)
    assert ranks_of(trainer) == ranks


@pytest.mark.parametrize(
    ("replicate", "shard", "world", "each"), [(1, None, 6, 6), (2, None, 6, 3), (2, 3, 6, 3), (1, 1, 1, 1)]
)
def test_copies_are_shared_by_all_processes(replicate: int, shard: int | None, world: int, each: int):
    assert shared_by(replicate, shard, world) == each


@pytest.mark.parametrize(
    ("replicate", "shard", "said"),
    [
        (2, None, "strategy.replicate must divide the 3 processes of the run, got 2: choose another"),
        (16, None, "strategy.replicate must divide the 3 processes of the run, got 16: choose another"),
        (4, 8, "must be the 3 processes of the run, got 4 x 8: leave shard out"),
    ],
)
def test_what_does_not_make_up_the_processes_is_refused(replicate: int, shard: int | None, said: str):
    with pytest.raises(UserError, match=said):
        shared_by(replicate, shard, 3)
