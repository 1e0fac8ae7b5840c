from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy_birds import BIRDS, example

from fgvr.data.closed_world import ClosedWorld
from fgvr.metrics.protocol.audit import Audit, always_first, as_markdown, audit
from fgvr.metrics.protocol.passes import Answers, Pass, variants
from fgvr.metrics.protocol.questions import Questions
from fgvr.metrics.protocol.replies import OUTSIDE, UNREAD, Reply, position_bias, read_reply, released_rule, scores
from fgvr.types import Example

TASK = ClosedWorld(4).bind(BIRDS)
QUESTIONS = Questions(TASK, {"birds": frozenset(BIRDS.paths)})
PHOTOS = [
    replace(example(label, uid=f"{label}-{n}"), cohort="unseen" if "Wren" in label else "seen")
    for label in BIRDS.paths
    for n in range(50)
]


def first(examples: Sequence[Example]) -> list[str]:
    return [f"<answer>{one.extra['shown'][0]}</answer>" for one in examples]


def right(examples: Sequence[Example]) -> list[str]:
    return [f"<answer>{one.label}</answer>" for one in examples]


def run(answers: Answers, photos: Sequence[Example] = PHOTOS, batch: int = 64) -> tuple[list[Reply], Counter[str]]:
    made = Pass(QUESTIONS, variants("siblings", ["random"], range(3), False, True))
    for start in range(0, len(photos), batch):
        made.add(photos[start : start + batch], answers)
    return made.replies, made.notes


def found(answers: Answers, **options: Any) -> Audit:
    replies, notes = run(answers, **options)
    return audit(replies, "siblings", notes, {})


def of(made: Audit, choice: str, setting: str) -> Any:
    (line,) = [line for line in made.lines if (line.choice, line.setting) == (choice, setting)]
    return line


def test_who_always_picks_the_first_is_at_chance_here_and_right_throughout_on_the_released_rule() -> None:
    made = found(first)
    point, low, high = made.lines[0].scores.means["all"]
    assert made.chance == 0.25
    assert low <= 0.25 <= high
    assert abs(point - 0.25) < 0.05
    assert of(made, "released rule", "label first, label within the answer").scores.means["all"] == (1, 1, 1)
    assert of(made, "control", "always the first option, released rule").scores.means["all"][0] == 1
    assert made.lines[0].scores.position_bias > 0.7
    said = " ".join(made.said)
    assert "and 100.0% on the released rule" in said
    assert "This policy always picks the first option." in said
    assert "cannot be told from chance" in said
    page = as_markdown(made)
    assert "| released rule | label first, label within the answer | 100.0 | 100.0 | 100.0 |" in page
    assert json.loads(json.dumps(made.as_dict()))["lines"][0]["choice"] == "ours"


def test_who_is_right_is_so_in_any_order_and_the_control_stays_at_chance() -> None:
    made = found(right)
    assert made.lines[0].scores.means["all"] == (1, 1, 1)
    assert made.swing == 0
    control = of(made, "control", "always the first option").scores
    assert control.means["all"][1] <= 0.25 <= control.means["all"][2]
    # two classes are wrens of one genus, which have one sibling each; the Tall Finch has none; finches of three have 2
    assert made.notes["siblings: a class without siblings"] == 50
    assert made.notes["siblings: filled up with relatives"] == 250


def test_distractors_that_are_confused_open_a_gap_and_what_is_outside_is_wrong() -> None:
    def family_only(examples: Sequence[Example]) -> list[str]:
        """Takes the first of its own family; of wrens names one that is not shown, or nothing."""
        return [
            f"<answer>{next(name for name in one.extra['shown'] if BIRDS.paths[name][0] == one.path[0])}</answer>"
            if one.path[0] == "Finches"
            else ("<answer>Emu</answer>" if one.uid.endswith("0") else "Emu")
            for one in examples
        ]

    made = found(family_only)
    ours, weak = made.lines[0].scores, of(made, "distractors", "random").scores
    assert weak.means["seen"][0] > ours.means["seen"][0]
    assert ours.means["unseen"] == (0, 0, 0)
    assert made.swing == pytest.approx(weak.means["all"][0] - ours.means["all"][0])
    # a third of the photos are wrens; of fifty uids five end in 0, and name what is not shown: 1/3 x 5/50
    assert ours.outside == pytest.approx(1 / 30)
    assert ours.unread == pytest.approx(1 / 3 - 1 / 30)
    pooled = of(made, "averages", "over photos, not data sets").scores.means
    assert pooled["all"][0] == pytest.approx(2 / 3 * ours.means["seen"][0])  # two photos of three are finches
    # what is discarded lifts the figure: unseen photos are gone, so that all is seen alone
    assert of(made, "outside the list", "discarded").scores.means["all"] == ours.means["seen"]


