from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from fgvr.__main__ import main
from fgvr.errors import UserError
from fgvr.tools.ladder import ladder


def row(uid: str, cohort: str = "seen", **changes: Any) -> dict[str, Any]:
    own: dict[str, Any] = {
        "uid": uid, "dataset": "birds", "cohort": cohort, "by": "choice", "gate": "asked", "lead": 0.2,
        "confidence": 0.5, "right": {"greedy": False, "vote": False, "answer": True, "options": True},
        "tokens": {"greedy": 9, "sampled": 180, "choosing": 40},
    }  # fmt: skip
    return own | changes


def written(file: Path, rows: list[dict[str, Any]]) -> Path:
    file.write_text("".join(json.dumps(one) + "\n" for one in rows))
    return file


def test_the_command_prints_and_writes_the_ladder(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    before = written(tmp_path / "a.jsonl", [row("1"), row("2", "novel")])
    after = written(tmp_path / "b.jsonl", [row("2", "novel"), row("1")])
    out = tmp_path / "ladder.md"
    assert main(["ladder", "--untrained", str(before), "--trained", str(after), "--out", str(out)]) == 0
    said = capsys.readouterr().out
    written_out = out.read_text().replace("&#44;", ",")
    for text in ("Ladder", "two steps trained", "Why", "Harmonic mean of seen and novel, trained"):
        assert text in said
        assert text in written_out
    assert "&#" not in said


def test_rows_of_other_photos_are_refused(tmp_path: Path):
    before, after = written(tmp_path / "a.jsonl", [row("1")]), written(tmp_path / "b.jsonl", [row("1"), row("2")])
    with pytest.raises(UserError, match="1 are in one of them alone, such as '2'"):
        ladder(before, after)
    with pytest.raises(UserError, match="1 come twice"):
        ladder(written(tmp_path / "c.jsonl", [row("1"), row("1")]))


@pytest.mark.parametrize("text", ["", "no json", "[1]\n", '{"uid": "1"}\n'])
def test_what_is_no_file_of_rows_is_refused(tmp_path: Path, text: str):
    (tmp_path / "x.jsonl").write_text(text)
    with pytest.raises(UserError, match="must be rows of labelled photos"):
        ladder(tmp_path / "x.jsonl")


def test_the_pair_that_the_help_names_is_of_one_split(capsys: pytest.CaptureFixture[str]):
    assert main(["ladder", "--help"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    named = re.findall(r"two_step/([\w-]+)\.jsonl", said)
    assert len(named) == 2
    assert all(name.startswith("step-") for name in named), "test.jsonl is of other photos than a validation's rows"
