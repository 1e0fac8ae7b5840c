"""The benchmarks measure what they say; TRL itself is not needed here."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

import pytest

from fgvr.judges.screen import screen
from fgvr.taxonomy.names import Names

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def grpo_step(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("grpo_step")


@pytest.mark.parametrize(("text", "sizes"), [("", []), ("4,8", [4, 8]), (" 4, 16 ,32", [4, 16, 32])])
def test_group_sizes_are_read(grpo_step, text, sizes):
    assert grpo_step.parse_groups(text) == sizes


@pytest.mark.parametrize("text", ["4", "4,4", "1,8", "4,x", "-4,8", "4.5,8"])
def test_group_sizes_that_make_no_line_are_refused(grpo_step, text):
    with pytest.raises(SystemExit, match=r"two group sizes or more, each above 1, such as 4,8,16,32, got"):
        grpo_step.parse_groups(text)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"px": 450}, "px must be a multiple of 28, .*got 450"),
        ({"vocab": 100}, "vocab must hold the tokenizer's 264 tokens, got 100"),
        ({"G": 1}, "a step needs a prompt, two completions and a token, got 1, 1 and 64"),
    ],
)
def test_a_setting_that_no_side_could_run_is_refused(grpo_step, wrong, sentence):
    with pytest.raises(SystemExit, match=sentence):
        grpo_step.Setting(**wrong)


def test_options_reach_the_setting(grpo_step):
    setting, options = grpo_step.read(["--G", "4", "--hidden", "64", "--groups", "4,8", "--json", "figures.json"])
    assert setting == grpo_step.Setting(G=4, hidden=64)
    assert options | {"json": str(options["json"])} == {
        "rounds": 5,
        "sizes": True,
        "shipped": False,
        "groups": "4,8",
        "json": "figures.json",
    }


def test_a_missing_trl_is_named(grpo_step, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match=r"TRL, which is not installed: pip install -e '\.\[bench\]'"):
        grpo_step.run(grpo_step.Setting())


def test_unique_work_by_hand(grpo_step):
    # 2 prompts of 100 tokens, 3 completions of 5: sampling reads 100 + 3 x 4, the update 100 + 3 x 5, for each prompt
    work = grpo_step.Setting(B=2, G=3, C=5, px=56).unique(100)
    assert work == {
        "vision_patches": 2 * 16,
        "decoder_tokens": 2 * (112 + 115),
        "head_rows": 2 * (1 + 3 * 4 + 15),  # the first tokens of all three come from one row
    }


def test_one_more_completion_takes_the_slope_of_the_medians(grpo_step):
    results = [{"setting": {"G": g}, "median": {"fgvr": {"step": s}}} for g, s in ((4, 0.5), (8, 0.9), (16, 1.7))]
    assert grpo_step.slope(results, "fgvr") == pytest.approx(0.1)  # 0.1 + 0.1 G


def test_fgvr_computes_each_prompt_once(grpo_step):
    setting = grpo_step.Setting(B=2, G=4, C=5, px=56, hidden=64, layers=2, vision_hidden=64, vision_layers=2, vocab=300)
    result = grpo_step.measure(("fgvr",), setting, rounds=1)
    unique, did = result["counts"]["unique"], result["counts"]["fgvr"]
    assert did["decoder_tokens"] == unique["decoder_tokens"]
    assert did["head_rows"] == unique["head_rows"]
    assert did["vision_patches"] == 2 * unique["vision_patches"]  # the tower is trained: once to sample, once to learn
    took = result["median"]["fgvr"]
    assert took["step"] == pytest.approx(took["generation"] + took["update"])
    assert all(len(entries) == 1 and entries[0] > 0 for entries in result["seconds"]["fgvr"].values())
    json.dumps(result)


@pytest.fixture
def judge_throughput(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("judge_throughput")


def test_a_share_of_a_steps_pairs_are_repeats_and_none_is_judged_without_a_model(judge_throughput):
    taxonomy, pairs, different = judge_throughput.drawn(500, 0.6)
    assert (len(pairs), len(set(pairs)), different) == (500, 200, 200)
    names = Names(taxonomy)
    assert all(screen(label, answer, names) is None for label, answer in pairs)


def test_judging_is_held_against_the_least_time_that_the_server_allows(judge_throughput, tmp_path):
    judge_throughput.main(pairs=200, delay=0.02, concurrency=16, rounds=1, json_file=tmp_path / "figures.json")
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert (figures["pairs"], figures["different"]) == (200, 80)
    assert figures["ideal"] == pytest.approx(5 * 0.02)  # 80 requests, 16 at a time
    assert figures["ratio"] == figures["seconds"][0] / figures["ideal"] > 1
    assert figures["cached"] < figures["seconds"][0]


@pytest.mark.slow
def test_runs_that_differ_by_their_threads_train_in_turns(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(FOLDER))
    contention = importlib.import_module("contention")
    monkeypatch.setattr(contention, "SETTINGS", {"two": {"OMP_NUM_THREADS": "2"}, "one": {"OMP_NUM_THREADS": "1"}})
    monkeypatch.chdir(tmp_path)  # the recipe draws its birds there
    small = re.sub(r"train: 120", "train: 2", (FOLDER.parent / "configs" / "quickstart.yaml").read_text())
    (tmp_path / "small.yaml").write_text(small)
    contention.main(tmp_path / "small.yaml", steps=1, rounds=1, busy=1, json_file=tmp_path / "figures.json")
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert list(figures) == ["two", "one"]
    assert all(len(seconds) == 1 and seconds[0] > 0 for row in figures.values() for seconds in row.values())
