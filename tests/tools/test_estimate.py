from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml

from fgvr.__main__ import main
from fgvr.models import TinyQwen
from fgvr.models.fitting import Training, changes
from fgvr.tools.estimate import Estimating

CONFIGS = Path(__file__).parents[2] / "configs"
CONFIG = CONFIGS / "grpo_qwen2_5_vl_3b.yaml"
NODES = str(CONFIGS / "hardware" / "nodes_fsdp2.yaml")
TINY = "{class_path: fgvr.models.TinyQwen, init_args: {vocabulary: [Wren], hidden: 64, vision_hidden: 64}}"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model of which there is nothing but its config."""
    monkeypatch.chdir(tmp_path)
    TinyQwen(["."], hidden=256, vision_hidden=64).config().save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def told(folder: Path, capsys: pytest.CaptureFixture[str], *args: str) -> str:
    path = f"--model.init_args.policy.backbone.init_args.path={folder}"
    assert main(["estimate", "--config", str(CONFIG), path, *args]) == 0
    return " ".join(capsys.readouterr().out.split())


def test_a_config_is_enough(folder: Path, capsys: pytest.CaptureFixture[str]):
    said = told(folder, capsys, "--config", str(CONFIGS / "hardware" / "one_gpu.yaml"))
    for part in ("weights", "optimizer", "reference", "gradients", "activations", "cache", "at the most", "one rank"):
        assert part in said
    assert "gathered" not in said, "parts that there are not"
    assert "fit" not in said.partition("Next, train: python -m fgvr ")[0], "without a room nothing is said of it"
    assert sorted(path.name for path in folder.parent.iterdir()) == ["model"], "neither a run nor data are made"


def test_a_room_is_answered_with_a_verdict_and_advice(folder: Path, capsys: pytest.CaptureFixture[str]):
    assert "It fits into 900 GiB" in told(folder, capsys, "--memory", "900")
    said = told(folder, capsys, "--memory", "1", "--data.init_args.eval_batch_size", "4096")
    assert "It does not fit into 1 GiB" in said
    assert "- data.init_args.eval_batch_size 2048: " in said


def reckoned(*args: str) -> Training:
    """What a config comes to."""
    with ExitStack() as stack:
        return Estimating(["fit", *args], stack).training


def with_engine(config: Path, engine: str) -> str:
    """A yaml to lay over a config, whose callbacks are those of it but for the engine that is told to one."""
    callbacks = yaml.safe_load(config.read_text())["trainer"]["callbacks"]
    (one,) = [one for one in callbacks if one["class_path"].endswith("RolloutGeneration")]
    one.setdefault("init_args", {})["engine"] = yaml.safe_load(engine)
    Path("engine.yaml").write_text(yaml.safe_dump({"trainer": {"callbacks": callbacks}}))
    return "engine.yaml"


@pytest.mark.parametrize(
    ("config", "args"),
    [
        ("grpo", ["--trainer.devices", "4", "--trainer.strategy", "ddp", "--model.init_args.updates", "2"]),
        ("divek_sft_name", ["--trainer.strategy", "fsdp2", "--trainer.devices", "2"]),
    ],
    ids=["ddp", "packed examples in parts"],
)
def test_what_is_advised_is_reckoned_as_the_config_that_it_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: str, args: list[str]
):
    """Typed as it is printed: `KEY VALUE`."""
    monkeypatch.chdir(tmp_path)
    path = CONFIGS / "aviary" / f"{config}.yaml"
    line = ["--config", str(path), *args, f"--model.init_args.policy.backbone={TINY}"]
    kinds: set[str] = set()
    for change in changes(reckoned(*line)):
        typed: list[str] = []
        for key, value in change.settings.items():
            engine = key == "RolloutGeneration's engine"
            typed += ["--config", with_engine(path, value)] if engine else [f"--{key}", value]
        assert reckoned(*line, *typed).footprint() == change.training.footprint(), change.settings
        kinds.add(change.kind)
    assert {"checkpointing", "micro-batch", "validation", "lora"} <= kinds
    assert ("engine" in kinds) == (config == "grpo")
    assert ("shards" in kinds) != ("offload" in kinds)


def test_the_quickstart_can_be_reckoned_before_its_data_are_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    assert main(["estimate", "--config", str(CONFIGS / "quickstart.yaml"), "--memory", "0.9"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert said.startswith("data/aviary/manifest.json is not there yet: reckoned with 1,024 tokens, the most there can")
    assert "It fits into 0.9 GiB" in said, "less than a GiB can be asked for"
    assert not list(tmp_path.iterdir())


def test_a_run_that_begins_from_one_that_is_not_there_says_what_to_reckon_with(
    folder: Path, capsys: pytest.CaptureFixture[str]
):
    line = ["estimate", "--config", str(CONFIGS / "aviary" / "grpo.yaml")]
    assert main(line) == 2
    error = capsys.readouterr().err
    assert "runs/quickstart, which is not there" in error
    option = "--model.init_args.policy.backbone"
    assert f"{option}.class_path fgvr.models.Pretrained {option}.init_args.path PATH (docs/models.md)" in error
    given = [f"{option}.class_path", "fgvr.models.Pretrained", f"{option}.init_args.path", str(folder)]
    assert main([*line, *given]) == 0, "as it was said"


def test_shards_are_counted_as_the_strategy_makes_them(folder: Path, capsys: pytest.CaptureFixture[str]):
    hybrid = told(folder, capsys, "--config", str(CONFIGS / "hardware" / "nodes_fsdp2.yaml"))
    assert "on 32 ranks, 8 of which share a copy" in hybrid
    assert "gathered" in hybrid
    short = told(folder, capsys, "--config", str(CONFIGS / "hardware" / "eight_gpus_fsdp2.yaml"))
    assert "on 8 ranks, 8 of which share a copy" in short


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["--memory", "0"], "--memory must be the GiB that a device has, above 0, got 0: give another number."),
        (["--memory", "-2"], "--memory must be the GiB that a device has, above 0, got -2"),
        (["--memory", ".nan"], "--memory must be the GiB that a device has, above 0, got nan"),
        (["--data.init_args.batch_size", "0"], "data.batch_size must be at least 1, got 0"),
        (["--config", NODES, "--trainer.num_nodes", "3"], "must be the 24 processes of the run, got 4 x 8"),
        (["--memory", "much"], "memory"),
        (["--trainer.precision", "16-mixed"], "trainer.precision must be"),
        (["--model.init_args.policy.backbone.init_args.path=/nowhere"], "there is no folder /nowhere"),
        (["--data.init_args.batch_sise", "1"], "batch_size"),
    ],
)
def test_a_mistake_is_a_sentence(folder: Path, capsys: pytest.CaptureFixture[str], args: list[str], sentence: str):
    path = f"--model.init_args.policy.backbone.init_args.path={folder}"
    assert main(["estimate", "--config", str(CONFIG), path, *args]) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert "Traceback" not in error


def test_it_has_a_help_of_its_own(capsys: pytest.CaptureFixture[str]):
    assert main(["estimate", "--help"]) == 0
    said = capsys.readouterr().out
    assert "fgvr estimate" in said
    assert "--memory" in said
