"""What docs/extending.md shows is what lies in examples/extensions, and each of them takes part in a run."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from pathlib import Path

import pytest
from killed_runs import curves
from rl_run import divek_config, ends, grpo_config, learn_sft, mine_options, speciarl_config, start
from warm_start import Warm

from fgvr.__main__ import _import_from_here, main
from fgvr.aviary import Aviary

ROOT = Path(__file__).parents[1]
EXTENSIONS = ROOT / "examples/extensions"
PAGE = (ROOT / "docs/extending.md").read_text(encoding="utf-8")
SHOWN = dict(re.findall(r"`(examples/extensions/[\w.]+)`:\n\n```\w+\n(.*?)```", PAGE, re.DOTALL))
LONG = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_the_page_shows_every_file_whole():
    there = {path.relative_to(ROOT).as_posix(): path for path in sorted(EXTENSIONS.iterdir()) if path.is_file()}
    assert {name: path.read_text(encoding="utf-8") for name, path in there.items()} == SHOWN


def test_an_extension_is_a_source_file_a_yaml_and_a_test():
    names = {path.stem for path in EXTENSIONS.glob("*.yaml")}
    assert len(names) == 6
    assert set(SHOWN) == {
        f"examples/extensions/{file}" for name in names for file in (f"{name}.py", f"{name}.yaml", f"test_{name}.py")
    }


def test_classes_are_found_where_the_command_is_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["/opt/bin"])  # as the script `fgvr` begins
    _import_from_here()
    assert sys.path == [str(tmp_path), "/opt/bin"]
    _import_from_here()
    assert sys.path == [str(tmp_path), "/opt/bin"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds the birds, the supervised run that every other one starts from, and options."""
    folder = tmp_path_factory.mktemp("extended")
    learn_sft(folder)
    mine_options(folder)
    return folder


@pytest.fixture
def _here(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(EXTENSIONS)


def two_steps(config: Path, name: str) -> set[str]:
    """The figures of a run of two steps with an extension's yaml over a config, typed where it lies."""
    run = config.parent / name
    steps = ("--trainer.max_steps", "2", "--trainer.val_check_interval", "2")
    ends(start(config, run, "--config", f"{name}.yaml", "--run.dir", str(run), *steps))
    assert json.loads((run / "final_metrics.json").read_text())["step"] == 2
    return set(curves(run))


@pytest.mark.usefixtures("_here")
class TestInARun:
    pytestmark = LONG

    def test_a_reward(self, folder: Path):
        assert {"rewards/near/mean", "rewards/exact/mean"} <= two_steps(grpo_config(folder, "grpo"), "wu_palmer")

    def test_a_kl_estimator(self, folder: Path):
        assert "kl" in two_steps(grpo_config(folder, "held"), "hellinger")

    def test_a_judge(self, folder: Path):
        told = two_steps(speciarl_config(folder, "specific"), "at_rank")
        assert {"rewards/specificity/mean", "verdicts/more_specific"} <= told

    def test_an_option_source(self, folder: Path):
        out = folder / "relatives"
        out.mkdir()
        shutil.copy(folder / "mined/replies.jsonl", out)
        line = ["mine", "--data", str(folder / "aviary"), "--out", str(out), "--config", "relatives.yaml"]
        assert main([*line, "--rules.keep_easy", "true"]) == 0
        choices = [json.loads(row) for row in (out / "options.jsonl").read_text().splitlines()[1:]]
        assert {len(choice["options"]) for choice in choices} == {4}

    def test_a_method_of_two_others(self, folder: Path):
        told = two_steps(divek_config(folder, "choices"), "triplet_choice")
        assert {"divergence", "triplets/gamma", "choice/guess_floor"} <= told


@pytest.mark.slow
def test_a_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """In a folder of one's own, with the files copied there and photos as the source wants them."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    for name in ("named_files.py", "named_files.yaml"):
        shutil.copy(EXTENSIONS / name, tmp_path)
    aviary, photos = Aviary(species=48, unseen=0, size=56), tmp_path / "named_photos"
    photos.mkdir()
    lines = [f"{name},{aviary.taxonomy().paths[name][1]}" for name in aviary.species[::12]]
    (photos / "families.csv").write_text("\n".join([*lines, ""]))
    for name in aviary.species[::12]:
        for number in range(10):
            (photos / f"{name.replace(' ', '_')}__{number:04}.jpg").write_bytes(aviary.encode(name, number))
    line = ["fit", "--config", "configs/photos.yaml", "--config", "named_files.yaml", "--trainer.max_steps", "2"]
    process = Warm([*line, "--trainer.val_check_interval", "2"], os.environ)
    said, _ = process.communicate(timeout=240)
    assert process.returncode == 0, said
    manifest = json.loads((tmp_path / "data/photos/manifest.json").read_text())
    assert sum(sum(labels.values()) for labels in manifest["counts"].values()) == 40
    assert json.loads((tmp_path / "runs/named_files/final_metrics.json").read_text())["step"] == 2
