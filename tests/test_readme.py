"""What the README tells a newcomer to type is typed here."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from benchmark_trees import cub
from conftest import photo
from PIL import Image

from fgvr.__main__ import main
from fgvr.aviary.source import Aviary

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PHOTOS = (ROOT / "docs" / "photos.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
PATH = next(block for block in BLOCKS if "--source ImageFolder" in block)


def run(line: str, folder: Path) -> str:
    words = shlex.split(line)
    if words[:1] == ["python"]:
        words[0] = sys.executable
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_the_test_command_is_what_ci_runs():
    ci = (ROOT / ".ci" / "run").read_text()
    install, tests = next(block for block in BLOCKS if "pytest" in block).strip().split(" && ")
    assert install.replace("pip install", "pip install -q") in ci
    assert f"\n{tests}\n" in ci


def test_the_first_command_installs_and_trains_the_quickstart():
    assert BLOCKS[0].strip() == "pip install -e . && python -m fgvr fit --config configs/quickstart.yaml"


def test_the_page_on_photos_has_the_five_commands_of_the_readme():
    assert PATH in PHOTOS
    assert [line.split()[3] for line in PATH.splitlines()] == ["shards", "fit", "fit", "report", "predict"]


def test_nothing_in_the_readme_waits_to_be_filled_in():
    assert not re.findall(r"^[A-Z ]{4,}$|TODO|TBD", README, re.MULTILINE)


def test_every_file_the_readme_names_is_there():
    for name in re.findall(r"\((assets/[^)]+|[A-Z]+\.md)\)|`(configs/[\w/]+\.yaml|fgvr/[\w/]+\.py)`", README):
        path = "".join(name)
        assert (ROOT / path).is_file(), path


def draw_photos(folder: Path) -> None:
    """A user's folder: the configs, and twelve drawn photos of each of four classes in files of several kinds."""
    (folder / "configs").symlink_to(ROOT / "configs")
    aviary = Aviary(species=48, unseen=0, size=96)
    suffixes = ("jpg", "PNG", "webp")
    for number, species in enumerate(aviary.species[::12]):
        place = folder / "photos" / species
        place.mkdir(parents=True)
        for index in range(12):
            picture = aviary.draw(species, index).resize((120, 80), Image.Resampling.BICUBIC)
            picture.save(place / f"{number}-{index}.{suffixes[index % 3]}")


def named(said: str) -> list[str]:
    """The lines of a page that name photos, but for those within a family that these birds do not have."""
    lines = [line for line in said.splitlines() if line.startswith("python -m fgvr predict")]
    return [line for line in lines if "Parulidae" not in line]


@pytest.mark.slow
def test_a_folder_of_photos_packs_trains_exports_and_is_named(tmp_path: Path):
    draw_photos(tmp_path)
    packed, fitted = PATH.splitlines()[:2]
    exported = next(line for line in PHOTOS.splitlines() if line.startswith("python -m fgvr export"))
    run(packed, tmp_path)
    manifest = json.loads((tmp_path / "data" / "photos" / "manifest.json").read_text())
    assert sum(sum(labels.values()) for labels in manifest["counts"].values()) == 48
    run(fitted + " --trainer.max_steps 12 --trainer.val_check_interval 12", tmp_path)
    figures = json.loads((tmp_path / "runs" / "photos" / "final_metrics.json").read_text())
    assert figures["step"] == 12
    assert figures["seen/n"] == 8  # a fifth of twelve, for each of four classes
    run(exported, tmp_path)
    assert (tmp_path / "exports" / "photos" / "model.safetensors").is_file()
    (tmp_path / "new_photos").mkdir()
    photo().save(tmp_path / "new_photos" / "one.jpg")
    by_run = "python -m fgvr predict runs/photos new_photos"
    lines = {by_run, *(line for line in named(PHOTOS) if "--config" in line)}
    assert len(lines) == 3  # by the run, by its config as it was taught, and from a list of all classes
    for line in lines:
        run(line, tmp_path)
        place = tmp_path / "runs" / "photos" if "--config" in line else tmp_path / "predictions"
        rows = (place / "predictions.csv").read_text().splitlines()
        assert rows[1].startswith('"one.jpg"')


