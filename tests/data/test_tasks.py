import collections
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy_birds import BIRDS, PATHS, example

from fgvr.data.closed_world import ClosedWorld
from fgvr.data.tasks import OpenWorld, Task, format_answer, parse_completion
from fgvr.errors import SampleError, UserError
from fgvr.taxonomy.tree import Taxonomy
from fgvr.types import Answer, Example

NAMES = st.text(min_size=1).filter(lambda text: text.strip() and not set(text) & set("<>"))
THOUGHTS = st.text() | st.just("maybe <answer>Wren</answer>") | st.just("1 < 2 <b>")


@given(NAMES, st.none() | THOUGHTS)
def test_what_is_written_is_read_back(name: str, thought: str | None) -> None:
    assert parse_completion(format_answer(name, thought)) == Answer(name.strip(), (thought or "").strip())


@given(NAMES, st.none() | THOUGHTS)
def test_no_cut_reply_is_an_answer(name: str, thought: str | None) -> None:
    text = format_answer(name, thought)
    assert [parse_completion(text[:end]) for end in range(len(text))] == [None] * len(text)


@given(
    st.lists(st.sampled_from(["<think>", "</think>", "<answer>", "</answer>", " ", "a", "\n", "<", "b"]), max_size=12)
)
def test_every_parsed_reply_is_well_formed(parts: list[str]) -> None:
    text = "".join(parts)
    answer = parse_completion(text)
    if answer is not None:
        assert text.rstrip().endswith("</answer>")
        assert answer.text == answer.text.strip() != ""
        assert not set(answer.text) & set("<>")
        outside = text.replace(answer.thought, "", 1)
        assert outside.count("<answer>") == outside.count("</answer>") == 1
        assert parse_completion(format_answer(answer.text, answer.thought)) == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("<answer>Wren</answer>", Answer("Wren")),
        ("\n <think> small </think>\n\n<answer> Plain\nWren </answer> \n", Answer("Plain\nWren", "small")),
        ("<think><answer>Wren</answer></think><answer>Finch</answer>", Answer("Finch", "<answer>Wren</answer>")),
        ("<think></think><answer>Wren</answer>", Answer("Wren")),
        ("<think><answer>Wren</answer></think>", None),
        ("<think><answer>Wren</answer>", None),
        ("<think>a<think>b</think><answer>Wren</answer>", None),
        ("<think>a</think>b</think><answer>Wren</answer>", None),
        ("<think>a</think>so: <answer>Wren</answer>", None),
        ("It is <answer>Wren</answer>", None),
        ("<answer>Wren</answer>.", None),
        ("<answer>Wren</answer><answer>Finch</answer>", None),
        ("<answer>Wren<answer>Finch</answer>", None),
        ("<answer><b>Wren</b></answer>", None),
        ("<answer>Wren<|im_end|></answer>", None),
        ("<answer></answer>", None),
        ("<answer> \n</answer>", None),
        ("<Answer>Wren</Answer>", None),
        ("Wren", None),
        ("", None),
    ],
)
def test_grammar(text: str, answer: Answer | None) -> None:
    assert parse_completion(text) == answer


def test_hostile_lengths_are_read_in_linear_time() -> None:
    for text in ["<think>" + "<" * 200_000, "<answer>" + " " * 200_000, " " * 200_000 + "<think>" + "</think" * 50_000]:
        assert parse_completion(text) is None


@pytest.mark.parametrize(("answer", "thought"), [("a<b", None), ("", None), (" ", None), ("Wren", "a</think>b")])
def test_what_the_grammar_cannot_hold_is_refused(answer: str, thought: str | None) -> None:
    with pytest.raises(SampleError, match="angle bracket"):
        format_answer(answer, thought)


@pytest.mark.parametrize(
    "task", [OpenWorld(), OpenWorld(think=True), ClosedWorld(), ClosedWorld(letters=True, think=True)]
)
def test_prompt_is_one_turn_with_the_photo_first_and_says_how_to_reply(task: Task) -> None:
    (turn,) = task.bind(BIRDS).messages(example(), random.Random(0))
    kinds = [entry["type"] for entry in turn["content"]]
    text = turn["content"][-1]["text"]
    assert (turn["role"], kinds) == ("user", ["image", "text"])
    assert text.startswith(task.question)
    assert "<answer>" in text
    assert ("<think>" in text) == task.think


def test_open_world_teaches_the_label_by_default() -> None:
    task = OpenWorld()
    assert task.target(example(), random.Random(0)) == "<answer>Red Finch</answer>"
    assert task.parse("<answer>Red Finch</answer>") == Answer("Red Finch")


