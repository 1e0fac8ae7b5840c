"""`trainer.deterministic: true`: every operation of a run has a deterministic form, and one run is another's twin."""

from __future__ import annotations

from pathlib import Path

import pytest
from rl_run import ends, grpo_config, sft_config, start
from toy_run import same_weights

from fgvr.checkpoints.format import checkpoints_in, read_checkpoint

STRICT = ("--trainer.deterministic=true", "--trainer.max_steps=2")


def last(run: Path) -> dict[str, object]:
    return read_checkpoint(checkpoints_in(run / "checkpoints")[-1])


@pytest.mark.slow
def test_supervised_and_reinforced_they_end_alike(tmp_path: Path) -> None:
    ends(start(sft_config(tmp_path), tmp_path / "sft", *STRICT))
    changes = {"updates": 2, "kl": {"coefficient": 0.1}, "entropy_coefficient": 0.01, "max_start_failures": 1.0}
    config = grpo_config(tmp_path, "rl", **changes)
    for name in ("one", "two"):
        said = ends(start(config, tmp_path / name, *STRICT))
        assert "deterministic" not in said
    assert same_weights(last(tmp_path / "one"), last(tmp_path / "two"))
