from __future__ import annotations

import random

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from toy_birds import BIRDS, example

from fgvr.data.choosing import CONTRADICTION, LETTERS, chosen_option
from fgvr.data.closed_world import ClosedWorld
from fgvr.judges.taxonomy import TaxonomyJudge
from fgvr.rewards import AnsweredGroup, Choice, Format
from fgvr.taxonomy.names import Names
from fgvr.types import Example, Verdict

SHOWN = ("Blue Finch", "Red Finch", "Ash Finch", "Plain Wren")
NAMES = Names(BIRDS)
POOL = [*BIRDS.paths, "rubra", "RED finch", "the Ash Finch", "Made-up Bird", "made up bird", "finches", "", "B-2"]


def same(text: str, option: str) -> bool:
    return (NAMES.find(text) or text.casefold()) == (NAMES.find(option) or option.casefold())


def chosen(text: str, shown: tuple[str, ...] = SHOWN, letters: bool = True) -> str | None:
    place = chosen_option(text, shown, letters, same)
    return shown[place] if isinstance(place, int) else None


@pytest.mark.parametrize(
    "text",
    [
        *[
            "B",
            "b",
            "(B)",
            "B.",
            "B)",
            "[B]",
            "**B**",
            "**B.**",
            "__B__",
            "`B`",
            "( b ).",
            "Option B",
            "choice b:",
            "B,",
        ],
        *["B) Red Finch", "(B) red finch", "B. rubra", "**B** Red Finch", "**B.** Red Finch", "B - Red Finch"],
        *["B: Rubra", "red finch", "Rubra", "the Red Finch.", "B Red Finch", "b red finch", "**Red Finch**"],
    ],
)
def test_a_single_option_is_read_however_it_is_written(text: str):
    assert chosen(text) == "Red Finch"


@pytest.mark.parametrize(
    "text",
    [
        *[
            "E",
            "(Z)",
            "A, B",
            "A B",
            "A or B",
            "AB",
            "B) Blue Finch",
            "A. Red Finch",
            "(A) Rubra",
            "E) Red Finch",
            "",
            "*",
        ],
        *["Red Finch or Ash Finch", "Tall Finch", "finch", "1", "Б", "ſ", "\u212a", "B) Red Finch or Ash Finch"],
    ],
)
def test_what_names_no_single_offered_option_chooses_none(text: str):
    assert chosen(text) is None


@pytest.mark.parametrize("text", [
    *["A) Red Finch", "A. Red Finch", "(a) rubra", "A Red Finch", "a red finch", "Option A: Red Finch"],
    *["A - Red Finch", "**A.** Red Finch", "A. the Red Finch", "B) Blue Finch", "E) Red Finch", "Z Red Finch"],
])  # fmt: skip
def test_a_letter_with_the_name_of_another_option_is_no_answer_and_earns_nothing(text: str):
    assert chosen_option(text, SHOWN, True, same) == CONTRADICTION
    task = ClosedWorld(letters=True).bind(BIRDS)
    for label in ("Red Finch", "Blue Finch"):
        asked = example(label, shown=list(SHOWN))
        answer = task.parse(reply := f"<answer>{text}</answer>", asked)
        assert answer is None
        group = AnsweredGroup(asked, [reply], [answer], [1], [False])
        assert [reward.score([group]) for reward in (Choice(), Choice(outside=None), Format())] == [[[0.0]]] * 3


@pytest.mark.parametrize("text", ["A) Tall Finch", "A Tall Finch", "B) Red Finch or Ash Finch", "A, B", "Z"])
def test_a_letter_with_what_is_no_option_contradicts_none(text: str):
    assert chosen_option(text, SHOWN, True, same) is None


def test_a_name_that_begins_with_a_letter_is_a_name():
    def mean(text: str, option: str) -> bool:
        return text.casefold() == {"Plain Wren": "c. americana", "Sooty Wren": "e sordida"}[option]

    shown = ("Plain Wren", "Sooty Wren")
    assert [chosen_option(text, shown, True, mean) for text in ("C. americana", "E sordida")] == [0, 1]


def test_options_may_bear_letters_and_brackets_in_their_names():
    shown = ("B-2", "A", "Boxer (dog)", "C. americana")
    assert [chosen(letter, shown) for letter in "ABCD"] == list(shown), "a letter that was offered is the letter"
    assert [chosen(name, shown) for name in ("B-2", "boxer (DOG)", "C. americana")] == [shown[0], *shown[2:]]
    assert chosen("B) A", shown) == chosen("(b) a", shown) == "A"
    assert chosen("E", ("x", "E")) == "E", "a letter that was not offered may be a name"
    assert chosen("A", shown, letters=False) == "A"
    assert chosen("D", shown, letters=False) is None


