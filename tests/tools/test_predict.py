from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml
from conftest import photo
from says import BIRDS

from fgvr.__main__ import TOOLS, _names_photos, _worded, main
from fgvr.options.rolled_up import RankName
from fgvr.recogniser import Candidate, Recognition
from fgvr.recogniser.recognition import unusable
from fgvr.taxonomy.tree import Taxonomy
from fgvr.tools.predict import as_table, row_of

FINCH = Recognition(
    "a.jpg", "Azure Finch", "species", 0.6,
    (RankName("family", "Finches", 0.9), RankName("species", "Azure Finch", 0.6)),
    (Candidate("Azure Finch", 6, 0.6), Candidate("=cmd()", 3, 0.3)), "A bib.", "vote", 10,
)  # fmt: skip
TORN = Recognition("b.jpg", None, None, 0.0, (RankName("family", "Owls", 0.4),), by="abstain", replies=10)


def read(found: Sequence[Recognition], taxonomy: Taxonomy = BIRDS) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(as_table(found, taxonomy).decode(), newline="")))


def test_a_table_has_a_column_for_each_rank_and_its_confidence():
    finch, torn, broken = read([FINCH, TORN, unusable("c.jpg", "it is empty")])
    assert list(finch) == [
        *("file", "answer", "confidence", "family", "family confidence", "species", "species confidence"),
        *("candidates", "reasoning", "error"),
    ]
    assert list(finch.values())[:7] == ["a.jpg", "Azure Finch", "0.6000", "Finches", "0.9000", "Azure Finch", "0.6000"]
    assert finch["candidates"] == "Azure Finch 0.60; =cmd() 0.30"
    assert finch["reasoning"] == "A bib."
    assert (torn["answer"], torn["confidence"], torn["family"], torn["family confidence"]) == ("", "", "Owls", "0.4000")
    assert (torn["species"], torn["species confidence"]) == ("", "")
    assert broken["error"] == "it is empty"


def test_a_taxonomy_without_ranks_has_levels_for_columns():
    (finch,) = read([FINCH], Taxonomy({"Azure Finch": ("Finches", "Azure Finch")}))
    assert list(finch)[3:7] == ["level 1", "level 1 confidence", "level 2", "level 2 confidence"]


def test_rows_of_the_page():
    shown = row_of(FINCH, photo())
    assert (shown.answer, shown.told, shown.candidates[0].called) == ("Azure Finch", "species, 0.60", "6 of 10")
    assert shown.image.startswith("data:image/jpeg")
    assert row_of(TORN, photo()).told == "no rank is sure enough"
    assert row_of(Recognition("d.jpg"), photo()).told == "no reply named anything that may be an answer"
    assert row_of(unusable("c.jpg", "it is empty"), None).image == ""


@pytest.mark.parametrize(
    ("line", "names"),
    [
        (["predict", "runs/x", "photos"], True),
        (["predict", "runs/x", "photos", "--data", "data/x"], True),
        (["predict", "--model", "runs/x", "--photos", "p"], True),
        (["predict", "--help"], True),
        (["predict"], True),
        (["predict", "--config", "a.yaml", "--data.init_args.predict", "p"], False),
        (["predict", "-c", "a.yaml"], False),
        (["predict", "--config=a.yaml", "--model.init_args.x", "1"], False),
        (["fit", "runs/x"], False),
    ],
)
def test_predict_by_a_model_and_predict_by_a_config_are_told_apart(line: list[str], names: bool):
    assert _names_photos(line) is names


def test_the_first_words_of_a_command_are_its_options():
    both = ("model", "photos")
    assert _worded(both, ["m", "p", "--out", "o"]) == ["--model", "m", "--photos", "p", "--out", "o"]
    assert _worded(both, ["m", "--photos", "p"]) == ["--model", "m", "--photos", "p"]
    assert _worded(TOOLS["calibrate"].words, ["m", "more"]) == ["--model", "m", "more"]
    assert _worded(TOOLS["export"].words, ["m"]) == ["m"]
    assert _worded(TOOLS["report"].words, ["a", "b", "--out", "o"]) == ["--runs=[a, b]", "--out", "o"]
    assert _worded(TOOLS["report"].words, ["--out", "o"]) == ["--out", "o"]
    odd = ["runs/ö \"q\" 'it' 🦉", "a: b", "~", "[x]"]  # as yaml reads it, which joins no two halves of a letter
    assert yaml.safe_load(_worded(TOOLS["report"].words, odd)[0].removeprefix("--runs=")) == odd


def test_what_is_missing_is_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    photo().save(tmp_path / "a.png")
    assert main(["predict"]) == 2
    assert "model" in capsys.readouterr().err
    assert main(["predict", str(tmp_path / "run"), str(tmp_path / "a.png")]) == 2
    assert "there must be a run or an export at" in capsys.readouterr().err
    assert main(["predict", str(tmp_path), str(tmp_path / "b.png")]) == 2
    assert "photos must be a folder of photos or one photo" in capsys.readouterr().err
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "adapter_config.json").write_text("{}")
    assert main(["predict", str(tmp_path / "kept"), str(tmp_path / "a.png")]) == 2
    assert "holds an adapter alone" in capsys.readouterr().err
    assert main(["predict", str(tmp_path), str(tmp_path / "a.png")]) == 2
    assert "a model to load must be a checkpoint or a run's folder" in capsys.readouterr().err
    assert main(["calibrate", str(tmp_path), "--check", "val"]) == 2
    assert "tried on other photos than it was chosen on" in capsys.readouterr().err
