"""Runs that several processes share the weights of: gone on with by another number of them, and killed while saving."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from rl_run import grpo_config, json_rows, learn_sft, sft_config, start
from sharded_runs import LOADED, as_at, end_all, kill_all_after, start_ranks
from toy_run import same_weights

from fgvr.checkpoints.format import checkpoints_in, read_checkpoint, read_manifest, verify_checkpoint
from fgvr.checkpoints.manifest import SHARDED

FSDP, PLAIN = "--trainer.strategy=fsdp2", "--trainer.strategy=auto"
VARIANTS: dict[str, dict[str, Any]] = {
    "full": {"updates": 2},
    "adapters": {"policy": {"lora": {"rank": 3, "alpha": 6}}, "kl": {"coefficient": 0.1}, "updates": 2},
}
AGAIN = {"class_path": "sharded_runs.SaveAgain"}
HALF = 6  # steps, of twelve


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds the birds, and the supervised run that every other one starts from."""
    folder = tmp_path_factory.mktemp("sharded")
    learn_sft(folder)
    return folder


def fit(config: Path, run: Path, world: int, strategy: str) -> Path:
    end_all(start_ranks(config, run, world, strategy) if world > 1 else [start(config, run, strategy)])
    return run


def last(run: Path) -> dict[str, Any]:
    path = checkpoints_in(run / "checkpoints")[-1]
    assert path.name == "step-00000012.ckpt"
    return read_checkpoint(path)


def assert_goes_on(run: Path, whole: Path) -> None:
    """It took up every bit of the checkpoint, and then saw and sampled what the run that nobody stopped did."""
    assert same_weights(read_checkpoint(run / LOADED), read_checkpoint(whole / f"checkpoints/step-{HALF:08d}.ckpt"))
    for log in ("rollouts", "samples"):
        assert said_after_half(run, log) == said_after_half(whole, log)
    one, other = last(run)["state_dict"], last(whole)["state_dict"]
    assert one.keys() == other.keys()
    assert all(torch.allclose(one[name], other[name], atol=1e-5) for name in one)


def said_after_half(run: Path, log: str) -> list[Any]:
    """What a log says of each photo from the checkpoint on, whichever processes wrote it."""
    rows = [row for file in run.glob(f"{log}*.jsonl") for row in json_rows(file)]
    if log == "samples":
        taken = ((row["epoch"], row["step"], zip(row["positions"], row["uids"], strict=True)) for row in rows)
        return sorted((epoch, step, *photo) for epoch, step, photos in taken for photo in photos)
    told = [(row["epoch"], row["step"], row["place"], row["uid"], row["completion"]) for row in rows]
    return sorted(one for one, row in zip(told, rows, strict=True) if row["global_step"] > HALF)


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_run_of_two_goes_on_with_any_number_and_without_sharding_and_back(folder: Path, variant: str) -> None:
    config = grpo_config(folder, variant, AGAIN, **VARIANTS[variant])
    whole = fit(config, folder / f"{variant}-two", 2, FSDP)
    half = whole / f"checkpoints/step-{HALF:08d}.ckpt"
    assert sorted(read_manifest(half).files) == ["shard-00000.safetensors", "shard-00001.safetensors", "state.pt"]
    onwards = [(1, PLAIN), (1, FSDP), (3, FSDP), (4, FSDP)]
    for world, strategy in onwards if variant == "full" else onwards[:1] + onwards[2:3]:
        run = as_at(whole, HALF, folder / f"{variant}-{world}-{strategy[-4:]}")
        assert_goes_on(fit(config, run, world, strategy), whole)
    plain = folder / f"{variant}-1-auto"
    assert read_manifest(checkpoints_in(plain / "checkpoints")[-1]).format != SHARDED
    back = fit(config, as_at(plain, HALF + 2, folder / f"{variant}-back"), 2, FSDP)
    then = read_checkpoint(plain / f"checkpoints/step-{HALF + 2:08d}.ckpt")
    assert same_weights(read_checkpoint(back / LOADED), then)


@pytest.mark.slow
@pytest.mark.timeout(2400)
@pytest.mark.parametrize("behind", ["false", "true"])
def test_killed_at_random_moments_of_many_saves_a_whole_checkpoint_is_there(folder: Path, behind: str) -> None:
    config, strategy = sft_config(folder), (FSDP, "--trainer.max_steps=24")
    options = (*strategy, "--run.save_every=1", f"--run.save_in_background={behind}", "--run.allow_changed=[code]")
    whole, run = folder / f"whole-{behind}", folder / f"killed-{behind}"
    end_all(start_ranks(config, whole, 2, *options))
    dice, reached = random.Random(behind), [0]
    for batches in sorted(dice.randrange(23) for _ in range(10)):
        kill_all_after(start_ranks(config, run, 2, *options), run / "samples.rank0.jsonl", batches, dice.random() / 3)
        there = checkpoints_in(run / "checkpoints")
        reached.append(max((verify_checkpoint(path).step for path in there), default=0))  # all of them are whole
    assert reached == sorted(reached)
    assert reached[-1] > 0
    end_all(start_ranks(config, run, 2, *options))
    ends_of = [checkpoints_in(one / "checkpoints")[-1] for one in (whole, run)]
    assert [path.name for path in ends_of] == ["step-00000024.ckpt"] * 2
    assert same_weights(*map(read_checkpoint, ends_of))
