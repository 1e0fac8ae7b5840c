from __future__ import annotations

from pathlib import Path

import pytest

from fgvr.__main__ import main
from fgvr.models import TinyQwen

CONFIGS = Path(__file__).parents[2] / "configs"
CONFIG = CONFIGS / "grpo_qwen2_5_vl_3b.yaml"


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
    assert "fit" not in said, "without a room nothing is said of it"
    assert sorted(path.name for path in folder.parent.iterdir()) == ["model"], "neither a run nor data are made"


def test_a_room_is_answered_with_a_verdict_and_advice(folder: Path, capsys: pytest.CaptureFixture[str]):
    assert "It fits into 900 GiB" in told(folder, capsys, "--memory", "900")
    said = told(folder, capsys, "--memory", "1", "--data.init_args.eval_batch_size", "4096")
    assert "It does not fit into 1 GiB" in said
    assert "data.init_args.eval_batch_size 2048" in said


def test_shards_are_counted_as_the_strategy_makes_them(folder: Path, capsys: pytest.CaptureFixture[str]):
    hybrid = told(folder, capsys, "--config", str(CONFIGS / "hardware" / "nodes_fsdp2.yaml"))
    assert "on 32 ranks, 8 of which share a copy" in hybrid
    assert "gathered" in hybrid
    short = told(folder, capsys, "--config", str(CONFIGS / "hardware" / "eight_gpus_fsdp2.yaml"))
    assert "on 8 ranks, 8 of which share a copy" in short


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["--memory", "0"], "estimate.memory must be at least 1, got 0"),
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
