"""From a run's checkpoint and a folder of photos to a table of names, by the command itself."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import pytest
import yaml
from conftest import NAMES, photo

from fgvr.__main__ import main
from fgvr.shards.packing import pack
from fgvr.sources.image_folder import ImageFolder

ROOT = Path(__file__).parents[2]


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """configs/photos.yaml on eight photos, with a smaller model and two steps."""
    monkeypatch.setattr(sys, "argv", ["fgvr"])
    for number, name in enumerate(NAMES):
        folder = tmp_path / "labelled" / "train" / name
        folder.mkdir(parents=True)
        for index in range(2):
            photo(56, 56, seed=10 * number + index).save(folder / f"{index}.png")
    pack(ImageFolder(tmp_path / "labelled"), tmp_path / "shards")
    settings = yaml.safe_load((ROOT / "configs" / "photos.yaml").read_text())
    settings["model"]["init_args"]["policy"]["backbone"]["init_args"] |= {
        "vocabulary": str(tmp_path / "shards" / "manifest.json"),
        "hidden": 64,
        "layers": 1,
        "vision_hidden": 64,
        "vision_layers": 1,
    }
    settings["model"]["init_args"]["max_new_tokens"] = 4
    settings["data"]["init_args"] |= {"batch_size": 4, "workers": 0, "eval_batch_size": 2}
    settings["data"]["init_args"]["train"][0]["path"] = str(tmp_path / "shards")
    settings["trainer"] |= {
        "max_steps": 2,
        "limit_val_batches": 0,
        "log_every_n_steps": 1,
        "enable_model_summary": False,
    }
    settings["run"] |= {"dir": str(tmp_path / "run"), "save_every": 1, "allow_changed": ["code"]}
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(settings))
    return file


def test_a_run_names_the_photos_of_a_folder(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["--config", str(config)]
    assert main(["fit", *line]) == 0
    folder = tmp_path / "new"
    (folder / "walk").mkdir(parents=True)
    for number, name in enumerate(["walk/a.JPG", "b.png", "c.webp"]):
        photo(60 + 20 * number, 50, seed=number).save(folder / name)
    (folder / "broken.jpg").write_bytes((folder / "walk" / "a.JPG").read_bytes()[:300])
    capsys.readouterr()
    assert main(["predict", *line, "--data.init_args.predict", str(folder)]) == 0
    with (tmp_path / "run" / "predictions.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["file", "answer", "class", "completion", "error"]
    assert [row["file"] for row in rows] == ["b.png", "broken.jpg", "c.webp", "walk/a.JPG"]
    assert [bool(row["error"]) for row in rows] == [False, True, False, False]
    err = capsys.readouterr().err
    assert "not used: broken.jpg" in err
    assert "Of 4 photos, " in err
    assert "step-00000002.ckpt" in err

    assert main(["predict", *line, "--data.init_args.predict", str(folder / "b.png"), "--ckpt_path", "none"]) == 0
    assert len((tmp_path / "run" / "predictions.csv").read_text().splitlines()) >= 2
    assert main(["predict", *line]) == 2
    assert "predicting needs photos" in capsys.readouterr().err
    closed = ["--data.init_args.predict", str(folder), "--data.init_args.task", "fgvr.data.ClosedWorld"]
    assert main(["predict", *line, *closed]) == 2
    assert "give --data.init_args.task fgvr.data.OpenWorld" in capsys.readouterr().err
    # the setting says nothing of what is learned, so a run goes on with it or without
    assert main(["fit", *line, "--data.init_args.predict", str(folder)]) == 0
