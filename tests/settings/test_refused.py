"""Settings that cannot be kept to, as typed: one sentence each that says what to type instead."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from fgvr.__main__ import main
from fgvr.errors import UserError
from fgvr.settings.refused import refuse_numbers

PHOTOS = str(Path(__file__).parents[2] / "configs" / "photos.yaml")


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)  # where no shards lie that a run could begin with


def refused(capsys: Any, *options: str, verb: str = "fit") -> str:
    """What stands on the screen of a run that is refused before anything is built."""
    capsys.readouterr()
    assert main([verb, "--config", PHOTOS, *options]) == 2
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


def test_a_silence_shorter_than_a_judge_is_waited_for():
    server = {"patience": 3600.0, "timeout": 60.0}
    config = {"trainer": {}, "model": {"reward": {"judge": {"server": server}}}, "run": {"silence": 1800.0}}
    with pytest.raises(UserError, match=r"it is 1800 s and model\.reward\.judge\.server\.patience 3600 s: raise"):
        refuse_numbers(config)
    refuse_numbers(config | {"run": {"silence": None}})
    refuse_numbers(config | {"run": {"silence": 3700.0}})


def test_numbers_of_a_runs_watch_out_of_range(capsys: Any):
    assert "run.silence must be above 0 seconds, got 0.0: give null for any time" in refused(
        capsys, "--run.silence", "0"
    )
    assert "run.compare_every must be at least 1, got 0" in refused(capsys, "--run.compare_every", "0")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--trainer.devices", "two"), "trainer.devices must be how many devices to use, a list of their numbers or"),
        (("--trainer.devices", "0"), "is not a valid input using cpu accelerator"),
        (("--trainer.accelerator", "banana"), "trainer: You selected an invalid accelerator name"),
        (("--trainer.gradient_clip_val", "1.0"), "so set model.init_args.optimizer.max_grad_norm instead."),
        (("--trainer.gradient_clip_algorithm", "value"), "must be left out with SFT, got value"),
        (("--trainer.accumulate_grad_batches", "4"), "data.init_args.batch_size counts the examples of a whole step"),
    ],
)
def test_what_the_trainer_cannot_be_told(capsys: Any, options: tuple[str, ...], sentence: str):
    assert sentence in refused(capsys, *options)


OTHERS = {
    "deepspeed": "it brings an optimiser and checkpoints of its own",
    "deepspeed_stage_3": "it brings an optimiser and checkpoints of its own",
    "fsdp": "it cannot clip gradients by their norm, and writes checkpoints of its own",
    "fsdp_cpu_offload": "it cannot clip gradients by their norm, and writes checkpoints of its own",
    "ddp_spawn": "processes that it starts cannot tend one run's folder together",
    "ddp_notebook": "processes that it starts cannot tend one run's folder together",
    "lightning.pytorch.strategies.DeepSpeedStrategy": "it brings an optimiser and checkpoints of its own",
    "lightning.pytorch.strategies.FSDPStrategy": "it cannot clip gradients by their norm, and writes checkpoints of",
    "lightning.pytorch.strategies.ModelParallelStrategy": "it leaves the model in one piece, and writes checkpoints of",
}


@pytest.mark.parametrize("name", OTHERS)
def test_another_strategy_is_refused_and_ours_named(tmp_path: Path, capsys: Any, name: str):
    strategy = name if "." not in name else f"{{class_path: {name}}}"
    (tmp_path / "strategy.yaml").write_text(f"trainer: {{strategy: {strategy}}}")
    said = refused(capsys, "--config", str(tmp_path / "strategy.yaml"))
    assert f"trainer.strategy must be auto, ddp or fsdp2, got {name.rpartition('.')[2]} ({OTHERS[name]}" in said
    assert said.endswith("with fsdp2 (fgvr.strategies.FSDP2Strategy) a part of it.")


@pytest.mark.parametrize(
    ("name", "meant"), [("fsdpp", "fsdp2"), ("fsdp3", "fsdp2"), ("ddpp", "ddp"), ("autoo", "auto"), ("deepspeedd", "")]
)
def test_a_misspelt_strategy_is_no_other_one(capsys: Any, name: str, meant: str):
    said = refused(capsys, "--trainer.strategy", name)
    near = f"did you mean {meant}? With ddp each" if meant else "with ddp each"
    assert f"trainer.strategy must be auto, ddp or fsdp2, got {name}: {near} device holds the whole model" in said


@pytest.mark.parametrize(
    ("verb", "options", "devices", "sentence"),
    [
        ("fit", "replicate: 4, shard: 8", 24, "must be the 24 processes of the run, got 4 x 8: set shard to 6 or"),
        ("fit", "replicate: 2", 3, "strategy.replicate must divide the 3 processes of the run into equal shares, got"),
        ("validate", "replicate: 2", 3, "must divide the 3 processes of the run into equal shares, got 2"),
        ("estimate", "replicate: 16", 8, "must divide the 8 processes of the run into equal shares, got 16"),
    ],
)
def test_a_mesh_is_refused_before_a_process_starts(
    tmp_path: Path, capsys: Any, verb: str, options: str, devices: int, sentence: str
):
    file = tmp_path / "mesh.yaml"
    ours = f"{{class_path: fgvr.strategies.FSDP2Strategy, init_args: {{{options}}}}}"
    file.write_text(f"trainer: {{devices: {devices}, strategy: {ours}}}")
    none = ("--ckpt_path", "none") if verb == "validate" else ()
    said = refused(capsys, "--config", str(file), *none, verb=verb)
    assert sentence in said


@pytest.mark.parametrize(
    "strategy", ["fsdp2", "{class_path: fgvr.strategies.FSDP2Strategy, init_args: {replicate: 2}}"]
)
def test_processes_with_a_part_each_draw_from_one_seed(tmp_path: Path, capsys: Any, strategy: str):
    file = tmp_path / "parts.yaml"
    file.write_text(f"trainer: {{strategy: {strategy}}}")
    said = refused(capsys, "--config", str(file), "--seed_everything", "false")
    assert "seed_everything must be a number with the strategy fsdp2, got false" in said


PRECISION = "trainer.precision must be 32-true or bf16-mixed, got "
STRATEGY = "trainer.strategy must be auto, ddp or fsdp2, got fsdp (it cannot clip gradients by their"
DEVICES = "trainer.devices must be how many devices to use, a list of their numbers or"


@pytest.mark.parametrize(
    ("verb", "setting", "value", "sentence"),
    [
        ("validate", "precision", "bf16-true", f"{PRECISION}bf16-true: choose bf16-mixed"),
        ("validate", "precision", "64-true", f"{PRECISION}64-true"),
        ("validate", "precision", "16-mixed", f"{PRECISION}16-mixed"),
        ("validate", "devices", "two", DEVICES),
        ("validate", "strategy", "fsdp", STRATEGY),
        ("test", "precision", "64-true", PRECISION),
        ("test", "devices", "two", DEVICES),
        ("predict", "precision", "bf16-true", PRECISION),
        ("predict", "strategy", "fsdp", STRATEGY),
    ],
)
def test_an_evaluation_is_held_to_what_a_training_is(capsys: Any, verb: str, setting: str, value: str, sentence: str):
    assert sentence in refused(capsys, "--ckpt_path", "none", f"--trainer.{setting}", value, verb=verb)


@pytest.mark.parametrize("verb", ["validate", "test", "predict"])
def test_what_concerns_a_training_alone_is_no_mistake_of_an_evaluation(capsys: Any, verb: str):
    said = refused(capsys, "--ckpt_path", "none", "--trainer.accumulate_grad_batches", "4", verb=verb)
    assert "accumulate_grad_batches" not in said


def test_a_logger_whose_package_is_not_installed(tmp_path: Path, capsys: Any):
    file = tmp_path / "logger.yaml"
    file.write_text("trainer: {logger: {class_path: lightning.pytorch.loggers.CometLogger}}")
    said = refused(capsys, "--config", str(file))
    assert said.startswith("fgvr: lightning.pytorch.loggers.CometLogger needs the package comet")
    assert "which is not installed: pip install comet" in said


def test_what_lightning_takes_besides_is_no_mistake(capsys: Any):
    for options in (("--trainer.devices", "1"), ("--trainer.devices", "auto"), ("--trainer.strategy", "auto")):
        assert "data/photos" in refused(capsys, *options)  # only the shards are missing


@pytest.mark.skipif(torch.cuda.is_available(), reason="it is there")
@pytest.mark.parametrize("name", ["gpu", "cuda"])
def test_an_accelerator_that_is_not_there_says_what_to_set(capsys: Any, name: str):
    said = refused(capsys, "--trainer.accelerator", name)
    assert said.endswith("Set trainer.accelerator to cpu, or to auto for the best that there is.")


NUMBERS = {
    "--model.max_new_tokens 0": "model.max_new_tokens must be at least 1, got 0",
    "--model.optimizer.lr -1": "optimizer.lr must be above 0, got -1.0",
    "--model.optimizer.weight_decay -1": "optimizer.weight_decay must be at least 0, got -1.0",
    "--model.optimizer.eps -1": "optimizer.eps must be at least 0, got -1.0",
    "--model.optimizer.betas [0.9,1.0]": "optimizer.betas must be at least 0 and below 1, got (0.9, 1.0)",
    "--model.optimizer.lr .inf": "model.init_args.optimizer.lr must be a finite number, got inf",
    "--model.optimizer.weight_decay .nan": "model.init_args.optimizer.weight_decay must be a finite number, got nan",
    "--model.policy.backbone.hidden 0": "backbone.hidden must be at least 1, got 0",
    "--model.policy.backbone.heads -2": "backbone.heads must be at least 1, got -2",
    "--model.policy.backbone.layers 0": "backbone.layers must be at least 1, got 0",
    "--model.policy.backbone.vision_layers -2": "backbone.vision_layers must be at least 1, got -2",
    "--model.policy.backbone.tokens -2": "backbone.tokens must be at least 1, got -2",
    "--data.batch_size 0": "data.batch_size must be at least 1, got 0",
    "--data.eval_batch_size 0": "data.eval_batch_size must be at least 1, got 0",
    "--data.eval_examples 0": "data.eval_examples must be at least 1, got 0",
    "--data.epoch_length -2": "data.epoch_length must be at least 1, got -2",
    "--data.window 0": "data.window must be at least 1, got 0",
    "--data.workers -1": "data.workers must be at least 0, got -1",
    "--data.max_bad_share -2": "data.max_bad_share is a share and must be between 0 and 1, got -2.0",
    "--data.row_tokens 0": "data.row_tokens must be at least 1, got 0",
    "--data.train [{path: x, weight: 0}]": "data.train.weight must be above 0, got 0.0: leave x out instead",
    "--data.train [{path: x, examples: 0}]": "data.train.examples must be at least 1, got 0",
    "--data.train [{path: x, weight: .nan}]": "data.init_args.train[0].weight must be a finite number, got nan",
    "--trainer.max_steps 0": "trainer.max_steps must be at least 1, or -1 for as many as max_epochs makes, got 0.",
    "--trainer.max_epochs 0": "trainer.max_epochs must be at least 1, or -1 for no end but max_steps, got 0.",
    "--trainer.min_steps -2": "trainer.min_steps must be at least 0, or null, got -2.",
    "--trainer.val_check_interval 0": "got 0: to train without validation set trainer.limit_val_batches to 0.",
    "--trainer.check_val_every_n_epoch 0": "trainer.check_val_every_n_epoch must be at least 1, or null to count",
    "--trainer.log_every_n_steps 0": "trainer.log_every_n_steps must be at least 1, got 0.",
    "--trainer.max_time 5 minutes": "trainer.max_time must have the form DD:HH:MM:SS, got 5 minutes: five minutes are",
    "--seed_everything -2": "seed_everything must be at least 0 and below 4294967296, got -2",
}


@pytest.mark.parametrize("line", NUMBERS)
def test_a_number_that_nothing_can_be_done_with_names_its_setting(capsys: Any, line: str):
    key, _, value = line.partition(" ")
    assert NUMBERS[line] in refused(capsys, key, value)


@pytest.mark.parametrize("key", ["max_new_tokens", "updates", "epochs", "micro_batch_tokens"])
def test_a_number_of_grpo_names_itself_too(capsys: Any, key: str):
    options = ("--model", "GRPO", "--model.reward", "Exact", f"--model.{key}", "0")
    assert f"model.{key} must be at least 1, got 0" in refused(capsys, *options)
