"""The quick way through a config's classes against jsonargparse's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fgvr.__main__ import main
from fgvr.settings.defaults_once import DefaultsOnceParser

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.mark.parametrize(
    "line",
    [
        ["fit", "--config", "aviary/divek.yaml", "--data.init_args.train_task.init_args.think=true"],
        ["fit", "--config", "speciarl_qwen2_5_vl_7b.yaml", "--model.init_args.policy.lora.rank=4"],
        ["fit", "--config", "photos.yaml", "--model.policy.backbone=Trained", "--model.policy.backbone.run=runs/x"],
    ],
)
def test_a_config_is_what_jsonargparse_makes_of_it(line: list[str], capsys: Any, monkeypatch: pytest.MonkeyPatch):
    line = [str(CONFIGS / word) if word.endswith(".yaml") else word for word in line] + ["--print_config"]
    assert main(line) == 0
    printed = capsys.readouterr().out
    monkeypatch.delattr(DefaultsOnceParser, "_apply_actions")
    assert main(line) == 0
    assert printed == capsys.readouterr().out
    assert "class_path" in printed
