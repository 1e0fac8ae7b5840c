import random

import pytest
from conftest import photo, tiny_backbone
from toy_birds import BIRDS, example

from fgvr.data.own_question import OwnQuestion
from fgvr.data.tasks import OpenWorld
from fgvr.errors import SampleError
from fgvr.models import PixelBudget
from fgvr.types import Answer

RNG = random.Random(0)
TEXT = "\nWhich bird is  this?\tName it. "


def content(task: OwnQuestion, question: str | None) -> list[dict[str, str]]:
    asked = example() if question is None else example(question=question)
    ((turn,),) = (task.messages(asked, RNG),)
    return turn["content"]


@pytest.mark.parametrize("question", [f"<image>{TEXT}", f"Look: <image>{TEXT}", TEXT, "What?<image>"])
def test_the_text_reaches_the_tokens_as_it_is_written(question: str):
    processor = tiny_backbone().processor(PixelBudget(28 * 28, 84 * 84))
    task = OwnQuestion()
    prompt = processor.encode_prompt(task.messages(example(question=question), RNG), [photo()])
    said = str(processor.tokenizer.decode(prompt.input_ids))
    before, place, after = question.partition("<image>")
    before, after = (before, after) if place else ("", before)
    start = said.index("<|im_start|>user\n") + len("<|im_start|>user\n")
    turn = said[start : said.index("<|im_end|>", start)]
    head, _, rest = turn.partition("<|vision_start|>")
    assert (head, rest.partition("<|vision_end|>")[2]) == (before, after)


def test_no_instruction_is_added_but_the_suffix_that_is_given():
    assert content(OwnQuestion(think=True), f"<image>{TEXT}") == [{"type": "image"}, {"type": "text", "text": TEXT}]
    suffixed = content(OwnQuestion(suffix="\n\nThink first."), "<image>Which?")
    assert suffixed[-1] == {"type": "text", "text": "Which?\n\nThink first."}


def test_an_example_without_a_question_is_asked_as_ever():
    assert OwnQuestion(question="Which?").messages(example(), RNG) == OpenWorld("Which?").messages(example(), RNG)


def test_places_and_photos_must_agree():
    with pytest.raises(SampleError, match=r"x-1: a question must have a place for each of 1 photos, got 2 in"):
        content(OwnQuestion(), "<image> and <image>?")


def test_replies_are_taught_and_read_as_in_the_open_world():
    task = OwnQuestion().bind(BIRDS)
    assert task.parse(task.target(example(question="<image>?"), RNG)) == Answer("Red Finch")
