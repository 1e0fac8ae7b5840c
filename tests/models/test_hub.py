"""Models that are read without a network: real folders, a real cache, a port where nobody listens."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import tiny_policy

from fgvr.errors import UserError
from fgvr.models import Pretrained
from fgvr.models.hub import place_of

ROOT = Path(__file__).parents[2]
COMMIT = "0123456789abcdef0123456789abcdef01234567"
NOBODY = "http://127.0.0.1:9"
LOAD = """
import json, logging, sys, time
from fgvr.errors import UserError
from fgvr.models import PixelBudget, Pretrained

logging.basicConfig(level=logging.INFO)
for path in sys.argv[1:]:
    began, said, backbone = time.monotonic(), None, Pretrained(path)
    try:
        backbone.check()
        backbone.build("sdpa")
        backbone.processor(PixelBudget())
        said = backbone.origin()
    except UserError as error:
        said = str(error)
    print(json.dumps([time.monotonic() - began, said]), flush=True)
    print("END OF", path, file=sys.stderr, flush=True)
"""
Loaded = tuple[float, Any, str]  # seconds, what came of it and what was logged


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "tiny"
    policy = tiny_policy()
    policy.base.save_pretrained(path)
    policy.processor.save(path)
    return path


@pytest.fixture(scope="module")
def home(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Has org/tiny in its cache."""
    home = tmp_path_factory.mktemp("home")
    cached = home / "hub" / "models--org--tiny"
    shutil.copytree(folder, cached / "snapshots" / COMMIT)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text(COMMIT)
    return home


def load(paths: list[str], home: Path, **environment: str) -> list[Loaded]:
    """One after another, in a process that cannot reach the hub."""
    own = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HOME": str(home), "HF_ENDPOINT": NOBODY, **environment}
    own.pop("HF_HUB_OFFLINE", None) if "HF_HUB_OFFLINE" not in environment else None
    run = subprocess.run([sys.executable, "-c", LOAD, *paths], capture_output=True, text=True, env=own, cwd=home)
    assert run.returncode == 0, run.stderr
    said = [json.loads(line) for line in run.stdout.splitlines() if line.startswith("[")]
    logged = re.split(r"^END OF .*$", run.stderr, flags=re.MULTILINE)
    return [(seconds, what, log) for (seconds, what), log in zip(said, logged, strict=False)]


@pytest.fixture(scope="module")
def loaded(folder: Path, home: Path) -> list[Loaded]:
    """A folder, what is cached and what is nowhere, where there is no network."""
    return load([str(folder), "org/tiny", "org/none"], home)


def test_a_folder_needs_no_network(folder: Path, loaded: list[Loaded]):
    seconds, origin, log = loaded[0]
    assert (origin["name"], origin["path"]) == ("tiny", str(folder))
    assert seconds < 20
    assert "hub" not in log.lower()


@pytest.mark.parametrize("offline", [False, True], ids=["no network", "HF_HUB_OFFLINE"])
def test_a_model_of_the_hub_comes_from_its_cache_at_once(home: Path, loaded: list[Loaded], offline: bool):
    seconds, origin, log = load(["org/tiny"], home, HF_HUB_OFFLINE="1")[0] if offline else loaded[1]
    assert (origin["name"], origin["revision"]) == ("org/tiny", COMMIT)
    assert seconds < 20  # each of its files would be tried for half a minute
    assert log.count("The hub cannot be reached") == 1


def test_a_model_that_is_nowhere_is_one_sentence(loaded: list[Loaded]):
    seconds, said, _ = loaded[2]
    assert said.startswith("the hub cannot be reached (")
    assert "has no org/none: fetch it where there is a network (hf download org/none)" in said
    assert seconds < 20


def test_a_folder_that_is_not_there_is_no_hub_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(UserError, match=rf"there is no folder {tmp_path}/models/qwen"):
        place_of(f"{tmp_path}/models/qwen", None)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(UserError, match=rf"there is no folder {tmp_path}/qwen"):
        Pretrained("~/qwen").check()
