from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fgvr.errors import UserError
from fgvr.strategies.mesh import shards_of


@given(st.integers(1, 64), st.integers(1, 64))
def test_copies_and_parts_are_all_processes(replicate: int, shard: int):
    world = replicate * shard
    assert shards_of(world, replicate) == shards_of(world, replicate, shard) == shard


@pytest.mark.parametrize(
    ("world", "replicate", "shard", "sentence"),
    [
        (
            3,
            2,
            None,
            "strategy.replicate must divide the 3 processes of the run into equal shares, got 2: set it to 1 ",
        ),
        (8, 16, None, "must divide the 8 processes of the run into equal shares, got 16: set it to 1, 2, 4 or 8, or"),
        (1, 2, None, "must divide the 1 processes of the run into equal shares, got 2: set it to 1, or set"),
        (24, 4, 8, "processes of the run, got 4 x 8: set shard to 6 or replicate to 3, or set trainer.devices"),
        (2, 2, 2, "the 2 processes of the run, got 2 x 2: set shard to 1 or replicate to 1, or set"),
        (3, 2, 2, "the 3 processes of the run, got 2 x 2: set trainer.devices and trainer.num_nodes to match."),
        (4, 3, 2, "the 4 processes of the run, got 3 x 2: set replicate to 2, or set"),
        (8, 0, None, "strategy.replicate must be at least 1, got 0"),
    ],
)
def test_another_mesh_is_refused_with_what_would_do(world: int, replicate: int, shard: int | None, sentence: str):
    with pytest.raises(UserError) as refused:
        shards_of(world, replicate, shard)
    assert sentence in str(refused.value)
    assert "leave shard out" not in str(refused.value)
