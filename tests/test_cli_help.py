from pathlib import Path
from typing import Any

import pytest
from jsonargparse import ArgumentParser

from fgvr.__main__ import main
from fgvr.cli_help import explain, one_line
from fgvr.runs.folder import RunFolder


@pytest.fixture
def parser() -> ArgumentParser:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--run", type=RunFolder)
    parser.add_argument("--trainer.max_steps", type=int, default=1)
    parser.add_argument("--model", type=object)
    return parser


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("run:\n  kep: 3", "there is no setting run.kep; the nearest is run.keep."),
        ("max_steps: 3", "there is no setting max_steps; the nearest is trainer.max_steps."),
        ("trainer:\n  zzz: 3", "there is no setting trainer.zzz; valid here are max_steps."),
        ("ckpt_path: x", "there is no setting ckpt_path; the nearest is run.resume."),
        ("run:\n  keep: 3\n  keep: 4", "line 3: found duplicate key keep."),
        ("- 1", "a config must be a mapping of settings."),
        (
            "model:\n  class_path: toy_run.ToyModl",
            "model: there is no ToyModl in toy_run; the nearest is toy_run.ToyModel.",
        ),
        (
            "model:\n  class_path: toy_run.ToyModel\n  init_args:\n    lrr: 3",
            "there is no setting model.init_args.lrr; the nearest is model.init_args.lr.",
        ),
        (
            "model:\n  class_path: toy_run.ToyModel\n  init_args:\n    shape:\n      widht: 3",
            "there is no setting model.init_args.shape.widht; the nearest is model.init_args.shape.width.",
        ),
        ("model:\n  class_path: toy_run.ToyModel\n  init: 3", "the nearest is model.init_args."),
    ],
)
def test_a_config_with_a_mistake(tmp_path: Path, parser: ArgumentParser, text: str, sentence: str) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(text)
    said = explain(parser, ["--config", str(file)], "the parser's own words")
    assert said.startswith(f"{file}: ")
    assert sentence in said


def test_a_mistake_on_the_command_line(tmp_path: Path, parser: ArgumentParser) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("model:\n  class_path: toy_run.ToyModel")
    line = ["--config", str(file)]
    assert "nearest is trainer.max_steps" in explain(parser, [*line, "--trainer.max_step=3"], "")
    assert "nearest is model.lr" in explain(parser, [*line, "--model.lrr", "3"], "")
    assert "nearest is run.allow_changed" in explain(parser, [*line, "--run.allow_change+", "config"], "")
    assert "there is no setting none.zzz: drop it." in explain(parser, [*line, "--none.zzz", "3"], "")
    assert explain(parser, [*line, "--run.keep", "-1"], "own words") == "own words"


def test_a_missing_file(parser: ArgumentParser) -> None:
    assert explain(parser, ["--config=nowhere.yaml"], "") == "nowhere.yaml: there is no such file."