@pytest.mark.slow
def test_an_unpacked_benchmark_becomes_a_model_in_three_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["fgvr"])
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    birds = ("001.Black_footed_Albatross", "023.Brandt's_Cormorant", "051.Horned_Grebe", "200.Common_Yellowthroat")
    cub(tmp_path / "CUB_200_2011", birds, each=12)
    page = (ROOT / "docs/datasets.md").read_text(encoding="utf-8")
    packed, fitted, exported = re.findall(r"```bash\n(.*?)```", page, re.DOTALL)[0].strip().splitlines()
    assert all(line.startswith("python -m fgvr ") for line in (packed, fitted, exported))
    assert main(packed.split()[3:]) == 0
    assert "CUB_200_2011 is read as CUB: it has images.txt" in capsys.readouterr().out
    counts = json.loads((tmp_path / "data/photos/manifest.json").read_text())["counts"]
    assert {split: sum(of.values()) for split, of in counts.items()} == {"train": 20, "val": 4, "test": 24}
    assert main([*fitted.split()[3:], "--trainer.max_steps", "4", "--trainer.val_check_interval", "4"]) == 0
    figures = json.loads((tmp_path / "runs/photos/final_metrics.json").read_text())
    assert (figures["step"], figures["seen/n"]) == (4, 4)
    assert main(exported.split()[3:]) == 0
    assert (tmp_path / "exports/photos/model.safetensors").is_file()


@pytest.mark.slow
def test_reinforcement_learning_goes_on_from_ones_own_model_with_its_own_question(tmp_path: Path):
    draw_photos(tmp_path)
    packed, fitted, _, reported, used = PATH.splitlines()
    run(packed, tmp_path)
    taught = "--data.task.question 'Which bird is this?'"
    run(f"{fitted} {taught} --trainer.max_steps 60 --trainer.val_check_interval 60", tmp_path)
    end = json.loads((tmp_path / "runs/photos/final_metrics.json").read_text())
    for name in ("photos_grpo", "photos_speciarl"):
        line = f"python -m fgvr fit --config configs/{name}.yaml"
        said = run(f"{line} --trainer.max_steps 2 --trainer.val_check_interval 2", tmp_path)
        assert "was taught to answer" not in said
        figures = json.loads((tmp_path / "runs" / name / "final_metrics.json").read_text())
        for key in ("seen/exact", "seen/parse_failures"):
            assert figures[f"start/{key}"] == pytest.approx(end[key])  # it is asked what it was taught
        settings = yaml.safe_load((tmp_path / "runs" / name / "config.yaml").read_text())
        assert settings["data"]["init_args"]["task"]["init_args"]["question"] == "Which bird is this?"
    run(reported, tmp_path)
    assert "runs/photos_grpo" in (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
    (tmp_path / "new_photos").mkdir()
    photo().save(tmp_path / "new_photos" / "one.jpg")
    run(used, tmp_path)
    assert (tmp_path / "predictions" / "predictions.csv").read_text().splitlines()[1].startswith('"one.jpg"')
    other = "--run.dir runs/other --data.task OpenWorld --data.task.question 'Say AB.' --model.max_new_tokens 1"
    words = [sys.executable, *shlex.split(line)[1:], *shlex.split(other)]
    refused = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=280)
    assert refused.returncode == 2
    assert "This run asks 'Say AB. Give" in refused.stderr
    assert "seen/parse_failures 1.000 break it" in refused.stderr.splitlines()[-1]


@pytest.mark.parametrize("picture", sorted((ROOT / "assets").glob("*.png")), ids=lambda path: path.name)
def test_pictures_are_pictures(picture: Path):
    with Image.open(picture) as image:
        assert image.width > photo().width
