"""Every command says in the end what to do next, with the paths that it was given, and in commands that there are."""

from __future__ import annotations

import importlib
import inspect
import logging
import shlex
from pathlib import Path
from typing import Any

import pytest

from fgvr import next_steps as after
from fgvr.__main__ import PREDICT, RUNS, TOOLS, _tell, main
from fgvr.callbacks.sentences import sentences

ROOT = Path(__file__).parents[1]
RUN = Path("runs/mine")


def settings(backbone: str = "fgvr.models.TinyQwen", **init: Any) -> dict[str, Any]:
    return {
        "model": {"init_args": {"policy": {"backbone": {"class_path": backbone, "init_args": init}}}},
        "data": {"init_args": {"train": [{"path": "data/photos"}], "predict": "new photos"}},
        "trainer": {"fast_dev_run": False},
    }


DRAWN = {"path": "data/aviary", "source": {"class_path": "fgvr.aviary.Aviary"}}
SAID = {
    "shards": after.after_shards(Path("data/photos")),
    "shards, elsewhere": after.after_shards(Path("data/my birds")),
    "audit": after.after_audit([Path("data/photos")], Path("data/photos/audit/index.html"), False),
    "audit, with findings": after.after_audit([Path("data/photos")], Path("data/photos/audit/index.html"), True),
    "mine": after.after_options(Path("data/mined"), Path("data/mined/options.jsonl"), Path("data/photos"), "train", 60),
    "cot": after.after_thoughts(Path("data/cot/shards")),
    "export": after.after_export(Path("exports/mine"), "merge", RUN),
    "calibrate": after.after_calibrate(RUN, two_step=True),
    "judgements": after.after_judgements_out(Path("verdicts.jsonl")),
    "env": after.after_env(),
    "ladder": after.after_ladder(Path("runs/first/two_step/a.jsonl"), RUN / "two_step/b.jsonl"),
    "ladder, of files kept elsewhere": after.after_ladder(Path("a.jsonl"), Path("b.jsonl")),
    "ladder, untrained": after.after_ladder(Path("runs/first/two_step/a.jsonl"), None),
    "report": after.after_report(Path("report/index.html"), 1_200_000, [RUN]),
    "tasks": after.after_tasks("--model x --include_path tasks --tasks fgvr_test"),
    "prefetch": after.after_prefetch(["--config", "configs/photos.yaml"], lacking=0),
    "prefetch, with gaps": after.after_prefetch(["--config", "configs/photos.yaml"], lacking=2),
    "estimate": after.after_estimate(["--config", "configs/photos.yaml", "--memory", "80"]),
    "predict": after.after_predict(RUN, Path("predictions"), "predictions", None, None, False),
    "fit": after.after_run("fit", RUN, settings(), []),
    "fit, go on": after.after_run("fit", RUN, settings("fgvr.models.Trained", run="runs"), []),
    "validate": after.after_run("validate", RUN, settings(), [], RUN / "checkpoints/step-00000003.ckpt"),
    "validate, untrained": after.after_run("validate", RUN, settings(), ["--config", "c.yaml", "--ckpt_path", "none"]),
    "test": after.after_run("test", RUN, settings(), [], RUN / "checkpoints/step-00000003.ckpt"),
    "predict, by a config": after.after_run("predict", RUN, settings(), [], RUN / "checkpoints/step-00000003.ckpt"),
}


