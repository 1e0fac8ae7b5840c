"""Every shipped config is read, checked against what it configures, and printed, without a model being built."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from fgvr.__main__ import main

CONFIGS = Path(__file__).parents[1] / "configs"
METHODS = sorted(path for path in CONFIGS.rglob("*.yaml") if "hardware" not in path.parts)
HARDWARE = sorted((CONFIGS / "hardware").glob("*.yaml"))


@pytest.mark.parametrize("config", METHODS, ids=lambda path: path.stem)
def test_a_config_prints_itself_whole(config: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["fit", "--config", str(config), "--print_config"]) == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    own = yaml.safe_load(config.read_text())
    assert printed["model"]["class_path"].startswith("fgvr.modules")
    assert printed["run"]["dir"] == own["run"]["dir"] == f"runs/{config.stem}"
    assert printed["model"]["init_args"]["optimizer"]["lr"] == own["model"]["init_args"]["optimizer"]["lr"]


@pytest.mark.parametrize("hardware", HARDWARE, ids=lambda path: path.stem)
def test_hardware_goes_on_top_and_leaves_the_callbacks_alone(hardware: Path, capsys: pytest.CaptureFixture[str]):
    own = yaml.safe_load(hardware.read_text())
    assert set(own) == {"trainer"}
    assert "callbacks" not in own["trainer"]
    assert main(["fit", "--config", str(METHODS[0]), "--config", str(hardware), "--print_config"]) == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed["trainer"]["precision"] == own["trainer"]["precision"]
    named = yaml.safe_load(METHODS[0].read_text())["trainer"]["callbacks"]
    assert [one["class_path"] for one in printed["trainer"]["callbacks"]] == [one["class_path"] for one in named]


@pytest.mark.parametrize("config", METHODS, ids=lambda path: path.stem)
def test_a_misspelt_key_is_named_with_its_nearest(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    values = yaml.safe_load(config.read_text())
    values["data"]["init_args"]["batch_sise"] = values["data"]["init_args"].pop("batch_size")
    file = tmp_path / "bad.yaml"
    file.write_text(yaml.safe_dump(values))
    assert main(["fit", "--config", str(file)]) == 2
    error = capsys.readouterr().err
    assert "batch_sise" in error
    assert "batch_size" in error
    assert "Traceback" not in error
