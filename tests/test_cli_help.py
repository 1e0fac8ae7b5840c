from pathlib import Path

import pytest
from jsonargparse import ArgumentParser

from fgvr.cli_help import class_parameters, config_files, explain, missing_class, nearest, one_line
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
    assert explain(parser, [*line, "--run.keep", "-1"], "own words") == "own words"


def test_a_missing_file(parser: ArgumentParser) -> None:
    assert explain(parser, ["--config=nowhere.yaml"], "") == "nowhere.yaml: there is no such file."


def test_where_configs_are_named() -> None:
    assert config_files(["--config", "a", "--x", "1", "--config=b", "-c", "d"]) == [Path("a"), Path("b"), Path("d")]


def test_classes_that_are_not_there() -> None:
    assert missing_class("toy_run.ToyModel") is None
    assert missing_class("fgvr.modulez.SFT") == "there is no modulez in fgvr; the nearest is fgvr.modules."
    assert missing_class("nowhere.at.All") == "there is no module nowhere to import nowhere.at.All from."
    assert missing_class("os.system") == "os.system is not a class."


def test_parameters_that_a_class_passes_on() -> None:
    assert {"monitor", "patience"} <= class_parameters(_early_stopping())


def _early_stopping() -> type:
    from lightning.pytorch.callbacks import EarlyStopping

    class Later(EarlyStopping):
        def __init__(self, begin: int = 0, **kwargs: object) -> None:
            super().__init__(**kwargs)  # pyright: ignore[reportArgumentType]

    return Later


def test_nearest() -> None:
    assert nearest("batchsize", ["batch_size", "workers"]) == "batch_size"
    assert nearest("zzz", ["batch_size"]) is None


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
