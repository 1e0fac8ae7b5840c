"""`--within NAME` from the command line: a branch is evaluated and predicted, and what is left out is counted."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import pytest
import yaml
from hostile import write_folder

from fgvr.__main__ import main
from fgvr.shards.packing import pack
from fgvr.shards.plan import PackOptions
from fgvr.sources.image_folder import ImageFolder

ROOT = Path(__file__).parents[2]
PATHS = {"class 0": ["Owls", "class 0"], "class 1": ["Owls", "class 1"], "class 2": ["Wrens", "class 2"]}


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """configs/photos.yaml with a smaller model on four photos of each of three classes, one of them another family."""
    monkeypatch.setattr(sys, "argv", ["fgvr"])
    write_folder(tmp_path / "in", 3, 4)
    (tmp_path / "in/taxonomy.yaml").write_text(yaml.safe_dump({"ranks": ["family", "class"], "paths": PATHS}))
    pack(ImageFolder(tmp_path / "in"), tmp_path / "shards", PackOptions(val=0.5, test=0))
    settings = yaml.safe_load((ROOT / "configs/photos.yaml").read_text())
    settings["model"]["init_args"]["policy"]["backbone"]["init_args"] |= {
        **{"hidden": 64, "layers": 1, "vision_hidden": 64, "vision_layers": 1},
        "vocabulary": str(tmp_path / "shards/manifest.json"),
    }
    settings["model"]["init_args"]["max_new_tokens"] = 4
    settings["data"]["init_args"] |= {"workers": 0, "train": [{"path": str(tmp_path / "shards")}]}
    settings["run"]["dir"] = str(tmp_path / "run")
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(settings))
    return file


@pytest.mark.slow
def test_a_branch_is_evaluated_and_predicted(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    line = ["--config", str(config), "--ckpt_path", "none"]
    assert main(["validate", "--within", "owls", *line]) == 0
    figures = json.loads((tmp_path / "run/validate_metrics.json").read_text())
    assert (figures["seen/n"], figures["within"]) == (4, "Owls")
    said = capsys.readouterr().err
    assert "Within Owls: 2 of 3 classes." in said
    assert "Within Owls: 4 of 6 photos of val seen." in said
    assert "answers name nothing of it." in said
    assert main(["predict", *line, "--within=owls", "--data.init_args.predict", str(tmp_path / "in/class 2")]) == 0
    with (tmp_path / "run/predictions.csv").open(newline="", encoding="utf-8") as file:
        assert {row["family"] for row in csv.DictReader(file)} <= {"", "Owls"}
    assert main(["validate", *line, "--within", "Wrens"]) == 2
    assert "'Wrens' has 1: take a name above it, such as 'thing'" in capsys.readouterr().err
