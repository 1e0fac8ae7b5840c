"""A training whose model is on the hub: fetched from a hub on this machine, then trained without one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hub_server import Hub, serving
from rl_run import learn_sft
from warm_start import shared

from fgvr.tools.export import export

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def typed(hub: Hub, home: Path, *words: str, offline: bool = False) -> tuple[int, str]:
    """The exit code and what is said of a command, in a process that knows this hub alone."""
    environment = {**os.environ, **shared(), "HF_ENDPOINT": hub.url, "HF_HOME": str(home), "COLUMNS": "200"}
    environment |= {"HF_HUB_OFFLINE": "1"} if offline else {}
    line = [sys.executable, "-m", "fgvr", *words]
    done = subprocess.run(line, capture_output=True, text=True, env=environment, cwd=home, timeout=300)
    return done.returncode, done.stdout + done.stderr


def test_what_is_fetched_is_trained_without_a_network(tmp_path: Path):
    learn_sft(tmp_path)
    export(tmp_path / "sft", tmp_path / "tiny", samples=1)
    config = yaml.safe_load((tmp_path / "sft/config.yaml").read_text())
    backbone = {"class_path": "fgvr.models.Pretrained", "init_args": {"path": "org/tiny"}}
    config["model"]["init_args"]["policy"]["backbone"] = backbone
    config["data"]["init_args"]["train"] = [{"path": str(tmp_path / "aviary")}]
    config["trainer"] |= {"max_steps": 1, "limit_val_batches": 0, "callbacks": []}
    config["run"] = {"dir": str(tmp_path / "run")}
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump(config))
    home = tmp_path / "home"
    home.mkdir()
    with serving({"org/tiny": tmp_path / "tiny"}) as hub:
        code, said = typed(hub, home, "prefetch", "--config", str(file), "--fetch", "false")
        assert code == 1, said
        assert "files missing" in said
        assert "1 of 3 are missing" in said
        assert not hub.asked
        code, said = typed(hub, home, "prefetch", "--config", str(file))
        assert code == 0, said
        assert "fetched" in said
        assert f"HF_HUB_OFFLINE=1 python -m fgvr fit --config {file}" in said
        assert {"config.json", "model.safetensors", "tokenizer.json", "preprocessor_config.json"} <= set(hub.asked)
        asked = len(hub.asked)
        code, said = typed(hub, home, "fit", "--config", str(file), offline=True)
        assert code == 0, said[-3000:]
        assert "is read from its cache on this machine" in said
        assert len(hub.asked) == asked
    assert (tmp_path / "run/checkpoints").is_dir()
