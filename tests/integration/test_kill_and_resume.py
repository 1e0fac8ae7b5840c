"""`kill -9` at random moments of a real run: the same end, bit for bit, and every sample read once an epoch."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from rl_run import FRESH, ROOT, ends, json_rows, kill_after, start

from fgvr.checkpoints.format import newest_checkpoint, read_checkpoint
from fgvr.shards.manifest import load_index, load_manifest

STEPS = 40


def small_config(folder: Path) -> Path:
    """The quickstart with fewer photos, a smaller model and 40 steps: two and a half epochs of 18 batches."""
    config = yaml.safe_load((ROOT / "configs" / "quickstart.yaml").read_text())
    config["model"]["init_args"]["policy"]["backbone"]["init_args"] |= {
        "vocabulary": str(folder / "aviary" / "manifest.json"),
        "hidden": 64,
        "layers": 1,
        "vision_hidden": 64,
        "vision_layers": 1,
    }
    data = config["data"]["init_args"]
    data["train"][0]["path"] = str(folder / "aviary")
    data["train"][0]["source"]["init_args"] = {"species": 48, "unseen": 4, "train": 3, "val": 1, "test": 0, "size": 56}
    data |= {"batch_size": 8, "eval_examples": 8}
    config["trainer"] |= {"max_steps": STEPS, "val_check_interval": 13}
    config["run"] |= {"save_every": 4, "best": "seen/exact"}
    file = folder / "config.yaml"
    file.write_text(yaml.safe_dump(config))
    return file


def weights(run: Path) -> dict[str, torch.Tensor]:
    newest = newest_checkpoint(run / "checkpoints")
    assert newest is not None
    checkpoint = read_checkpoint(newest)
    assert checkpoint["global_step"] == STEPS
    return checkpoint["state_dict"]


def check_every_sample_once(taken: list[dict[str, Any]], shards: Path) -> None:
    assert [row["step"] for row in taken] == [step % 17 for step in range(STEPS)]
    every = [
        entry.key for shard in load_manifest(shards).select("train", ("seen",)) for entry in load_index(shards, shard)
    ]
    assert len(every) == 132  # 44 seen species x 3: sixteen batches of 8 and one of 4
    for epoch in (0, 1):
        seen = Counter(uid for row in taken if row["epoch"] == epoch for uid in row["uids"])
        assert seen == Counter(every)


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("kills", [2])  # scripts/kill_runs.py kills more often
def test_killed_at_random_the_run_ends_as_if_it_had_not_been(tmp_path: Path, kills: int):
    config = small_config(tmp_path)
    ends(start(config, tmp_path / "whole", **FRESH))  # no fork, as the killed ones are
    dice = random.Random(kills)
    moments = sorted(dice.randrange(STEPS - 1) for _ in range(kills))
    for moment in moments:
        kill_after(start(config, tmp_path / "killed"), tmp_path / "killed", moment, dice.random() / 4)
    ends(start(config, tmp_path / "killed"))
    whole, killed = weights(tmp_path / "whole"), weights(tmp_path / "killed")
    assert whole.keys() == killed.keys()
    assert all(torch.equal(whole[name], killed[name]) for name in whole)
    taken = json_rows(tmp_path / "killed/samples.jsonl")
    check_every_sample_once(taken, tmp_path / "aviary")
    assert taken == json_rows(tmp_path / "whole/samples.jsonl")
    figures = [json.loads((tmp_path / run / "final_metrics.json").read_text()) for run in ("whole", "killed")]
    for ended in figures:
        assert all(ended.pop(name) for name in ("seconds", "digest"))
    assert figures[0] == figures[1]
