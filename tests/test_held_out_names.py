"""What the diagnosis of a study counts, on a run written by hand."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
HELD_OUT, SEEN = "Azure-capped Limebill", "Ivory-capped Limebill"


@pytest.fixture
def held_out_names(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("held_out_names")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "dapo" / "0"
    folder.mkdir(parents=True)
    sampled = [SEEN, f"{HELD_OUT}.", *[SEEN] * 17, HELD_OUT]
    answered = [
        ("novel", HELD_OUT, HELD_OUT),
        ("novel", HELD_OUT, SEEN),
        ("novel", HELD_OUT, None),
        ("seen", SEEN, SEEN),
    ]
    (folder / "rollouts.jsonl").write_text("".join(json.dumps({"label": SEEN, "answer": a}) + "\n" for a in sampled))
    rows = [{"cohort": cohort, "label": label, "answer": answer} for cohort, label, answer in answered]
    (folder / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "final_metrics.json").write_text("{}")
    return folder


def test_held_out_names_among_the_samples_are_counted_however_they_are_written(held_out_names, run):
    told = held_out_names.Told.of(run)
    assert told.held_out == {HELD_OUT}
    assert told.punished() == {HELD_OUT: 2}
    # a tenth of 20 completions: the first two have one, the last two have one
    assert (told.said(end=False), told.said(end=True)) == (0.5, 0.5)


def test_a_mistake_is_told_by_what_is_wrong_in_the_name(held_out_names, run):
    told = held_out_names.Told.of(run)
    assert told.kept() == {HELD_OUT: pytest.approx(1 / 3)}
    assert told.mistakes() == {"right": 1, "another colour": 1, "no species": 1}


def test_every_kind_of_mistake(held_out_names):
    named = held_out_names.SPECIES
    label = named[HELD_OUT]
    for name, species in named.items():
        mistake = held_out_names._mistake(HELD_OUT, name)
        assert ("genus" in mistake) == (species.genus is not label.genus)
        if species.genus is label.genus and name != HELD_OUT:
            assert ("colour" in mistake) == (species.mark_colour != label.mark_colour)
            assert ("place" in mistake) == (species.mark_place != label.mark_place)


def test_a_folder_without_ended_runs_is_refused(held_out_names, tmp_path):
    with pytest.raises(SystemExit, match="must have ended runs"):
        held_out_names.held_out_names(tmp_path)


def test_the_table_has_a_row_for_each_arm(held_out_names, run, capsys):
    held_out_names.held_out_names(run.parent.parent)
    assert capsys.readouterr().out.splitlines()[2].startswith("| dapo | 1 | 0.500 to 0.500 |")
