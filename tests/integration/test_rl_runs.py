"""Reinforcement learning as it is really run: killed and resumed, measured from its start, shared by two processes."""

from __future__ import annotations

import json
import random
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from rl_run import (
    BIRDS,
    ROOT,
    Kill,
    divek_config,
    ends,
    grpo_config,
    json_rows,
    kill_after,
    sft_config,
    start,
    tapo_config,
)
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from toy_run import same_weights

from fgvr.__main__ import main
from fgvr.checkpoints.format import checkpoints_in, read_checkpoint
from fgvr.data import ClosedWorld
from fgvr.shards.manifest import load_manifest
from fgvr.shards.reading import ShardSet

KILLS = [("sampled", 2), ("refilling", 4), ("updating", 7)]
CHOICE_KILLS = [("sampled", 2), ("validating", 5), ("updating", 7), ("validating", 10)]
FILTERED = {"group_filter": {"score": "format", "low": 0.0, "high": 0.6}, "updates": 2}
VARIANTS: dict[str, dict[str, Any]] = {
    "filtered": FILTERED,
    "adapters": {"policy": {"lora": {"rank": 4, "alpha": 8}}, "kl": {"coefficient": 0.1}, "updates": 2},
    "reference": {"kl": {"coefficient": 0.1}, "epochs": 2, "entropy_coefficient": 0.01, "mask_truncated": True},
}
TRL_TAGS = {
    "reward", "reward_std", "rewards/exact/mean", "rewards/exact/std", "rewards/format/mean", "rewards/format/std",
    "frac_reward_zero_std", "completions/mean_length", "completions/min_length", "completions/max_length",
    "completions/clipped_ratio", "entropy", "clip_ratio/region_mean", "clip_ratio/low_mean", "clip_ratio/high_mean",
    "step_time", "num_tokens",
}  # fmt: skip
OF_THE_CLOCK = ("time/", "step_time", "memory/", "tokens/s")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds the birds, and the supervised run that every other one starts from."""
    folder = tmp_path_factory.mktemp("rl")
    ends(start(sft_config(folder), folder / "sft"))
    return folder


def config_of(folder: Path, variant: str) -> Path:
    kills = [{"class_path": "rl_run.Kill", "init_args": {"step": step, "moment": moment}} for moment, step in KILLS]
    return grpo_config(folder, variant, *kills, **VARIANTS[variant])


def spare(run: Path) -> Path:
    """Marks every chosen kill as done."""
    run.mkdir(exist_ok=True)
    for moment, step in KILLS:
        (run / Kill(step, moment).mark).touch()  # pyright: ignore[reportArgumentType]
    return run


@pytest.fixture(scope="module")
def whole(folder: Path) -> Path:
    """A run with a group filter and two steps to a rollout batch that nobody disturbed."""
    run = spare(folder / "filtered")
    ends(start(config_of(folder, "filtered"), run))
    return run


def curves(run: Path) -> dict[str, dict[int, float]]:
    events = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0}).Reload()
    names = [name for name in events.Tags()["scalars"] if not name.startswith(OF_THE_CLOCK)]
    return {name: {point.step: point.value for point in events.Scalars(name)} for name in names}


def final_figures(run: Path) -> dict[str, Any]:
    figures = json.loads((run / "final_metrics.json").read_text())
    assert figures.pop("seconds") > 0
    del figures["digest"]  # of the seconds too
    return figures


def assert_same_end(run: Path, whole: Path) -> None:
    """Every checkpoint's weights and optimiser state, every sample and completion, every final figure."""
    ours, theirs = (checkpoints_in(one / "checkpoints") for one in (run, whole))
    assert [path.name for path in ours] == [path.name for path in theirs]
    assert ours[-1].name == "step-00000012.ckpt"
    for path, other in zip(ours, theirs, strict=True):
        one, two = read_checkpoint(path), read_checkpoint(other)
        assert one["state_dict"]
        assert same_weights(one, two)
        assert one["lr_schedulers"] == two["lr_schedulers"]
        assert one["callbacks"]["Throughput"] == two["callbacks"]["Throughput"]
    for log in ("rollouts.jsonl", "samples.jsonl"):
        assert (run / log).read_text() == (whole / log).read_text()
    assert final_figures(run) == final_figures(whole)


def kill_at_chosen_moments(config: Path, run: Path) -> None:
    for _ in KILLS:
        ends(start(config, run), -signal.SIGKILL)
    assert {path.name for path in run.glob("killed-*")} == {f"killed-{moment}-{step}" for moment, step in KILLS}
    ends(start(config, run))


def kill_at_random(config: Path, run: Path, kills: int) -> None:
    dice, run = random.Random(kills), spare(run)
    for batches in sorted(dice.randrange(6) for _ in range(kills)):
        kill_after(start(config, run), run, batches, dice.random() / 4)
    ends(start(config, run))


@pytest.mark.slow
@pytest.mark.timeout(900)
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


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_run_of_choices_killed_in_training_and_in_two_steps_ends_as_if_it_had_not_been(folder: Path) -> None:
    kills = [
        {"class_path": "rl_run.Kill", "init_args": {"step": step, "moment": moment}} for moment, step in CHOICE_KILLS
    ]
    config = divek_config(folder, "choices", *kills)
    whole, killed = folder / "choices-whole", folder / "choices-killed"
    whole.mkdir()
    for moment, step in CHOICE_KILLS:
        (whole / Kill(step, moment).mark).touch()  # pyright: ignore[reportArgumentType]
    ends(start(config, whole))
    for _ in CHOICE_KILLS:
        ends(start(config, killed), -signal.SIGKILL)
    ends(start(config, killed))
    assert_same_end(killed, whole)
    assert curves(killed) == curves(whole)
    rows = [{file.name: file.read_bytes() for file in (run / "two_step").iterdir()} for run in (whole, killed)]
    assert {"step-00000000.jsonl", "step-00000010.jsonl", "step-00000010.html"} <= set(rows[0])
    assert rows[0] == rows[1]
    told = curves(whole)
    assert {"choice/guess_floor", "choice/above_guess", "options/3", "rewards/choice/mean"} <= set(told)
    assert set(told["choice/guess_floor"].values()) == {pytest.approx(1 / 3)}
    assert {"seen/two_step/accuracy", "novel/two_step/options"} <= set(told)
    before, after = (str(whole / f"two_step/step-{step:08}.jsonl") for step in (0, 10))
    assert main(["ladder", "--untrained", before, "--trained", after]) == 0


