"""Settings that cannot be kept to, as typed: one sentence each that says what to type instead."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fgvr.__main__ import main

PHOTOS = str(Path(__file__).parents[2] / "configs" / "photos.yaml")


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)  # where no shards lie that a run could begin with


def refused(capsys: Any, *options: str) -> str:
    """What stands on the screen of a run that is refused before anything is built."""
    capsys.readouterr()
    assert main(["fit", "--config", PHOTOS, *options]) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("fgvr: ")
    return last


@pytest.mark.parametrize(
    ("yaml", "sentence"),
    [
        ("model: {init_args: {optimizer: {lr: null}}}", "model.init_args.optimizer.lr must be of type float, got null"),
        ("model: {init_args: {optimizer: null}}", "model.init_args.optimizer must be of type Optimizer, got null"),
        ("model: {init_args: {max_new_tokens: null}}", "model.init_args.max_new_tokens must be of type int, got null"),
        ("data: {init_args: {batch_size: null}}", "data.init_args.batch_size must be of type int, got null"),
        ("trainer: {max_steps: null}", "trainer.max_steps must be of type int, got null"),
        ("trainer: {devices: null}", "trainer.devices must be of type Union[list[int], str, int], got null"),
        ("trainer: {strategy: null}", "trainer.strategy must be of type Union[str, Strategy], got null: give one, or"),
        ("trainer: null", "trainer must be of type Trainer, got null"),
        ("run: {keep: null}", "run.keep must be of type int, got null"),
    ],
)
def test_a_null_where_something_must_stand(tmp_path: Path, capsys: Any, yaml: str, sentence: str):
    (tmp_path / "null.yaml").write_text(yaml)
    assert sentence in refused(capsys, "--config", str(tmp_path / "null.yaml"))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--trainer.devices", "two"), "trainer.devices must be how many devices to use, a list of their numbers or"),
        (("--trainer.devices", "0"), "is not a valid input using cpu accelerator"),
        (("--trainer.accelerator", "banana"), "trainer: You selected an invalid accelerator name"),
        (("--trainer.strategy", "deepspeed"), "trainer.strategy must be auto or ddp, got deepspeed: each device holds"),
        (("--trainer.strategy", "fsdp"), "set policy.lora, policy.freeze or policy.gradient_checkpointing, or lower"),
        (("--trainer.gradient_clip_val", "1.0"), "so set model.init_args.optimizer.max_grad_norm instead."),
        (("--trainer.gradient_clip_algorithm", "value"), "must be left out with SFT, got value"),
        (("--trainer.accumulate_grad_batches", "4"), "data.init_args.batch_size counts the examples of a whole step"),
    ],
)
def test_what_the_trainer_cannot_be_told(capsys: Any, options: tuple[str, ...], sentence: str):
    assert sentence in refused(capsys, *options)


def test_a_logger_whose_package_is_not_installed(tmp_path: Path, capsys: Any):
    file = tmp_path / "logger.yaml"
    file.write_text("trainer: {logger: {class_path: lightning.pytorch.loggers.CometLogger}}")
    said = refused(capsys, "--config", str(file))
    assert said.startswith("fgvr: lightning.pytorch.loggers.CometLogger needs the package comet")
    assert "which is not installed: pip install comet" in said


def test_what_lightning_takes_besides_is_no_mistake(capsys: Any):
    for options in (("--trainer.devices", "1"), ("--trainer.devices", "auto"), ("--trainer.strategy", "auto")):
        assert "data/photos" in refused(capsys, *options)  # only the shards are missing