def test_the_sentences_name_the_paths_that_were_given(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(ROOT)
    assert (
        after.after_shards(Path("data/photos")) == "Next, train on it: python -m fgvr fit --config configs/photos.yaml"
    )
    assert shlex.split(after.after_shards(Path("data/my birds")).partition(": ")[2])[6:] == [
        *("--data.train", '[{"path": "data/my birds"}]'),
        *("--model.policy.backbone.vocabulary", "data/my birds/manifest.json"),
    ]
    fit = after.after_run("fit", RUN, settings(), []).splitlines()
    assert fit == [
        "The figures are in runs/mine/final_metrics.json.",
        "Next:",
        "  see the run: python -m fgvr report runs/mine --out runs/mine/report",
        "  name photos: python -m fgvr predict runs/mine PHOTOS",
        "  make its better answers likelier: python -m fgvr fit --config configs/photos_grpo.yaml "
        "--model.policy.backbone.run runs/mine",
    ]
    drawn = settings()
    drawn["data"]["init_args"]["train"] = [DRAWN]
    quick = after.after_run("fit", Path("runs/quickstart"), drawn, [])
    assert quick.splitlines()[-1].endswith(": python -m fgvr fit --config configs/aviary/grpo.yaml")
    assert "estimate" not in SAID["estimate"]
    assert "--memory" not in SAID["estimate"]
    assert SAID["estimate"].endswith("fit --config configs/photos.yaml")


def test_a_run_that_went_on_from_another_is_seen_beside_it(tmp_path: Path):
    """A pretrained start has no run, and one that is gone cannot be shown."""
    said = after.after_run("fit", RUN, settings("fgvr.models.Trained", run=str(tmp_path)), [])
    assert f"python -m fgvr report runs/mine {tmp_path} --out" in said
    for gone in (settings("fgvr.models.Trained", run="runs/gone"), settings("fgvr.models.Pretrained", path="Qwen/x")):
        said = after.after_run("fit", RUN, gone, [])
        assert "python -m fgvr report runs/mine --out" in said
        assert "configs/photos_grpo.yaml" not in said


def test_where_the_configs_are_not_at_hand_none_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert "configs/" not in after.after_shards(Path("data/photos"))
    assert '[{"path": "data/photos"}] as data.init_args.train' in after.after_shards(Path("data/photos"))
    assert "configs/" not in after.after_run("fit", RUN, settings(), [])


def test_an_evaluation_says_what_its_checkpoint_is_good_for():
    assert SAID["validate"].endswith("python -m fgvr calibrate runs/mine")
    elsewhere = after.after_run("validate", RUN, settings(), [], Path("runs/other/checkpoints/step-00000001.ckpt"))
    assert elsewhere.endswith("python -m fgvr calibrate runs/other/checkpoints/step-00000001.ckpt")
    assert SAID["validate, untrained"].endswith("train from it: python -m fgvr fit --config c.yaml")
    assert SAID["predict, by a config"].endswith("python -m fgvr predict runs/mine 'new photos'")
    tried = after.after_run(
        "fit", RUN, {"trainer": {"fast_dev_run": True}}, ["--trainer.fast_dev_run", "true", "-c", "x"]
    )
    assert tried == "Next, do it in earnest: python -m fgvr fit -c x"


def test_a_run_whose_answers_cannot_be_read_says_what_to_try():
    lost, fine = ({"seen/parse_failures": share, "unseen/parse_failures": 0.1} for share in (0.9, 0.2))
    first, *_ = after.after_run("fit", RUN, settings(), [], None, lost).splitlines()
    assert first.startswith(
        "The figures are in runs/mine/final_metrics.json. Up to 90% of the answers could not be read: "
    )
    assert "trainer.max_steps" in first
    assert "could not be read" not in after.after_run("fit", RUN, settings(), [], None, fine)


def test_photos_named_are_to_be_looked_at():
    """What may still be worth typing depends on whether the answers were bounded, or could have been."""
    bare, unheld, calibrated, bounded = (
        after.after_predict(RUN, Path("out"), "predictions", threshold, known, two_step)
        for threshold, known, two_step in (
            (None, None, False),
            (None, False, True),
            (None, True, False),
            (0.6, True, False),
        )
    )
    assert bare.startswith("Next, look at out/predictions.html; out/predictions.csv has the same")
    assert bare.endswith("calibrate it first: python -m fgvr calibrate runs/mine")
    assert unheld.endswith("on more photos: python -m fgvr calibrate runs/mine --two_step true")
    assert "With --abstain true" in calibrated
    assert bounded.endswith("a confidence of at least 0.6.")


def test_options_that_nothing_can_be_trained_on_are_only_looked_at():
    said = after.after_options(Path("data/mined"), Path("data/mined/options.jsonl"), Path("data/photos"), "val", 20)
    assert said == "Next, look at data/mined/sweep.png, or mine what can be trained on, with --split train."
    assert "data.init_args.train is [{path: data/photos, options: data/mined/options.jsonl}]" in SAID["mine"]
    none = after.after_options(Path("data/mined"), Path("data/mined/options.jsonl"), Path("data/photos"), "train", 0)
    assert none.endswith("so nothing can be learned. Next, see what the model says: data/mined/replies.jsonl")


def test_the_runs_that_a_ladder_is_of_are_seen_side_by_side():
    assert SAID["ladder"].endswith("side by side: python -m fgvr report runs/mine runs/first --out runs/mine/report")
    one = after.after_ladder(RUN / "two_step/step-00000000.jsonl", RUN / "two_step/step-00000160.jsonl")
    assert one == "Next, see the run: python -m fgvr report runs/mine --out runs/mine/report"
    assert SAID["ladder, of files kept elsewhere"].endswith("python -m fgvr report RUN OTHER --out DIR")


def test_an_option_is_left_out_with_its_value():
    line = ["--config", "a.yaml", "--memory", "80", "--memory=80", "--memory-x", "1"]
    assert after.without(line, "--memory") == ["--config", "a.yaml", "--memory-x", "1"]


@pytest.mark.parametrize("name", SAID)
def test_what_is_to_be_typed_is_a_command(name: str):
    said = SAID[name]
    assert "Next" in said
    for line in said.splitlines():
        for command in line.split("python -m fgvr ")[1:]:
            assert command.split()[0] in {*RUNS, *TOOLS}, line


@pytest.mark.parametrize("command", [*TOOLS, "predict"])
def test_every_tool_returns_what_is_said_last(command: str):
    tool = TOOLS.get(command, PREDICT)
    function = getattr(importlib.import_module(tool.module), tool.function)
    assert inspect.signature(function).return_annotation == "str"


def test_quiet_leaves_the_last_sentence_out(capsys: pytest.CaptureFixture[str]):
    assert main(["env"]) == 0
    whole = capsys.readouterr().out.splitlines()
    assert whole[-1] == after.after_env()
    assert main(["env", "--quiet"]) == 0
    assert capsys.readouterr().out.splitlines() == whole[:-1]
    _tell("Next, do this: python -m fgvr env\n  and \x1b[31mthat", quiet=False)
    assert capsys.readouterr().out == "Next, do this: python -m fgvr env\n  and \\x1b[31mthat\n"


def test_ranks_that_do_not_lead_say_nothing(capsys: pytest.CaptureFixture[str]):
    """Of a run the sentence is logged as information, which other ranks and a quiet run leave out."""
    for level in (logging.INFO, logging.WARNING, logging.ERROR):
        with sentences(level):
            logging.getLogger("fgvr.cli").info(SAID["fit"])
    assert capsys.readouterr().err == f"{SAID['fit']}\n"
