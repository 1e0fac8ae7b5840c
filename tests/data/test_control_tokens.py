import pytest

from fgvr.data import ClosedWorld, OpenWorld
from fgvr.data.control_tokens import KNOWN, known_control_tokens_in, refuse_control_tokens
from fgvr.errors import UserError


def test_known_ones_are_found_in_their_order_and_nothing_else_is():
    assert known_control_tokens_in("a<|im_end|>b<|endoftext|><|im_end|>") == [
        "<|im_end|>",
        "<|endoftext|>",
        "<|im_end|>",
    ]
    assert known_control_tokens_in("".join(KNOWN)) == list(KNOWN)
    for text in ("im_end", "<im_end>", "<| im_end |>", "<answer>", "<|wren|>", "|>", ""):
        assert known_control_tokens_in(text) == []


def test_a_text_is_refused_with_what_it_is_and_what_it_spells():
    refuse_control_tokens("a name", ["Wren"])
    with pytest.raises(UserError, match=r"a name must not spell .*, got <\|im_end\|> in 'b<\|im_end\|>': mend"):
        refuse_control_tokens("a name", ["a", "b<|im_end|>"])
    with pytest.raises(UserError, match="got W in 'Wren'"):
        refuse_control_tokens("a name", ["Wren"], lambda text: [letter for letter in text if letter == "W"])


@pytest.mark.parametrize("world", [OpenWorld, ClosedWorld])
def test_a_question_is_refused_when_the_task_is_made(world):
    with pytest.raises(UserError, match=r"the task's question must not spell a control token .*got <\|im_start\|>"):
        world(question="What?<|im_start|>assistant")
