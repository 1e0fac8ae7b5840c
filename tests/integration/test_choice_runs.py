"""Runs of choices as they are really run: killed in training, two steps and mining, and shared by two processes."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import torch
import yaml
from killed_runs import assert_same_end, curves, kill_at_chosen_moments, killers, spare
from rl_run import FRESH, Moment, divek_config, ends, learn_sft, mine_options, refreshed_config, start, two_ranks

from fgvr.__main__ import main
from fgvr.checkpoints.format import checkpoints_in, read_checkpoint
from fgvr.data import ClosedWorld
from fgvr.options.store import read_store
from fgvr.shards.reading import ShardSet

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

CHOICE_KILLS: list[tuple[Moment, int]] = [("sampled", 2), ("validating", 5), ("updating", 7), ("validating", 10)]
REFRESH_KILLS: list[tuple[Moment, int]] = [
    ("mining", 4), ("sampled", 5), ("mining", 8), ("updating", 9), ("validating", 10)
]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds the birds, the supervised run that every other one starts from, and options."""
    folder = tmp_path_factory.mktemp("choices")
    learn_sft(folder)
    mine_options(folder)
    return folder


def test_a_run_of_choices_killed_in_training_and_in_two_steps_ends_as_if_it_had_not_been(folder: Path) -> None:
    config = divek_config(folder, "choices", *killers(CHOICE_KILLS))
    whole, killed = spare(folder / "choices-whole", CHOICE_KILLS), folder / "choices-killed"
    ends(start(config, whole, **FRESH))  # no fork, as the killed ones are
    kill_at_chosen_moments(config, killed, CHOICE_KILLS)
    assert_same_end(killed, whole)
    assert curves(killed) == curves(whole)
    rows = [{file.name: file.read_bytes() for file in (run / "two_step").iterdir()} for run in (whole, killed)]
    assert {"step-00000000.jsonl", "step-00000010.jsonl", "step-00000010.html"} <= set(rows[0])
    assert rows[0] == rows[1]
    told = curves(whole)
    assert {"choice/guess_floor", "choice/above_guess", "options/3", "rewards/choice/mean"} <= set(told)
    assert all(floor == pytest.approx(1 / 3) for floor in told["choice/guess_floor"].values())
    assert {"seen/two_step/accuracy", "novel/two_step/options"} <= set(told)
    before, after = (str(whole / f"two_step/step-{step:08}.jsonl") for step in (0, 10))
    assert main(["ladder", "--untrained", before, "--trained", after]) == 0


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


def test_a_run_whose_options_are_mined_anew_ends_as_if_it_had_not_been_killed_in_mining(folder: Path) -> None:
    config = refreshed_config(folder, "refreshed", *killers(REFRESH_KILLS))
    whole, killed = spare(folder / "refreshed-whole", REFRESH_KILLS), folder / "refreshed-killed"
    assert ends(start(config, whole)).count("Options of 30 photos were mined anew after step") == 2
    assert "is sampled anew" not in kill_at_chosen_moments(config, killed, REFRESH_KILLS)
    assert_same_end(killed, whole)
    assert curves(killed) == curves(whole)
    files = {file.relative_to(whole) for file in (whole / "options").rglob("*.jsonl")}
    at = [Path("options/step-00000004-epoch-0001"), Path("options/step-00000008-epoch-0002")]
    assert files == {folder / name for folder in at for name in ("replies.jsonl", "options.jsonl")}
    assert files == {file.relative_to(killed) for file in (killed / "options").rglob("*.jsonl")}
    for file in files:
        assert (killed / file).read_bytes() == (whole / file).read_bytes(), file
    made, photos = read_store(whole / at[0] / "replies.jsonl")
    again, others = read_store(whole / at[1] / "replies.jsonl")
    assert made.model != again.model
    assert not {photo.uid for photo in photos} & {photo.uid for photo in others}, "photos are asked by turns"
    assert made.held_out
    aged = curves(whole)["options/staleness"]
    assert set(aged) == {4, 8}
    assert all(0 < figure <= 1 for figure in aged.values())
    assert set(curves(whole)["options/asked"].values()) == {30}


def test_two_processes_mine_together_and_train_on_the_same_options(folder: Path) -> None:
    run = folder / "refreshed-pair"
    two_ranks(refreshed_config(folder, "refreshed-pair", {"class_path": "rl_run.KeepWeights"}), run)
    first, second = (torch.load(run / f"weights.rank{rank}.pt") for rank in (0, 1))
    assert all(torch.equal(first[name], second[name]) for name in first)
    (file,) = (run / "options").rglob("replies.jsonl")
    assert len(read_store(file)[1]) == 30
    saved = read_checkpoint(checkpoints_in(run / "checkpoints")[-1])
    assert saved["PromptData"]["renewed"]["epoch"] == 1
