from __future__ import annotations

from pathlib import Path

import pytest
from toy_report import BIRDS, add_choices, add_triplets, add_two_steps, write_run, write_shards

from fgvr.report.parts import Part
from fgvr.report.ran import read_run
from fgvr.report.sections import read_calibration, read_sweep, sections
from fgvr.report.subject import Subject, subjects_of
from fgvr.whole_files import sealed


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("sections")
    shards = write_shards(base / "birds")
    write_run(base / "plain", shards)
    other = write_run(base / "other", shards, right=(1, 2, 3, 4))
    add_two_steps(other)
    add_triplets(other, shards)
    add_choices(write_run(base / "choices", shards), base / "mined/options.jsonl")
    return base


def after(label: str) -> str:
    """What the wrong completions take a bird for."""
    return BIRDS[(BIRDS.index(label) + 1) % len(BIRDS)]


def parts_of(folder: Path, *names: str, most: int = 2000) -> tuple[dict[str, Part], list[Subject]]:
    subjects = subjects_of([read_run(folder / name) for name in names], [], most)
    return {part.key: part for part in sections(subjects)}, subjects


@pytest.fixture(scope="module")
def plain(folder: Path) -> tuple[dict[str, Part], Subject]:
    parts, (subject,) = parts_of(folder, "plain")
    return parts, subject


@pytest.fixture(scope="module")
def other(folder: Path) -> tuple[dict[str, Part], Subject]:
    parts, (subject,) = parts_of(folder, "other")
    return parts, subject


Read = tuple[dict[str, Part], Subject]


def test_each_part_is_there_where_the_run_has_it_and_else_says_what_would_bring_it(plain: Read):
    parts, _ = plain
    there = {key for key, part in parts.items() if part.is_there}
    assert there == {"glance", "rollouts", "training", "phases", "validation", "confusions", "taxonomy", "made-of"}
    absent = {key: part.absent for key, part in parts.items() if not part.is_there}
    assert set(absent) == {"risk", "ladder", "options", "triplets"}
    assert "fgvr.callbacks.TwoStepInference" in absent["risk"]
    assert "`python -m fgvr mine`" in absent["options"]
    assert "fgvr.datamodules.TripletData" in absent["triplets"]


def test_the_gallery_has_what_each_completion_said_and_was_worth_and_the_photo(plain: Read):
    parts, subject = plain
    (deck,) = parts["rollouts"].decks
    first = deck.data["groups"][0]
    assert [(row["answer"], row["reward"], row["advantage"], row["verdict"]) for row in first["rows"]][:2] == [
        (first["label"], 1.0, 1.5, "specific"),
        (after(first["label"]), 0.0, -0.5, "wrong"),
    ]
    assert first["rows"][-1]["cut"] is True
    assert subject.photos.found[first["photo"]].startswith("data:image/jpeg")
    assert deck.said.startswith("6 groups with 24 completions: all that the run has learned from.")
    assert parts["rollouts"].said == [
        "Asked of each photo: Which bird is this? Give the name between <answer> and </answer>."
    ]


def test_as_many_rollouts_as_are_asked_for_are_shown_and_the_page_says_so(folder: Path):
    parts, _ = parts_of(folder, "plain", "other", most=16)
    sizes = [len(deck.data["groups"]) for deck in parts["rollouts"].decks]
    assert sizes == [2, 2]  # eight completions of each run, four to a group
    assert "taken evenly over the training out of 6 with 24: rollouts.jsonl has all." in parts["rollouts"].decks[0].said


def test_confusions_have_a_photo_of_each_side(plain: Read):
    parts, subject = plain
    cards = parts["confusions"].decks[0].data["cards"]
    assert {(card["photos"][0]["words"], card["photos"][1]["words"]) for card in cards} == {
        (BIRDS[3], BIRDS[4]), (BIRDS[4], BIRDS[5]), (BIRDS[5], BIRDS[0])
    }  # fmt: skip
    assert all(photo["uid"] in subject.photos.found for card in cards for photo in card["photos"])


def test_two_steps_bring_risk_and_the_ladder(other: Read):
    parts, _ = other
    assert [plot.title for plot in parts["risk"].plots] == ["Risk over coverage, step 6"]
    assert parts["ladder"].tables[0].title == "Ladder, scope classes"
    assert any("from" in table.columns for table in parts["ladder"].tables)


def test_choices_are_shown_word_for_word_with_what_was_chosen(folder: Path):
    parts, _ = parts_of(folder, "choices")
    card = parts["options"].decks[0].data["cards"][0]
    label, other = card["title"], after(card["title"])
    assert card["quote"].splitlines()[:3] == ["Which of these?", f"A) {other}", f"B) {label}"]
    assert [(bar["name"], bar["words"], bar["tone"]) for bar in card["bars"]] == [
        (f"A) {other}", "3 of 4", ""),
        (f"B) {label}", "1 of 4", "right"),
    ]
    assert [plot.title for plot in parts["options"].plots] == ["Recall of mined options, seen"]


def test_triplets_have_three_photos(other: Read):
    parts, subject = other
    card = parts["triplets"].decks[0].data["cards"][0]
    assert [photo["role"] for photo in card["photos"]] == ["anchor", "positive", "negative"]
    assert all(photo["uid"] in subject.photos.found and photo["words"] in BIRDS for photo in card["photos"])
    assert parts["triplets"].tables[0].rows[0][:3] == ("birds", BIRDS[0], BIRDS[1])


def test_two_runs_stand_side_by_side(folder: Path):
    parts, _ = parts_of(folder, "plain", "other")
    part = parts["side-by-side"]
    # right are 0 1 2 and then 1 2 3 4 of six: two helped, one hurt; min(1, 2 (1 + 3) / 8) = 1
    assert part.said == [
        "Of 6 photos that both were asked about, other got 2 right that plain had wrong, and 1 wrong that plain had "
        "right (McNemar's exact p 1)."
    ]
    assert len(part.decks[0].data["cards"]) == 3
    assert [deck.run for deck in parts["rollouts"].decks] == [0, 1]


def test_a_sweep_that_cannot_be_read_is_a_remark(tmp_path: Path):
    file, remarks = tmp_path / "sweep.csv", list[str]()
    file.write_text("cohort,k\nseen,1\n")
    assert read_sweep(file, remarks) == {}
    assert remarks == ["sweep.csv beside the options cannot be read (KeyError)."]


def test_calibrated_thresholds_are_drawn_where_they_answer_something(tmp_path: Path):
    file, remarks = tmp_path / "calibration.json", list[str]()
    # of four photos one is answered above .9, wrongly; three above .5, one wrongly: coverage 3 / 4, risk 1 / 3
    points = [[1.0, 0, [4, 0]], [0.9, 1, [3, 1]], [0.5, 1, [1, 2, 1]]]
    file.write_bytes(sealed({"format": 1, "modes": {"two_step": {"split": "val", "points": points}}}))
    assert read_calibration(file, remarks) == {"two step, val photos": [(0.25, 1.0, 0.9), (0.75, 1 / 3, 0.5)]}
    file.write_text('{"modes": {"vote": {"points": [3]}}}')
    assert read_calibration(file, remarks) == {}
    assert remarks == ["calibration.json cannot be read (TypeError)."]


def test_what_two_runs_were_made_of_stands_side_by_side(folder: Path):
    parts, _ = parts_of(folder, "plain", "other")
    titles = [table.title for table in parts["made-of"].tables]
    assert titles[:2] == ["The run, plain", "The run, other"]
    assert sorted(titles) == sorted({*titles}), "each once"