def test_many_lines_become_one() -> None:
    raised = "Caught UserError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n"
    raised += "  x\nfgvr.errors.UserError: bad."
    assert one_line(raised) == "bad."
    parsed = (
        'Parser key "model":\n  Does not validate against any of the Union subtypes\n  Errors:\n'
        "    - Problem with given class_path 'a.B':\n        Parser key \"lr\":\n"
        "          Expected a <class 'float'>. Got value: abc\n    - Expected a <class 'NoneType'>\n"
        "  Given value type: x"
    )
    assert one_line(parsed) == "model: a.B: lr: must be of type float, got abc"


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (
            "shards --source Imagefolder --source.root x --out y",
            "--source: there is no class Imagefolder; the nearest is ImageFolder.",
        ),
        ("shards --source.root x --out y", "--source.root: say first whose setting this is: --source CLASS, one of"),
        ("shards --source ImageFolder --source.rot x --out y", "the nearest is source.root."),
        ("shards --out y", "source is required: give it in the config or as --source."),
        ("shards", "fgvr: source and out must be given: python -m fgvr shards --source SOURCE --out OUT."),
        ("shards tests --out y", "got tests: give it as --source auto tests."),
        ("shards auto tests --out y", "got auto: give it as --source auto tests."),
        ("shards --source tests --out y", "tests is a folder: Auto with this root looks which layout it has."),
        ("shards --source ./tests --out y", "./tests is a folder: Auto with this root looks which layout it has."),
        ("shards --source ./nowhere --out y", "./nowhere is no path of a class, which is as package.module.Class"),
        ("predict", "fgvr: model and photos must be given: python -m fgvr predict MODEL PHOTOS."),
        ("predict runs/x", "fgvr: photos must be given: python -m fgvr predict MODEL PHOTOS."),
        ("predict runs/x photos --sampels 3", "there is no setting sampels; the nearest is samples."),
        ("predict runs/x photos --abstain maybe", "--abstain: abstain must be true/false, got maybe."),
        ("predict runs/x photos --classes Finch", "classes must be a list of texts, such as [text], got Finch."),
        ("predict runs/x photos more", "more stands for no setting: give it with the setting that it is of"),
        ("report", "fgvr: runs and out must be given: python -m fgvr report RUN [RUN ...] --out OUT."),
        ("report runs/x --out", "fgvr: --out needs a value: --out VALUE."),
        ("export runs/x --out y", "fgvr: runs/x stands for no setting: give it as --ckpt runs/x."),
        ("audit data/x", "give it as --sets data/x."),
        ("doctor", "fgvr: A run's folder must be given: python -m fgvr doctor RUN."),
        ("fit configs/photos.yaml", "stands for no setting: give it as --config configs/photos.yaml."),
        ("shards --out y --source ImageFolder", "give it in the config or as --source.root."),
        ("cot --data d --out o --teacher ServedTeacher", "give it in the config or as --teacher.model."),
        ("cot --data d --out o --teacher LocalTeacher --teacher.model TinyQwen", "as --teacher.model.vocabulary."),
        ("fit --config configs/photos.yaml --model SFTT", "--model: there is no class SFTT; the nearest is SFT."),
        (
            "fit --config configs/photos.yaml --data.task OpenWrld",
            "there is no class OpenWrld; the nearest is OpenWorld.",
        ),
        ("fit --config configs/photos.yaml --model.optimizer.lrr 4", "the nearest is model.optimizer.lr."),
        (
            "fit --config configs/photos.yaml --model.optimizr.lr 4",
            "no setting model.optimizr; the nearest is model.optimizer.",
        ),
        (
            "fit --config configs/photos.yaml --model.policy.backbone.hiddn 4",
            "the nearest is model.policy.backbone.hidden.",
        ),
        ("fit --config configs/photos.yaml --data.task.questio x", "the nearest is data.task.question."),
        ("fit --config configs/photos.yaml --lr 4", "the nearest is model.init_args.optimizer.lr."),
        ("fit --config configs/photos.yaml --model.optimizer.help", "see --model.help."),
        ("fit --config configs/photos.yaml --ckpt_path x", "--model.init_args.policy.backbone fgvr.models.Trained"),
        *(
            (
                f"fit --config configs/photos.yaml --trainer.{line} --trainer.max_stepz 3",
                "there is no setting trainer.max_stepz; the nearest is trainer.max_steps.",
            )
            for line in ("strategy fsdp2", "strategy ddp", "accelerator cpu")
        ),
        ("fit --model.help Foo", "--model.help: there is no class Foo; there are "),
        (
            "fit --config configs/aviary/speciarl/binary.yaml",
            "--config configs/aviary/speciarl.yaml --config configs/aviary/speciarl/binary.yaml.",
        ),
        (
            "fit --config configs/speciarl/binary.yaml",
            "--config configs/speciarl_qwen2_5_vl_7b.yaml --config configs/speciarl/binary.yaml.",
        ),
    ],
)
def test_a_mistake_as_typed_is_one_sentence_with_what_to_type(capsys: Any, line: str, sentence: str) -> None:
    assert main(line.split()) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert sentence in said[0]


@pytest.mark.parametrize("option", ["--trainer.max_step", "--model.max_new", "--model.optimizer.l", "--conf"])
def test_the_beginning_of_a_setting_is_not_taken_for_it(capsys: Any, option: str) -> None:
    assert main(["fit", "--config", "configs/photos.yaml", option, "4"]) == 2
    assert f"there is no setting {option[2:]}; the nearest is {option[2:]}" in capsys.readouterr().err
