"""From a folder of photos to a name for a new one, in a fresh environment, by doing what each command says next."""

from __future__ import annotations

import csv
import re
import resource
import shlex
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from fresh_environment import ROOT, fresh_environment, outside
from PIL import Image

from fgvr.aviary.source import Aviary

PROCESSOR, CLOCK = 180.0, 900.0  # seconds for all commands; by the clock so many only where others compute too
FEW = ["--trainer.max_steps", "4", "--trainer.val_check_interval", "4"]  # steps of reinforcement learning

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@dataclass
class User:
    """Somebody at a terminal in `folder`, who types what is said; `seconds` are those of each command."""

    python: Path
    folder: Path
    seconds: list[tuple[str, float]] = field(default_factory=list[tuple[str, float]])

    def types(self, line: str) -> list[str]:
        """What a command says, in lines. It must end well, and its last lines say what to do next."""
        words = shlex.split(line)
        assert words[0] == "python"
        began = time.monotonic()
        done = subprocess.run(
            [str(self.python), *words[1:]], cwd=self.folder, env=outside(self.python.parents[1]), text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=CLOCK,
        )  # fmt: skip
        self.seconds.append((line, time.monotonic() - began))
        print(f"$ {line}\n{done.stdout}({time.monotonic() - began:.1f} s)\n")
        assert done.returncode == 0, done.stdout
        assert "Warning" not in done.stdout, "nobody is warned for nothing"
        lines = done.stdout.splitlines()
        assert any("Next" in said for said in lines[-4:]), lines[-4:]
        return lines


def said(lines: list[str], what: str) -> str:
    """The command that stands behind WHAT in the last lines."""
    return next(line for line in reversed(lines) if what in line).partition(f"{what}: ")[2]


def draw_photos(folder: Path) -> None:
    """200 JPEGs of eight classes, and one that is new; fgvr's configs lie beside them."""
    (folder / "configs").symlink_to(ROOT / "configs")
    aviary = Aviary(species=48, unseen=0, size=96)
    for species in aviary.species[::6]:
        (folder / "photos" / species).mkdir(parents=True)
        for number in range(25):
            picture = aviary.draw(species, number).resize((160, 120), Image.Resampling.BICUBIC)
            picture.save(folder / "photos" / species / f"{number}.jpg", quality=90)
    aviary.draw(aviary.species[0], 25).save(folder / "new photo.jpg")


def test_a_new_user_gets_from_a_folder_of_photos_to_a_name_by_what_the_commands_say(tmp_path: Path):
    draw_photos(tmp_path)
    user = User(fresh_environment(tmp_path / "fresh"), tmp_path)
    tests_own = "import importlib.util as u; print([n for n in ('pytest', 'trl', 'playwright') if u.find_spec(n)])"
    asked = [str(user.python), "-c", f"{tests_own}; print(u.find_spec('fgvr').origin)"]
    found = subprocess.run(asked, cwd=tmp_path, env=outside(tmp_path / "fresh"), capture_output=True, text=True)
    assert found.stdout.splitlines()[0] == "[]", found.stderr
    assert (tmp_path / "fresh").resolve() in Path(found.stdout.splitlines()[1]).resolve().parents
    before = resource.getrusage(resource.RUSAGE_CHILDREN)

    packed = user.types(
        "python -m fgvr shards --source ImageFolder --source.root photos --out data/photos --val 0.2 --test 0"
    )
    assert any("200 pictures of 8 classes" in line for line in packed)
    taught = user.types(said(packed, "train on it"))
    rewarded = user.types(shlex.join([*shlex.split(said(taught, "make its better answers likelier")), *FEW]))
    shown = user.types(said(rewarded, "see the run"))
    page = tmp_path / re.findall(r"^(\S+\.html) is the report", shown[-1])[0]
    assert page.stat().st_size > 1e6
    named = user.types(said(rewarded, "name photos").replace("PHOTOS", "'new photo.jpg'"))
    assert any(line.startswith("Of 1 photos, ") and line.endswith("and 0 could not be used.") for line in named)
    with (tmp_path / "predictions/predictions.csv").open(newline="") as rows:
        assert [row["file"] for row in csv.DictReader(rows)] == ["new photo.jpg"]

    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    computed = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    passed = sum(seconds for _, seconds in user.seconds)
    for line, seconds in user.seconds:
        print(f"{seconds:6.1f} s  {line}")
    print(f"{passed:6.1f} s  together, {computed:.1f} s of the processor")
    assert computed < PROCESSOR
    assert passed < CLOCK