@pytest.mark.parametrize("text", ['"A"', "“A”", "‘A’", "A?", "A..", "{A}", "<A>", "Ａ", "«A»", "A…", "(A)?", "'a'"])
def test_a_letter_with_other_marks_is_never_the_option_of_that_name(text: str):
    for shown in (("B-2", "Red Finch", "A"), ("A", "Red Finch", "B-2"), SHOWN):
        assert chosen(text, shown) is None
    assert chosen(text, ("B-2", "A"), letters=False) == "A", "without letters a name is a name"
    assert chosen(text.replace("A", "E").replace("a", "e").replace("Ａ", "Ｅ"), ("x", "E")) == "E"


def test_reward_and_evaluation_agree_on_ten_thousand_replies():
    """What the reward pays for is what the judge finds exact, and neither takes anything for two options."""
    task, judge, reward = ClosedWorld(letters=True).bind(BIRDS), TaxonomyJudge(similarity=1.0).bind(BIRDS), Choice()
    rng, paid = random.Random(0), 0
    labels = sorted(BIRDS.paths)
    for number in range(10_000):
        asked = task.prepare(example(rng.choice(labels), f"x-{number}"), rng)
        text = rng.choice(FORMS).format(_scribble(rng, task.shown(asked)))
        answer = task.parse(text, asked)
        ((score,),) = reward.score([AnsweredGroup(asked, [text], [answer], [1], [False])])
        exact = answer is not None and judge.verdicts([(asked.label, answer.text)])[0].verdict == Verdict.SPECIFIC  # pyright: ignore[reportOptionalMemberAccess]
        assert score == float(exact), (text, asked.label, task.shown(asked), answer)
        paid += exact
    assert 500 < paid < 9_500
    counts = reward.tally()
    assert sum(count for name, count in counts.items() if name.startswith("chosen_option/")) == 10_000
    assert counts["options/4"] == 10_000
    assert reward.tally() == {}


FORMS = ["<answer>{}</answer>"] * 8 + [
    "<think>A or B?</think><answer>{}</answer>",
    "<think>B</think> <answer> {} </answer>\n",
    "{}",
    "<answer>{}",
    "<answer>A</answer><answer>{}</answer>",
    "It is <answer>{}</answer>",
]


def _scribble(rng: random.Random, shown: tuple[str, ...]) -> str:
    """Letters and names as models write them, alone, decorated, put together, or cut and jumbled."""
    parts = [
        rng.choice([*LETTERS[:6], *shown, *BIRDS.paths, "Rubra", "finch", "none"]) for _ in range(rng.choice([1, 1, 2]))
    ]
    wrap = rng.choice(
        ["{}", "({})", "{}.", "**{}**", "{})", "[{}]", "Option {}", "it is a {}", "{}:", "the {}", "_{}_"]
    )
    text = rng.choice([" ", ") ", ". ", " or ", ", ", "", " - ", "/", "\n"]).join(parts)
    text = wrap.format(text) if rng.random() < 0.7 else text
    if rng.random() < 0.2:
        at = rng.randrange(len(text) + 1)
        text = text[:at] + rng.choice("ABab )(.*-é\u202e0'") + text[at:]
    return text.swapcase() if rng.random() < 0.1 else text


@given(
    st.lists(st.sampled_from(POOL), min_size=1, max_size=8),
    st.sampled_from(sorted(BIRDS.paths)),
    st.integers(2, 6),
    st.integers(0, 2**32),
)
def test_every_question_holds_its_label_once_and_nothing_twice(ranked: list[str], label: str, most: int, seed: int):
    """Whatever was mined: options are unique as classes, the label is one of them, the last-ranked gives way to it."""
    task = ClosedWorld(options=most, letters=True).bind(BIRDS)
    asked = Example("m", (b"",), label, BIRDS.paths[label], "train", "seen", "b", {"options": ranked})
    others = list(dict.fromkeys(_key(name) for name in ranked if name and _key(name) not in BIRDS.paths[label]))
    assume(others)
    prepared = task.prepare(asked, random.Random(seed))
    shown = task.shown(prepared)
    assert shown.count(label) == 1
    keys = [_key(name) for name in shown]
    assert len(set(keys)) == len(keys) <= most
    assert {key for key in keys if key != label} == set(others[: most - 1]), "the best-ranked stay"
    read = task.parse(task.target(prepared, random.Random(0)), prepared)
    assert read is not None
    assert read.text == label, "the letter leads back to the label"


def _key(name: str) -> str:
    return NAMES.find(name) or name.casefold().replace("-", " ")
