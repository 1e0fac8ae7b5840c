from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from fgvr.__main__ import main
from fgvr.errors import UserError
from fgvr.metrics.two_step_reading import read_rows
from fgvr.metrics.two_step_rows import as_lines
from fgvr.tools.ladder import ladder


def row(uid: str, cohort: str = "seen", **changes: Any) -> dict[str, Any]:
    own: dict[str, Any] = {
        "uid": uid, "dataset": "birds", "cohort": cohort, "label": "Jade Owl", "by": "choice", "gate": "asked",
        "lead": 0.2, "confidence": 0.5, "right": {"greedy": False, "vote": False, "answer": True, "options": True},
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


MADE = {"scope": "cohort", "samples": 20, "options": 4, "temperature": 1.0, "margin": None}


def test_the_heading_says_the_scope_and_what_is_joint_in_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    own = [row(uid, cohort, made_with=MADE) for uid, cohort in (("1", "seen"), ("2", "seen"), ("3", "novel"))]
    ladder(written(tmp_path / "a.jsonl", [*own, row("4", "novel", made_with=MADE)]))
    said = capsys.readouterr().out
    assert "Ladder, scope cohort" in said
    assert "Made with scope cohort, samples 20, options 4, temperature 1.0, margin None." in said
    assert "Harmonic mean of seen and novel, untrained, scope cohort" in said
    assert "among its" in said
    assert "all photos together" not in " ".join(said.split())
    ladder(written(tmp_path / "old.jsonl", [row("1"), row("2", "novel")]))
    assert "Ladder, scope not known" in (said := capsys.readouterr().out)
    assert "do not say what they were made with" in said
    assert "takes two of each cohort" in said, "no margin is told on no photos"


def test_rows_made_otherwise_or_under_other_labels_are_not_laid_against_each_other(tmp_path: Path):
    before = written(tmp_path / "a.jsonl", [row("1", made_with=MADE)])
    other = written(tmp_path / "b.jsonl", [row("1", made_with=MADE | {"scope": "classes", "samples": 8})])
    with pytest.raises(UserError, match="scope cohort and classes, samples 20 and 8"):
        ladder(before, other)
    with pytest.raises(UserError, match="1 photos have another one, such as '1'"):
        ladder(before, written(tmp_path / "c.jsonl", [row("1", label="Azure Finch", made_with=MADE)]))
    ladder(before, written(tmp_path / "old.jsonl", [row("1")]))
    with pytest.raises(UserError, match="not all made with the same settings"):
        ladder(written(tmp_path / "d.jsonl", [row("1", made_with=MADE), row("2")]))


def test_a_reply_may_hold_what_ends_a_line_elsewhere(tmp_path: Path):
    said = "one\u2028two\x85three\x0cfour\rfive"
    (tmp_path / "a.jsonl").write_bytes(as_lines([row("1", questions=[{"reply": said}])]))
    assert len(read_rows(tmp_path / "a.jsonl").photos) == 1


RIGHT, TOKENS = row("1")["right"], row("1")["tokens"]
WRONG_KINDS = ({"lead": "x"}, {"confidence": None}, {"right": RIGHT | {"vote": "yes"}}, {"lead": float("nan")},
               {"tokens": TOKENS | {"greedy": "9"}}, {"made_with": {}}, {"made_with": 3}, {"right": None})  # fmt: skip


@pytest.mark.parametrize(
    "text", ["", "no json", "[1]\n", '{"uid": "1"}\n', *(json.dumps(row("1", **wrong)) for wrong in WRONG_KINDS)]
)
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


def test_a_run_is_not_its_rows(tmp_path: Path):
    with pytest.raises(UserError, match=r"TwoStepInference writes RUN/two_step/\*\.jsonl"):
        read_rows(tmp_path)
    (tmp_path / "two_step").mkdir()
    rows = written(tmp_path / "two_step" / "step-00000003.jsonl", [row("1")])
    with pytest.raises(UserError, match=f"must be a file, but {tmp_path} is none: give one of its own, such as {rows}"):
        read_rows(tmp_path)
