"""The quickstart's model, trained in small, under the shipped evaluation."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from rl_run import BIRDS, ends, learn_sft, start

CONFIG = Path(__file__).parents[2] / "configs/eval/aviary.yaml"


@pytest.mark.slow
def test_the_shipped_evaluation_asks_the_quickstart_s_model(tmp_path: Path) -> None:
    learn_sft(tmp_path)
    values = yaml.safe_load(CONFIG.read_text())
    model, data = values["model"]["init_args"], values["data"]["init_args"]
    model["policy"]["backbone"]["init_args"]["run"] = str(tmp_path / "sft")
    model["max_new_tokens"] = 12
    data["train"][0]["path"], data["train"][0]["source"]["init_args"] = str(tmp_path / "aviary"), BIRDS
    data["task"]["init_args"]["think"], data["workers"] = False, 0
    for one in values["trainer"]["callbacks"]:
        if one["class_path"].endswith("ProtocolAudit"):
            one["init_args"]["choice"]["init_args"]["think"] = False
            one["init_args"]["encoders"] = [{"shots": 2}]
    file = tmp_path / "eval.yaml"
    file.write_text(yaml.safe_dump(values))
    said = ends(start(file, tmp_path / "eval", verb="validate"))
    assert "Audit of the closed-world protocol" in said
    made = json.loads((tmp_path / "eval/audit.json").read_text())
    lines = {(line["choice"], line["setting"]): line for line in made["lines"]}
    ours = lines["ours", "siblings, shuffled, one choice"]
    photos = BIRDS["species"] * BIRDS["val"]  # those held out too
    assert ours["n"] == photos
    # one answer is given to each photo, whatever stands beside it: no order and no label first can move it
    assert lines["order", "label first"]["moved"] == 0
    probe = lines["encoder", "vision tower, 2 shots, linear probe"]
    assert probe["means"]["unseen"][0] == 0  # of a class held out there is no photo to learn from
    assert probe["n"] == photos
    assert made["said"][0].startswith("The policy was not told the options")
    figures = json.loads((tmp_path / "eval/validate_metrics.json").read_text())
    assert figures["audit/all"] == pytest.approx(ours["means"]["all"][0])
    assert any("hierarchical_precision" in name for name in figures)
    assert any(name.endswith("hca") for name in figures)
