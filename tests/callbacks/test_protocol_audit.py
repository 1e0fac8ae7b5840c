"""The audit as it is really run: a policy's checkpoint, shards, the command, and the shipped config in small."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from audited import config, random_photos

from fgvr.__main__ import main
from fgvr.callbacks import EncoderBaseline, ProtocolAudit
from fgvr.data import ClosedWorld, OpenWorld
from fgvr.errors import UserError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sys, "argv", ["fgvr"])
    random_photos(tmp_path)
    return tmp_path


def test_a_checkpoint_is_audited_by_one_command_whatever_the_batch(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = {"class_path": "fgvr.data.ClosedWorld", "init_args": {"question": "Which?", "options": 3}}
    for batch in (1, 8):
        assert main(["validate", "--config", str(config(folder, f"by{batch}", batch, choice=told, seeds=2))]) == 0
    shown = capsys.readouterr().out
    assert "Audit of the closed-world protocol" in shown
    assert "│ released rule │ label first, label within │" in shown  # in a log, where nobody can make the window wider
    assert "100.0% on the released rule: that rule cannot tell it from one that looks." in shown
    files = ("audit.json", "audit.md", "audit_replies.jsonl")
    one, eight = ({file: (folder / run / file).read_bytes() for file in files} for run in ("by1", "by8"))
    assert one == eight
    made = json.loads(one["audit.json"])
    assert made["chance"] == pytest.approx(1 / 3)
    choices = {line["choice"]: line for line in made["lines"]}
    assert set(choices) >= {"ours", "distractors", "order", "rule", "released rule", "control", "encoder"}
    heads = {line["setting"] for line in made["lines"] if line["choice"] == "encoder"}
    assert heads == {"vision tower, 16 shots, linear probe", "vision tower, 16 shots, nearest mean"}
    assert not [note for note in made["notes"] if "encoder" in note]  # each class has photos to learn from
    assert set(made["open_world"]) == {"text inclusion", "semantic similarity"}
    replies = [json.loads(line) for line in one["audit_replies.jsonl"].splitlines()]
    # 8 photos: three strengths and the grey picture under two seeds, the label first once, two heads of one encoder
    assert len(replies) == 8 * (3 * 2 + 2 + 1 + 2)
    logged = json.loads((folder / "by1" / "validate_metrics.json").read_text())
    assert "audit/all" in json.dumps(logged)
    assert "hierarchical_precision" in json.dumps(logged)


def test_the_shipped_config_asks_a_model_that_is_not_told(folder: Path) -> None:
    assert main(["validate", "--config", str(config(folder, "untold", 8))]) == 0
    made = json.loads((folder / "untold" / "audit.json").read_text())
    assert made["said"][0].startswith("The policy was not told the options")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"main": "strong"}, "strengths of distractors are random, siblings, hardest, stored, got 'strong'"),
        ({"strengths": ["random", "x"]}, "got 'x'"),
        ({"choice": OpenWorld()}, "must be a fgvr.data.ClosedWorld"),
        ({"choice": ClosedWorld("all")}, "with a number of options"),
        ({"choice": ClosedWorld(none_of_these=0.5)}, "has a right option"),
        ({"seeds": 0}, "seeds"),
        ({"options": 1}, "between 2 and"),
        ({"dropped_words": {"cars": -1}}, "cars"),
        ({"dropped_words": {"owner": -1}}, "dropped_words.owner must be at least 0"),
        ({"choice": ClosedWorld(3), "options": 4}, "choice asks among 3 options already, but options is 4: drop it"),
        ({"encoders": [EncoderBaseline(shots=4), EncoderBaseline(shots=4, decay=1.0)]}, "'vision tower, 4 shots'"),
    ],
)
def test_what_cannot_be_audited_is_said(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        ProtocolAudit(**options)


def test_an_encoder_of_texts_that_is_not_there_is_said_before_anything_is_asked(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fgvr.metrics.protocol.passes.Pass.add", None)  # what asks
    assert main(["validate", "--config", str(config(folder, "late", 8, text_encoder="/nowhere"))]) == 2
    assert "text_encoder must be a folder with an encoder of texts, but there is no folder" in capsys.readouterr().err


def test_encoders_of_one_tower_with_other_shots_have_rows_of_their_own() -> None:
    found = ProtocolAudit(encoders=[EncoderBaseline(), EncoderBaseline(shots=1), EncoderBaseline(shots=4)]).encoders
    assert [one.name for one in found] == ["vision tower", "vision tower, 1 shot", "vision tower, 4 shots"]
    assert EncoderBaseline(Path("models/clip/")).name == "clip"


def test_an_encoder_that_cannot_be_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="shots"):
        EncoderBaseline(shots=0)
    with pytest.raises(UserError, match="above 0"):
        EncoderBaseline(decay=0.0)
    with pytest.raises(UserError, match="finite"):
        EncoderBaseline(decay=float("inf"))
    with pytest.raises(UserError, match="there is no folder"):
        EncoderBaseline(tmp_path / "nowhere").check()