@pytest.mark.slow
def test_questions_in_divek_s_own_layout_are_packed_and_practised(folder: Path) -> None:
    photos, items = ShardSet(folder / "aviary", "train", ("seen",)), []
    task, draw = ClosedWorld(options=3).bind(photos.taxonomy), random.Random(0)
    (folder / "mcq").mkdir()
    for number in range(24):
        example = photos.read(number)
        (folder / f"mcq/{number}.jpg").write_bytes(example.images[0])
        names = task.shown(task.prepare(example, draw))
        options = "\n".join(f"{letter}. {name.lower()}" for letter, name in zip("ABC", names, strict=True))
        solution = f"<answer>{'ABC'[names.index(example.label)]}</answer>"
        items.append({"image_path": f"/theirs/{number}.jpg", "problem": f"Which?\n{options}", "solution": solution})
    (folder / "mcq/birds.json").write_text(json.dumps(items))
    source = ["--source", "ChoiceJSON", f"--source.file={folder / 'mcq/birds.json'}", "--source.prefix=/theirs"]
    assert main(["shards", *source, "--out", str(folder / "mcq_shards"), "--val=0.2", "--test=0"]) == 0
    config = yaml.safe_load(divek_config(folder, "mcq_run").read_text())
    config["data"]["init_args"]["train"] = [{"path": str(folder / "mcq_shards")}]
    config["trainer"] |= {"max_steps": 2, "val_check_interval": 2}
    (folder / "mcq_run.yaml").write_text(yaml.safe_dump(config))
    ends(start(folder / "mcq_run.yaml", folder / "mcq_run"))
    told = curves(folder / "mcq_run")
    assert set(told["options/3"].values()) == {1.0}
    assert {"rewards/choice/mean", "choice/guess_floor", "choice/above_guess"} <= set(told)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_run_of_triplets_killed_at_any_moment_ends_as_if_it_had_not_been(folder: Path) -> None:
    kills = [{"class_path": "rl_run.Kill", "init_args": {"step": step, "moment": moment}} for moment, step in KILLS]
    config = tapo_config(folder, "triplets", *kills, triplet={"gamma": 0.5, "annealed_over": 0.8}, **FILTERED)
    whole, killed = spare(folder / "triplets-whole"), folder / "triplets-killed"
    ends(start(config, whole))
    kill_at_chosen_moments(config, killed)
    assert_same_end(killed, whole)
    assert curves(killed) == curves(whole)
    assert {"divergence", "triplets/gamma", "triplets/exact/positive", "triplets/without_negative"} <= set(
        curves(whole)
    )
    states = [read_checkpoint(checkpoints_in(run / "checkpoints")[-1])["callbacks"] for run in (whole, killed)]
    assert states[0]["CollapseWatch"] == states[1]["CollapseWatch"]
    pairs = [{file.name: file.read_text() for file in (run / "triplets").iterdir()} for run in (whole, killed)]
    assert len(set(pairs[0].values())) > 1  # what is confused has changed them
    assert pairs[0] == pairs[1]
    streams = [read_checkpoint(checkpoints_in(run / "checkpoints")[-1])["TripletData"] for run in (whole, killed)]
    assert streams[0]["rivals"]["confused"]
    assert streams[0] == streams[1]
    photos = {row["photo"] for row in json_rows(whole / "rollouts.jsonl")}
    assert photos == {"anchor", "positive"}


@pytest.mark.slow
def test_triplets_are_frozen_by_the_tower_of_a_run(folder: Path) -> None:
    source = [f"--source.{name}={value}" for name, value in BIRDS.items()]
    measure = ["--triplets", "TowerCentroids", "--triplets.run", str(folder / "sft"), "--triplets.photos", "2"]
    out = folder / "by_tower"
    assert main(["shards", "--source", "Aviary", *source, "--out", str(out), *measure]) == 0
    manifest = load_manifest(out)
    assert manifest.options["triplets"]["similarity"] == {
        "kind": "TowerCentroids", "photos": 2, "every": None, "run": "sft"
    }  # fmt: skip
    entries = list(ShardSet(out, "train", ("seen",)).entries())
    assert {tuple(partner.view for partner in entry.partners) for entry in entries} == {("pos", "neg")}
    assert all(entry.label != entry.partners[1].label for entry in entries)


@pytest.mark.slow
@pytest.mark.timeout(900)
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


def two_ranks(config: Path, run: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCHELASTIC_RUN_ID": "rl"}
    options = ("--trainer.strategy=ddp", "--trainer.devices=2", "--trainer.max_steps=6")
    ranks = [start(config, run, *options, RANK=rank, LOCAL_RANK=rank, **shared) for rank in ("0", "1")]
    for process in ranks:
        ends(process)


def first_update(rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """What was sampled up to the first update, and by it."""
    end = min((row["epoch"], row["step"]) for row in rows if row["learned"])
    said = [(row["epoch"], row["step"], row["place"], row["completion"]) for row in rows]
    return sorted(entry for entry in said if entry[:2] <= end)


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