def test_batches_and_their_order_change_no_bit() -> None:
    whole = found(first, batch=300).as_dict()
    shuffled = random.Random(0).sample(PHOTOS, len(PHOTOS))
    assert found(first, photos=shuffled, batch=7).as_dict() == whole
    assert found(first, photos=shuffled[::-1], batch=1).as_dict() == whole


def reply(uid: str, chosen: int, label: int, cohort: str = "seen", dataset: str = "birds", seed: int = 0) -> Reply:
    return Reply("v", cohort, dataset, uid, seed, 4, label, chosen, False)


def test_the_averages_are_the_paper_s_by_hand() -> None:
    rows = [
        *(reply(f"a{n}", 0, int(n >= 3)) for n in range(4)),  # birds, seen: 3 of 4
        *(reply(f"b{n}", 0, int(n >= 1), dataset="cars") for n in range(4)),  # cars, seen: 1 of 4
        *(reply(f"c{n}", 0, n, "unseen") for n in range(2)),  # birds, unseen: 1 of 2
        reply("d", UNREAD, 0, "unseen", "cars"),  # cars, unseen: 0 of 2
        reply("e", OUTSIDE, 0, "unseen", "cars"),
    ]
    made = scores(rows)
    assert made.means["seen"][0] == pytest.approx((3 / 4 + 1 / 4) / 2)
    assert made.means["unseen"][0] == pytest.approx((1 / 2 + 0) / 2)
    assert made.means["all"][0] == pytest.approx((1 / 2 + 1 / 4) / 2)
    assert made.micro == pytest.approx(5 / 12)  # 3 + 1 + 1 of 12 photos
    assert (made.unread, made.outside, made.unasked) == (1 / 12, 1 / 12, 0)
    assert made.groups["seen", "birds"][0] == 0.75
    assert all(low <= point <= high for point, low, high in (*made.groups.values(), *made.means.values()))


def test_the_interval_is_that_of_photos_not_of_questions() -> None:
    once = scores([reply(f"u{n}", 0, n % 2) for n in range(100)]).means["all"]
    thrice = scores([reply(f"u{n}", 0, n % 2, seed=seed) for n in range(100) for seed in range(3)]).means["all"]
    assert once == pytest.approx(thrice)  # the same hundred photos, asked three times with one result
    # sqrt(.25 / 100) = .05, so 95 % of the means lie within .098 of one half
    assert once[2] - once[0] == pytest.approx(0.098, abs=0.012)


def test_position_bias_by_hand() -> None:
    # choices at 0: 3, at 1: 1 of 4; labels one at each place: (|3-1| + |1-1| + |0-1| + |0-1|) / (2 x 4) = 4/8
    rows = [reply("a", 0, 0), reply("b", 0, 1), reply("c", 0, 2), reply("d", 1, 3), reply("e", UNREAD, 0)]
    assert position_bias(rows) == pytest.approx(1 / 2)
    assert position_bias([reply("e", UNREAD, 0)]) == 0
    assert scores(rows).by_place == (1 / 2, 0, 0, 0)  # the label at 0: a right, e unread


@given(st.lists(st.tuples(st.integers(-2, 3), st.integers(0, 3)), min_size=1, max_size=20), st.randoms())
def test_figures_stay_in_their_ranges_whatever_the_order(pairs: list[tuple[int, int]], rng: random.Random) -> None:
    rows = [reply(f"u{n}", *pair) for n, pair in enumerate(pairs)]
    made = scores(rows)
    rng.shuffle(rows)
    assert scores(rows) == made
    assert 0 <= made.position_bias <= 1
    assert made.micro + made.unread + made.outside <= 1 + 1e-9
    assert all(not one.strict for one in always_first([replace(rows[0], options=0, chosen=-3, label_place=-1)]))


def test_a_single_choice_is_strict_and_the_released_rule_is_not() -> None:
    shown = ["Red Finch", "Blue Finch", "Ash Finch", "Tall Finch"]
    asked = replace(example(), extra={"shown": shown})

    def read(text: str) -> tuple[int, bool]:
        made = read_reply(TASK, "v", 0, asked, text)
        return made.chosen, made.released

    assert read("<answer>rubra</answer>") == (0, False)  # a synonym is the option, to which the released rule is blind
    assert read(f"<answer>{', '.join(shown)}</answer>") == (OUTSIDE, True)  # a list of all is right as released
    assert read("<answer>Plain Wren</answer>") == (OUTSIDE, False)
    assert read("Red Finch") == (UNREAD, False)
    assert read("<answer>Ash Finch</answer> or <answer>Red Finch</answer>") == (UNREAD, True)
    assert released_rule("<answer>mexican petunia</answer>", "petunia")
    assert released_rule("<answer>RED FINCH</answer>", "Red_Finch")
    letters = ClosedWorld(4, letters=True).bind(BIRDS)
    assert read_reply(letters, "v", 0, asked, "<answer>A</answer>").released