def test_depths_are_drawn_by_their_weights() -> None:
    task, rng = OpenWorld(depth={"family": 1, "species": 3}).bind(BIRDS), random.Random(0)
    drawn = collections.Counter(task.target(example(), rng) for _ in range(2000))
    assert set(drawn) == {"<answer>Finches</answer>", "<answer>Red Finch</answer>"}
    assert 0.21 < drawn["<answer>Finches</answer>"] / 2000 < 0.29  # 1 in 4, give or take 4 standard errors


def test_depth_below_a_short_path_is_the_label() -> None:
    ragged = Taxonomy({"Emu": ("Ratites", "Emu"), **PATHS}, ("family", "genus", "species"), "bird")
    emu = Example("e", (b"",), "Emu", ("Ratites", "Emu"), "val", "seen", "birds")
    assert OpenWorld(depth={"species": 1}).bind(ragged).target(emu, random.Random(0)) == "<answer>Emu</answer>"
    thought = OpenWorld(think=True).bind(ragged).target(emu, random.Random(0))
    assert thought == "<think>Family: Ratites. Species: Emu.</think><answer>Emu</answer>"


def test_thought_names_the_path_as_far_as_the_answer() -> None:
    whole = OpenWorld(think=True).bind(BIRDS).target(example(), random.Random(0))
    genus = OpenWorld(think=True, depth={"genus": 1}).bind(BIRDS).target(example(), random.Random(0))
    assert whole == "<think>Family: Finches. Genus: Roundbill. Species: Red Finch.</think><answer>Red Finch</answer>"
    assert genus == "<think>Family: Finches. Genus: Roundbill.</think><answer>Roundbill</answer>"


def test_stored_response_is_taught_when_it_ends_in_the_answer() -> None:
    task = OpenWorld(think=True).bind(BIRDS)
    stored = "<think>A red bib.</think>\n<answer>rubra</answer>"
    assert task.target(example(response=stored), random.Random(0)) == (
        "<think>A red bib.</think><answer>Red Finch</answer>"
    )
    coarse = OpenWorld(think=True, depth={"family": 1}).bind(BIRDS)
    assert "A red bib" not in coarse.target(example(response=stored), random.Random(0))
    assert OpenWorld().target(example(response="broken"), random.Random(0)) == "<answer>Red Finch</answer>"


@pytest.mark.parametrize("response", ["Red Finch", "<think>x</think><answer>Blue Finch</answer>"])
def test_a_bad_stored_response_is_named(response: str) -> None:
    with pytest.raises(SampleError, match=r"x-1.*response"):
        OpenWorld(think=True).bind(BIRDS).target(example(response=response), random.Random(0))


@pytest.mark.parametrize("world", [OpenWorld, ClosedWorld])
@pytest.mark.parametrize(
    ("opening", "think", "target"),
    [
        ("", False, "<answer>Red Finch</answer>"),
        ("<think>\n", True, "<think>Family: Finches. Genus: Roundbill. Species: Red Finch.</think>"),
        ("<think>", False, "<think></think><answer>Red Finch</answer>"),
        ("<think>\n\n</think>\n\n", False, "<think></think><answer>Red Finch</answer>"),
    ],
)
def test_targets_begin_as_the_chat_template_does(world: type[Task], opening: str, think: bool, target: str) -> None:
    task = world(think=think).bind(BIRDS).opened(opening)  # pyright: ignore[reportCallIssue]
    shown = task.prepare(example(), random.Random(0))
    reply = task.target(shown, random.Random(0))
    assert reply.startswith(target)
    answer = task.parse(reply, shown)
    assert answer is not None
    assert answer.text == "Red Finch"


def test_templates_that_the_grammar_cannot_go_on_from_are_refused() -> None:
    with pytest.raises(UserError, match="closes it before the model can think"):
        OpenWorld(think=True).opened("<think>\n\n</think>\n\n")
    for opening in ("<reasoning>", "<answer>", "<think>Well, ", "Sure: ", "<think></think><think>"):
        with pytest.raises(UserError, match=r"begins every reply with .* mend chat_template\.jinja"):
            OpenWorld().opened(opening)


@pytest.mark.parametrize("depth", [{}, {"family": 0.0}, {"family": -1.0, "genus": 2.0}, {"family": float("nan")}])
def test_weights_of_depths_are_checked(depth: dict[str, float]) -> None:
    with pytest.raises(UserError, match="depth must give ranks weights"):
        OpenWorld(depth=depth)


def test_settings_are_checked_against_the_taxonomy() -> None:
    with pytest.raises(UserError, match=r"depth must name ranks.*\['tribe'\]"):
        OpenWorld(depth={"tribe": 1.0}).bind(BIRDS)
    with pytest.raises(UserError, match="angle bracket"):
        OpenWorld().bind(Taxonomy.flat(["a<b", "c"]))
    with pytest.raises(ValueError, match="bind"):
        OpenWorld(depth={"family": 1.0}).target(example(), random.Random(0))
