"""Reinforcement learning as it is really run: killed and resumed, measured from its start, shared by two processes."""

from __future__ import annotations

import json
import random
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from killed_runs import assert_same_end, curves, final_figures, kill_at_chosen_moments, killers, spare
from rl_run import (
    BIRDS,
    FILTERED,
    ROOT,
    ends,
    first_update,
    grpo_config,
    json_rows,
    kill_after,
    learn_sft,
    start,
    two_ranks,
)
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fgvr.__main__ import main
from fgvr.checkpoints.format import checkpoints_in, read_checkpoint

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

VARIANTS: dict[str, dict[str, Any]] = {
    "filtered": FILTERED,
    "adapters": {
        "policy": {"lora": {"rank": 4, "alpha": 8, "full": ["projector"]}}, "kl": {"coefficient": 0.1}, "updates": 2,
        "optimizer": {"lr": 1e-3, "schedule": "constant", "rates": {"projector": 1e-4}},
    },
    "reference": {"kl": {"coefficient": 0.1}, "epochs": 2, "entropy_coefficient": 0.01, "mask_truncated": True},
}  # fmt: skip
TRL_TAGS = {
    "reward", "reward_std", "rewards/exact/mean", "rewards/exact/std", "rewards/format/mean", "rewards/format/std",
    "frac_reward_zero_std", "completions/mean_length", "completions/min_length", "completions/max_length",
    "completions/clipped_ratio", "entropy", "clip_ratio/region_mean", "clip_ratio/low_mean", "clip_ratio/high_mean",
    "step_time", "num_tokens",
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds the birds, and the supervised run that every other one starts from."""
    folder = tmp_path_factory.mktemp("rl")
    learn_sft(folder)
    return folder


def config_of(folder: Path, variant: str) -> Path:
    return grpo_config(folder, variant, *killers(), **VARIANTS[variant])


@pytest.fixture(scope="module")
def whole(folder: Path) -> Path:
    """A run with a group filter and two steps to a rollout batch that nobody disturbed."""
    run = spare(folder / "filtered")
    ends(start(config_of(folder, "filtered"), run))
    return run


def kill_at_random(config: Path, run: Path, kills: int) -> None:
    dice, run = random.Random(kills), spare(run)
    for batches in sorted(dice.randrange(6) for _ in range(kills)):
        kill_after(start(config, run), run, batches, dice.random() / 4)
    ends(start(config, run))


def test_killed_at_any_moment_the_run_ends_as_if_it_had_not_been(folder: Path, whole: Path) -> None:
    config = config_of(folder, "filtered")
    with ThreadPoolExecutor() as pool:
        chosen = pool.submit(kill_at_chosen_moments, config, folder / "chosen")
        by_chance = pool.submit(kill_at_random, config, folder / "random", 1)
    chosen.result()
    by_chance.result()
    assert_same_end(folder / "chosen", whole)
    assert_same_end(folder / "random", whole)
    assert curves(folder / "chosen") == curves(whole)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_survives_being_killed_again_and_again(folder: Path, variant: str) -> None:
    run = spare(folder / f"{variant}-whole")
    ends(start(config_of(folder, variant), run))
    kill_at_random(config_of(folder, variant), folder / f"{variant}-killed", 6)
    assert_same_end(folder / f"{variant}-killed", run)
    if "kl" in VARIANTS[variant]:
        assert all(divergence > 0 for step, divergence in curves(run)["kl"].items() if step > 2)


def test_batches_are_sampled_until_enough_groups_are_informative(whole: Path) -> None:
    rows = json_rows(whole / "rollouts.jsonl")
    batches = [[*batch] for _, batch in groupby(rows, key=lambda row: (row["epoch"], row["step"]))]
    made = [batch[0]["global_step"] for batch in batches if batch[0]["learned"]]
    assert made == [2, 4, 6, 8, 10, 12]
    assert len(made) < len(batches)
    assert len({batch[0]["epoch"] for batch in batches}) > 1
    for _, replies in groupby(rows, key=lambda row: (row["learned"], row["epoch"], row["step"], row["place"])):
        learned, well_formed = zip(*((row["learned"], row["rewards"]["format"]) for row in replies), strict=True)
        assert len(learned) == 4
        assert not learned[0] or 1 <= sum(well_formed) <= 2


def test_what_a_run_began_with_is_what_its_model_scores_untrained(folder: Path, whole: Path) -> None:
    ends(start(config_of(folder, "filtered"), folder / "judged", "--ckpt_path", "none", verb="validate"))
    judged = json.loads((folder / "judged/validate_metrics.json").read_text())
    figures = final_figures(whole)
    cohorts = {key for key in figures if key.startswith(("seen/", "unseen/", "novel/"))}
    assert {key.partition("/")[0] for key in cohorts} == {"seen", "unseen", "novel"}
    same = {key: value for key, value in judged.items() if key not in ("fgvr", "digest")}
    assert {key: figures[f"start/{key}"] for key in cohorts} == same
    assert any(figures[f"start/{key}"] != figures[key] for key in cohorts)


def test_the_curves_have_the_names_that_trl_gives_them_over_optimiser_steps(whole: Path) -> None:
    events = EventAccumulator(str(whole / "tensorboard"), size_guidance={"images": 0}).Reload()
    for name in TRL_TAGS:
        assert sorted({point.step for point in events.Scalars(name)}) == [2, 4, 6, 8, 10, 12], name
    tokens = [point.value for point in events.Scalars("num_tokens")]
    assert tokens == sorted(tokens)
    assert {"rollouts/0", "rollouts/1"} <= {*events.Tags()["images"]}
    assert [image.step for image in events.Images("rollouts/0")] == [2, 4, 8, 12]


def test_two_processes_share_the_rollouts_and_end_with_the_same_weights(folder: Path, whole: Path) -> None:
    run = folder / "pair"
    two_ranks(grpo_config(folder, "pair", {"class_path": "rl_run.KeepWeights"}, **FILTERED), run)
    first, second = (torch.load(run / f"weights.rank{rank}.pt") for rank in (0, 1))
    assert all(torch.equal(first[name], second[name]) for name in first)
    saved = read_checkpoint(checkpoints_in(run / "checkpoints")[-1])
    assert saved["global_step"] == 6
    assert all(torch.equal(first[name], saved["state_dict"][name]) for name in first)
    shares = [json_rows(run / f"rollouts.rank{rank}.jsonl") for rank in (0, 1)]
    assert all(any(row["learned"] for row in rows) for rows in shares)
    # whoever samples a prompt, the replies are the same, and so is what is learned from
    assert first_update([*shares[0], *shares[1]]) == first_update(json_rows(whole / "rollouts.jsonl"))


def test_the_run_to_start_from_is_missed_before_anything_is_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    monkeypatch.chdir(tmp_path)
    assert main(["fit", "--config", "configs/aviary/grpo.yaml"]) == 2
    (said,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("fgvr:")]
    assert "python -m fgvr fit --config configs/quickstart.yaml" in said
    assert not (tmp_path / "data").exists()


def refused(capsys: pytest.CaptureFixture[str], *line: str) -> str:
    assert main(["fit", *line]) == 2
    *_, said = capsys.readouterr().err.splitlines()
    assert said.startswith("fgvr: ")
    return said


def test_groups_of_one_are_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = grpo_config(folder, "alone", sampling={"group_size": 1, "max_new_tokens": 8})
    said = refused(capsys, "--config", str(config))
    assert "sampling.group_size must be at least 2, got 1" in said
    assert not [*(folder / "alone").rglob("*.ckpt")]


@pytest.fixture
def mixed(folder: Path) -> Path:
    """A large photo of each bird, with a prompt of 36 tokens, among the small ones, with one of 31."""
    config = grpo_config(folder, "mixed")
    content = yaml.safe_load(config.read_text())
    data = content["data"]["init_args"]
    large = {"path": str(folder / "large"), "source": {"class_path": "fgvr.aviary.Aviary"}}
    large["source"]["init_args"] = {**BIRDS, "train": 1, "val": 0, "size": 84}
    data["train"].append(large)
    data |= {"epoch_length": None, "max_prompt_tokens": 32}
    config.write_text(yaml.safe_dump(content))
    return config


def test_prompts_that_are_too_long_end_the_run(mixed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(capsys, "--config", str(mixed))
    assert said.startswith("fgvr: at most 0.10% of the samples may be unusable, but 2 of the 160 of epoch 0 are: ")
    assert "(a prompt must fit into max_prompt_tokens=32, but that of " in said
    assert "has 36 tokens: lower pixels.max or raise it)" in said


def test_prompts_that_are_too_long_are_left_out_where_that_is_allowed(folder: Path, mixed: Path) -> None:
    run = folder / "lenient"
    options = ["--data.init_args.max_bad_share", "0.5", "--trainer.max_steps", "4", "--trainer.limit_val_batches", "0"]
    assert main(["fit", "--config", str(mixed), "--run.dir", str(run), *options]) == 0
    taken = json_rows(run / "samples.jsonl")
    long = {uid for row in taken for uid, _ in row["quarantined"]}
    answered = {row["uid"] for row in json_rows(run / "rollouts.jsonl")}
    assert long
    assert not long & answered
    assert long | answered == {uid for row in taken for uid in row["uids"]}
