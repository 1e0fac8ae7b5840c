"""TAPO as it is really run: stopped by its watch, shared by two processes, with another reward, evaluated."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from conftest import photo
from killed_runs import assert_same_end, curves, kill_at_chosen_moments, killers, spare
from rl_run import BIRDS, FILTERED, ROOT, ends, first_update, json_rows, learn_sft, start, tapo_config, two_ranks

from fgvr.__main__ import main
from fgvr.checkpoints.format import checkpoints_in, read_checkpoint
from fgvr.shards.manifest import load_manifest
from fgvr.shards.reading import ShardSet

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds the birds, and the supervised run that every other one starts from."""
    folder = tmp_path_factory.mktemp("triplets")
    learn_sft(folder)
    return folder


def changed(config: Path, change: Any) -> Path:
    settings = yaml.safe_load(config.read_text())
    change(settings)
    config.write_text(yaml.safe_dump(settings))
    return config


def test_a_run_of_triplets_killed_at_any_moment_ends_as_if_it_had_not_been(folder: Path) -> None:
    config = tapo_config(folder, "triplets", *killers(), triplet={"gamma": 0.5, "annealed_over": 0.8}, **FILTERED)
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


def test_a_run_that_its_watch_stops_stops_there_again_when_it_is_queued_again(folder: Path) -> None:
    def alarmed(settings: dict[str, Any]) -> None:
        for one in settings["trainer"]["callbacks"]:
            if one["class_path"].endswith("CollapseWatch"):
                one |= {"class_path": "rl_run.Alarmed", "init_args": {"action": "stop", "window": 2}}

    config, run = changed(tapo_config(folder, "stopped"), alarmed), folder / "stopped"
    told = []
    for _ in range(2):
        (sentence,) = [line for line in ends(start(config, run), 2).splitlines() if line.startswith("fgvr: at step")]
        told.append(sentence)
        assert [path.name for path in checkpoints_in(run / "checkpoints")] == ["step-00000002.ckpt"]
        assert not (run / "final_metrics.json").exists()
    assert told[0] == told[1]
    assert told[0].startswith("fgvr: at step 4 the policy drives its divergence")


def test_two_processes_share_triplets_and_what_is_confused(folder: Path) -> None:
    keep = {"class_path": "rl_run.KeepWeights"}
    alone, run = folder / "alone", folder / "pair"
    ends(start(tapo_config(folder, "alone", keep), alone, "--trainer.max_steps=6"))
    two_ranks(tapo_config(folder, "pair", keep), run)
    first, second = (torch.load(run / f"weights.rank{rank}.pt") for rank in (0, 1))
    assert all(torch.equal(first[name], second[name]) for name in first)
    one = torch.load(alone / "weights.rank0.pt")
    assert all(torch.allclose(one[name], first[name], atol=1e-2) for name in one)
    shares = [json_rows(run / f"rollouts.rank{rank}.jsonl") for rank in (0, 1)]
    assert {row["photo"] for row in shares[1]} == {"anchor", "positive"}
    assert first_update([*shares[0], *shares[1]]) == first_update(json_rows(alone / "rollouts.jsonl"))
    pairs = [(folder / "triplets/epoch-0000.csv").read_text() for folder in (alone, run)]
    assert pairs[0] == pairs[1]
    states = [read_checkpoint(checkpoints_in(one / "checkpoints")[0])["TripletData"]["rivals"] for one in (alone, run)]
    assert states[0]["counts"]
    assert sum(row[-1] for row in states[0]["counts"]) == sum(row[-1] for row in states[1]["counts"])


def test_the_specificity_reward_composes_and_the_run_is_evaluated(folder: Path) -> None:
    """The reward and the class of configs/aviary/tapo_speciarl.yaml."""
    own = yaml.safe_load((ROOT / "configs/aviary/tapo_speciarl.yaml").read_text())["model"]

    def specific(settings: dict[str, Any]) -> None:
        settings["model"]["class_path"] = own["class_path"]
        settings["model"]["init_args"]["reward"] = own["init_args"]["reward"]

    config, run = changed(tapo_config(folder, "specific"), specific), folder / "specific"
    ends(start(config, run, "--trainer.max_steps=4"))
    figures = json.loads((run / "final_metrics.json").read_text())
    assert figures["step"] == 4
    ends(start(config, run, "--trainer.max_steps=4", verb="validate"))
    validated = json.loads((run / "validate_metrics.json").read_text())
    cohorts = {name for name in figures if name.startswith(("seen/", "unseen/", "novel/"))}
    assert cohorts
    assert {name: validated[name] for name in cohorts} == {name: figures[name] for name in cohorts}
    rows = json_rows(run / "rollouts.jsonl")
    assert {row["photo"] for row in rows} == {"anchor", "positive"}
    assert all("specificity" in row["rewards"] for row in rows)
    (folder / "new").mkdir()
    photo(56, 56, seed=1).save(folder / "new/bird.png")
    ends(start(config, run, "--trainer.max_steps=4", "--data.predict", str(folder / "new"), verb="predict"))
    with (run / "predictions.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 1
