"""What becomes of a model's words: answers, shares, paths, two steps, thresholds. The words are given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import example, photo
from says import BIRDS, Says, letter_of, says

from fgvr.errors import UserError
from fgvr.metrics.selective import Graded, Operating
from fgvr.options.rolled_up import RankName
from fgvr.options.votes import Reply
from fgvr.recogniser import Candidate, Recogniser, Recognition
from fgvr.recogniser.calibration import (
    Calibration,
    graded,
    measured,
    read_calibrations,
    write_calibrations,
)
from fgvr.recogniser.carried import OPEN_WORLD, Carried
from fgvr.recogniser.recognition import recognised, unusable
from fgvr.recogniser.restricted import restricted
from fgvr.rollouts.two_step import Question, TwoStep, voted
from fgvr.taxonomy.names import Names

TORN = ["Azure Finch"] * 3 + ["Amber Finch"] * 2 + ["finches", "Jade Owl", "heron", "bird", None]  # ten replies
CARRIED = Carried(
    "birds", BIRDS.to_dict(), OPEN_WORLD, 64, plan={"samples": 10, "options": 3, "rotations": 1}, checkpoint="abc"
)
CALIBRATED = Calibration(
    "vote", "abc", 10, 1.0, 0, "birds", "val", ("seen",), 0, 0.1, 0.9,
    (Operating(0.6, 0, (10, 90)), Operating(0.5, 1, (0, 100)), Operating(0.3, 30, (0, 100))),
)  # fmt: skip


def recogniser(
    replies: Sequence[Sequence[str | None]], *calibrations: Calibration, choice: str = "Amber Finch"
) -> Recogniser:
    policy().say(replies, letter_of(choice))
    return Recogniser(policy(), CARRIED, {one.mode: one for one in calibrations})


@cache
def policy() -> Says:
    return says([])


def named(replies: Sequence[str | None] = TORN, *calibrations: Calibration, **how: Any) -> Recognition:
    return recogniser([replies], *calibrations).predict(photo(), **how)


def test_the_most_voted_name_is_the_answer_with_a_confidence_at_each_rank():
    found = named()
    assert (found.answer, found.rank, found.confidence, found.by) == ("Azure Finch", "species", 0.3, "vote")
    # 3 + 2 + 1 of ten replies stand at or below the finches
    assert found.path == (RankName("family", "Finches", 0.6), RankName("species", "Azure Finch", 0.3))
    assert found.at("family") == found.path[0]
    assert found.at("order") is None
    assert found.candidates[0] == Candidate("Azure Finch", 3, 0.3, ("Finches", "Azure Finch"))
    assert [one.votes for one in found.candidates] == [3, 2, 1, 1]
    assert {one.name for one in found.candidates[2:]} == {"Finches", "Jade Owl"}
    assert found.dropped == {"unparsed": 1, "unnamed": 0, "out of scope": 2}
    assert sum(one.votes for one in found.candidates) + sum(found.dropped.values()) == found.replies == 10
    assert str(found) == "photo 0: Azure Finch (species, 0.30)"
    assert str(unusable("a.jpg", "a.jpg must be whole")) == "a.jpg must be whole", "named once"
    assert str(unusable("a.jpg", "it is empty")) == "a.jpg: it is empty"
    assert found.to_dict()["path"][0] == {"rank": "family", "name": "Finches", "confidence": 0.6}


def test_with_a_threshold_the_answer_is_the_finest_name_that_reaches_it():
    assert named(threshold=0.3).answer == "Azure Finch"
    found = named(threshold=0.5)
    assert (found.answer, found.rank, found.confidence) == ("Finches", "family", 0.6)
    assert [one.name for one in found.path] == ["Finches", "Azure Finch"], "what is likeliest below is told as well"
    found = named(threshold=0.61)
    assert (found.answer, found.rank, found.confidence, found.by) == (None, None, 0.0, "abstain")
    assert str(found) == "photo 0: no answer (Finches 0.60 > Azure Finch 0.30)"
    assert named([None] * 10, threshold=0.0).path == ()
    assert str(named([None] * 10)) == "photo 0: no answer"


def test_two_steps_choose_among_the_likeliest_names():
    found = named(two_step=True)
    assert (found.answer, found.by) == ("Amber Finch", "choice")
    # 2 of ten replies, times the choice's probability among three options
    assert 0 < found.confidence < 0.2
    assert found.path[0] == RankName("family", "Finches", 0.6)
    assert found.path[1].confidence == found.confidence
    assert named(two_step=True, threshold=0.5).answer == "Finches"
    assert named(two_step=True, classes=["Finches", "Jade Owl"]).answer == "Finches"


def test_classes_and_branches_restrict_what_may_be_an_answer():
    found = named(classes=["Jade Owl", "Finches"])
    assert (found.answer, found.confidence) == ("Finches", 0.6)
    found = named(within="Finches")
    assert [(one.name, one.votes) for one in found.candidates] == [
        *(("Azure Finch", 3), ("Amber Finch", 2)),
        ("Finches", 2),  # "bird" says no more of what is known to be a finch
    ]
    assert found.dropped["out of scope"] == 2  # the owl, and the heron that the taxonomy lacks
    assert named(["heron"] * 10, open_world=True).answer == "heron"
    assert named(["heron"] * 10, open_world=True).path == ()
    assert named(["heron"] * 10).answer is None


def test_the_thought_of_the_likeliest_reply_comes_with_the_answer():
    replies = [
        Reply("<think>A red bib.</think><answer>Azure Finch</answer>", "Azure Finch", -1.0, 5),
        Reply("<think>Blue, I think.</think><answer>Azure Finch</answer>", "Azure Finch", -2.0, 5),
        Reply("<think>Pale.</think><answer>Amber Finch</answer>", "Amber Finch", -0.5, 5),
    ]
    names = Names(BIRDS)
    decision = voted(example("u"), replies, names, TwoStep(3))
    assert recognised("a", decision, names, restricted(BIRDS)).reasoning == "A red bib."
    assert recognised("a", decision, names, restricted(BIRDS), 0.9).reasoning == "Pale.", "it says that it is a finch"
    chosen = Question(("Azure Finch",), "<think>By the bib.</think><answer>A</answer>", "Azure Finch", (1.0,), 5)
    decision = replace(decision, questions=[chosen], by="choice")
    assert recognised("a", decision, names, restricted(BIRDS)).reasoning == "By the bib."


def test_unusable_photos_are_rows_in_their_place(tmp_path: Path):
    (tmp_path / "broken.jpg").write_bytes(b"no photo")
    photo().save(tmp_path / "a.png")
    found = recogniser([TORN] * 3).predict([tmp_path / "a.png", tmp_path / "broken.jpg", photo(seed=1)])
    assert [bool(one.error) for one in found] == [False, True, False]
    assert found[1].answer is None
    assert found[1].by == "error"
    assert "its bytes are not one" in str(found[1])
    alone = recogniser([TORN]).predict(tmp_path / "broken.jpg")
    assert alone.error
    assert recogniser([TORN]).predict(tmp_path / "a.png").answer == "Azure Finch"


def test_many_photos_come_in_order_and_arrays_are_a_list():
    found = recogniser([["Azure Finch"] * 10] * 16).predict(np.stack([np.asarray(photo(56, 56, n)) for n in range(18)]))
    assert [one.photo for one in found] == [f"photo {n}" for n in range(18)]
    assert {one.confidence for one in found} == {1.0}


def test_the_calibrated_threshold_is_the_lowest_that_holds_the_risk():
    assert CALIBRATED.chosen().threshold == 0.5  # at most 1 of 100: .038 with probability .9
    assert CALIBRATED.chosen(0.03).threshold == 0.6  # 0 of 90: .025
    assert CALIBRATED.chosen(0.5).threshold == 0.3
    found = named(TORN, CALIBRATED, abstain=True)
    assert found.answer == "Finches"
    assert named(TORN, CALIBRATED, risk=0.5).answer == "Azure Finch"
    with pytest.raises(UserError, match=r"no threshold holds a risk of 0\.001 .* at least 2302 answers without"):
        CALIBRATED.chosen(0.001)
    with pytest.raises(UserError, match=r"a risk of 0 with .* which no number of answers can show"):
        CALIBRATED.chosen(0)
    assert CALIBRATED.holds
    assert not replace(CALIBRATED, risk=0.001).holds


def test_thresholds_are_of_these_weights_this_mode_and_these_samples():
    with pytest.raises(UserError, match="none were calibrated for the vote: make them with python -m fgvr calibrate"):
        named(abstain=True)
    with pytest.raises(UserError, match=r"none were calibrated for two steps: .*--two_step true"):
        named(TORN, CALIBRATED, abstain=True, two_step=True)
    with pytest.raises(UserError, match="calibrated for another checkpoint"):
        named(TORN, replace(CALIBRATED, checkpoint="other"), abstain=True)
    with pytest.raises(UserError, match="are of samples 10, got 8: leave samples out"):
        named(TORN, CALIBRATED, abstain=True, samples=8)
    with pytest.raises(UserError, match="give one of risk and threshold"):
        named(TORN, CALIBRATED, risk=0.1, threshold=0.5)
    with pytest.raises(UserError, match=r"predict\.threshold is a share"):
        named(threshold=2.0)


@pytest.mark.parametrize(
    ("ways", "says"),
    [
        ({"samples": 1}, r"predict\.samples must be at least 2, got 1"),
        ({"temperature": 0.0}, r"predict\.temperature must be above 0, as replies are drawn, got 0\.0"),
        ({"samples": 2.5}, r"predict\.samples must be a whole number, got 2\.5"),
        ({"samples": True}, r"predict\.samples must be a whole number, got True"),
        ({"seed": "a"}, r"predict\.seed must be a whole number, got 'a'"),
        ({"threshold": "0.5"}, r"predict\.threshold must be a number, got '0\.5': give one, or leave it out"),
        ({"temperature": "1"}, r"predict\.temperature must be a number"),
        ({"abstain": "yes"}, r"predict\.abstain must be true or false, got 'yes'"),
        ({"within": 7}, r"predict\.within must be a name, got 7"),
        ({"risk": -0.1}, r"predict\.risk is a share"),  # though nothing was calibrated
        ({"sample": 4}, "predict has no setting 'sample': there are classes, within, .* samples, "),
    ],
)
def test_settings_that_cannot_be_are_refused(ways: dict[str, Any], says: str):
    with pytest.raises(UserError, match=says):
        named(**ways)


def test_a_path_is_graded_down_to_where_it_leaves_the_label_s():
    found = named(threshold=0.0)
    assert graded(found, "Azure Finch", BIRDS) == Graded((0.6, 0.3), 2)
    assert graded(found, "Amber Finch", BIRDS) == Graded((0.6, 0.3), 1)
    assert graded(found, "Jade Owl", BIRDS) == Graded((0.6, 0.3), 0)
    assert graded(found, "Finches", BIRDS) == Graded((0.6, 0.3), 2), "what is finer than the label holds"
    assert graded(named([None] * 10, threshold=0.0), "Jade Owl", BIRDS) == Graded((), 0)


def test_calibrations_are_kept_as_they_are_and_damage_is_noticed(tmp_path: Path):
    found = measured([Graded((0.6, 0.3), 1), Graded((1.0, 1.0), 2)], replace(CALIBRATED, samples=4))
    assert [one.threshold for one in found.points] == [1.0, 0.75, 0.5, 0.25]
    assert [one.wrong for one in found.points] == [0, 0, 0, 1]
    both = {"vote": found, "two_step": replace(CALIBRATED, mode="two_step")}
    write_calibrations(tmp_path, both)  # pyright: ignore[reportArgumentType]
    assert read_calibrations(tmp_path) == both
    assert read_calibrations(tmp_path / "nowhere") == {}
    file = tmp_path / "calibration.json"
    file.write_bytes(file.read_bytes().replace(b'"vote"', b'"vota"'))
    with pytest.raises(UserError, match="damaged"):
        read_calibrations(tmp_path)
