from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from conftest import tiny_backbone
from says import ASK, BIRDS, CHOOSE, PATHS, batch_of, letter_of, says

from fgvr.data.closed_world import ClosedWorld
from fgvr.data.collate import PromptCollate
from fgvr.errors import UserError
from fgvr.kernels.group_packing import one_row_per_completion
from fgvr.models import PixelBudget, Policy, PolicyConfig
from fgvr.options.votes import Ranked, Reply, Tally
from fgvr.rollouts.two_step import Decision, Question, TwoStep, decide, gate_of, two_step
from fgvr.types import Example, ReadRecord

TORN = ["Azure Finch"] * 3 + ["Amber Finch"] * 2 + ["Jade Owl", None, "heron"]


def test_a_torn_vote_becomes_a_question_in_every_order_of_its_options():
    policy = says([TORN], letter_of("Amber Finch"))
    (decision,) = two_step(policy, batch_of(policy, ["Amber Finch"]), ASK, CHOOSE, TwoStep(8, options=3))
    assert [(one.name, one.votes) for one in decision.votes.ranked[:2]] == [("Azure Finch", 3), ("Amber Finch", 2)]
    assert decision.gate == "asked"
    assert decision.vote == "Azure Finch"
    assert len(decision.questions) == 3
    for place in range(3):
        assert {question.shown[place] for question in decision.questions} == set(decision.options)
    assert {question.chosen for question in decision.questions} == {"Amber Finch"}
    for question in decision.questions:
        assert sum(question.probabilities) == pytest.approx(1)
    assert decision.choosing_tokens == sum(question.tokens for question in decision.questions) > 0
    assert policy.towers == 1, "both steps and all questions share the photo's features"


def test_options_that_are_not_told_are_asked_about_once_in_the_words_of_the_first_step():
    policy = says([TORN], lambda text: "<answer>Amber Finch</answer>")
    choice = ClosedWorld(3, question=ASK.question, told=False).bind(BIRDS)
    (decision,) = two_step(policy, batch_of(policy, ["Amber Finch"]), ASK, choice, TwoStep(8, options=3))
    (question,) = decision.questions
    assert (question.chosen, decision.answer, decision.by) == ("Amber Finch", "Amber Finch", "choice")


def test_votes_off_scope_and_unread_replies_add_up_to_all_of_them():
    policy = says([TORN])
    scope = {"Azure Finch", "Jade Owl"}
    (decision,) = two_step(policy, batch_of(policy, ["Jade Owl"]), ASK, CHOOSE, TwoStep(8), scope=scope)
    assert set(decision.options) == scope
    assert decision.votes.dropped == {"unparsed": 1, "unnamed": 0, "out of scope": 3}
    assert decision.votes.votes == 4
    assert decision.votes.replies == 8


def test_the_label_is_never_looked_at():
    decisions = []
    for label in PATHS:
        policy = says([TORN], letter_of("Amber Finch"))
        (decision,) = two_step(policy, batch_of(policy, [label]), ASK, CHOOSE, TwoStep(8))
        decisions.append(replace(decision, example=batch_of(policy, ["Jade Owl"]).examples[0]))
    assert decisions[0] == decisions[1] == decisions[2]


@pytest.mark.parametrize(
    ("replies", "margin", "gate", "answer", "by"),
    [
        (["Azure Finch"] * 8, None, "unanimous", "Azure Finch", "vote"),
        (["Azure Finch"] * 7 + [None], None, "one name", "Azure Finch", "vote"),
        (["Azure Finch"] * 6 + ["Jade Owl"] * 2, 0.5, "margin", "Azure Finch", "vote"),
        (["Azure Finch"] * 6 + ["Jade Owl"] * 2, 0.51, "asked", None, "choice"),
        ([None] * 8, None, "nothing read", None, "abstain"),
    ],
)
def test_a_question_is_asked_only_where_there_is_something_to_choose(replies, margin, gate, answer, by):
    policy = says([replies])
    (decision,) = two_step(policy, batch_of(policy, ["Jade Owl"]), ASK, CHOOSE, TwoStep(8, margin=margin))
    assert (decision.gate, decision.by) == (gate, by)
    assert bool(policy.asked) == (gate == "asked")
    if gate != "asked":
        assert decision.answer == answer
        assert decision.choosing_tokens == 0
        assert decision.confidence == (decision.votes.ranked[0].votes / 8 if decision.votes.ranked else 0.0)


def test_an_unreadable_choice_falls_back_to_the_vote():
    policy = says([TORN], lambda text: "<answer>A or B</answer>")
    (decision,) = two_step(policy, batch_of(policy, ["Amber Finch"]), ASK, CHOOSE, TwoStep(8))
    assert (decision.gate, decision.by, decision.answer) == ("asked", "vote", "Azure Finch")
    assert decision.confidence == pytest.approx(3 / 8 / len(decision.options)), "as if it had been guessed"
    assert all(question.chosen is None and question.probabilities == () for question in decision.questions)


def test_a_batch_is_decided_photo_by_photo_whatever_it_is_cut_into():
    labels = ["Jade Owl", "Azure Finch", "Amber Finch"]
    replies = [TORN, ["Jade Owl"] * 8, TORN[::-1]]
    whole = says(replies)
    many = two_step(whole, batch_of(whole, labels), ASK, CHOOSE, TwoStep(8))
    assert [one.gate for one in many] == ["asked", "unanimous", "asked"]
    for number, decision in enumerate(many):
        alone = says([replies[number]])
        batch = batch_of(alone, labels)
        one = PromptCollate(alone.processor.padding_token, alone.processor.image_token)(
            [(batch.examples[number], batch.prompt(number))], ReadRecord(0, 0, (0,), (f"u{number}",))
        )
        (found,) = two_step(alone, one, ASK, CHOOSE, TwoStep(8, max_rows=1))
        assert [q.shown for q in found.questions] == [q.shown for q in decision.questions]
        assert (found.answer, found.gate, found.by) == (decision.answer, decision.gate, decision.by)
        assert found.confidence == pytest.approx(decision.confidence, abs=1e-5)
    assert two_step(whole, batch_of(whole, []), ASK, CHOOSE, TwoStep(8)) == []


def test_a_policy_that_says_nothing_abstains_and_is_counted():
    backbone = tiny_backbone()
    policy = Policy(PolicyConfig(backbone, PixelBudget(28 * 28, 84 * 84)), backbone.processor(PixelBudget(784, 7056)))
    batch = batch_of(policy, ["Jade Owl", "Azure Finch"])
    first, second = (two_step(policy, batch, ASK, CHOOSE, TwoStep(4), 6) for _ in range(2))
    assert first == second, "a photo's random numbers are its own"
    assert [(one.gate, one.by, one.answer) for one in first] == [("nothing read", "abstain", None)] * 2
    assert all(len(one.replies) == 4 and one.sampled_tokens <= 24 for one in first)
    assert policy.training


RANKED = [Ranked("Azure Finch", 3, -1.0), Ranked("Amber Finch", 2, -2.0), Ranked("Jade Owl", 1, -3.0)]
VOTES = Tally(tuple(RANKED), {"unparsed": 2, "unnamed": 0, "out of scope": 0}, 8)


def before(**changes: Any) -> Decision:
    example = Example("u", (b"",), "Jade Owl", PATHS["Jade Owl"], "val", "seen", "birds")
    own = Decision(
        example,
        [Reply("", "x", -1.0, 2)] * 8,
        VOTES,
        [one.name for one in RANKED],
        "asked",
        "Azure Finch",
        "vote",
        3 / 8,
    )
    return replace(own, **changes)


def question(chosen: str | None, **chances: float) -> Question:
    by_name: Mapping[str, float] = {name.replace("_", " "): value for name, value in chances.items()}
    return Question(tuple(by_name), "", chosen, tuple(by_name.values()) if chosen else (), 3)


def test_probabilities_are_averaged_over_the_orders_so_that_a_favoured_letter_does_not_count():
    # whatever stands first gets .6 of the chances; what is left goes 3 : 1 to the owl
    asked = [
        question("Azure Finch", Azure_Finch=0.6, Amber_Finch=0.1, Jade_Owl=0.3),
        question("Amber Finch", Amber_Finch=0.6, Jade_Owl=0.3, Azure_Finch=0.1),
        question("Jade Owl", Jade_Owl=0.6, Azure_Finch=0.2, Amber_Finch=0.2),
    ]
    decision = decide(before(), asked)
    assert decision.answer == "Jade Owl"
    assert decision.confidence == pytest.approx(1 / 8 * (0.3 + 0.3 + 0.6) / 3)
    assert decide(before(), [question(None), asked[0]]).answer == "Azure Finch", "what cannot be read is left out"
    other = question("Jade Owl", Azure_Finch=0.5, Amber_Finch=0.1, Jade_Owl=0.4)
    assert decide(before(), [other]).answer == "Jade Owl", "one question's own choice counts"
    assert decide(before(), [question(None), other]).answer == "Azure Finch", "one read of several is not one question"
    none = [question("none of these", Azure_Finch=0.2, Amber_Finch=0.1, Jade_Owl=0.1, none_of_these=0.6)]
    assert (decide(before(), none).answer, decide(before(), none).by) == (None, "abstain")


@torch.no_grad()
def test_probabilities_are_those_of_the_answers_behind_the_thought_of_the_reply():
    """Against each answer alone behind its whole prompt, from the log-probs of all of its tokens."""
    thought, thinks = "it has a beak", ClosedWorld(letters=True, question="Which?", think=True).bind(BIRDS)
    policy = says([TORN], lambda text: f"<think>{thought}</think><answer>A</answer>")
    batch = batch_of(policy, ["Amber Finch"])
    (decision,) = two_step(policy, batch, ASK, thinks, TwoStep(8, options=3))
    assert len(decision.questions) == 3
    prompt = batch.prompt(0)
    for question in decision.questions:
        shown = replace(decision.example, extra={"shown": list(question.shown)})
        asked = policy.processor.ask_again(thinks.messages(shown, random.Random(0)), prompt.images)
        targets = [
            torch.tensor(policy.processor.encode_target(f"<think>{thought}</think><answer>{letter}</answer>"))
            for letter in "ABC"
        ]
        rows = one_row_per_completion([asked], [targets], policy.processor.padding_token)
        logprobs, _ = policy.completion_logprobs(rows)
        sums = torch.zeros(3, dtype=torch.float64).index_add_(0, rows.target_sequence, logprobs.double())
        assert question.probabilities == pytest.approx(sums.softmax(0).tolist(), abs=1e-5)


def test_no_answer_that_broke_the_grammar_ranks_above_one_that_was_read():
    unread = decide(before(), [Question(tuple(before().options), "hm", None, (), 3)] * 3)
    assert (unread.answer, unread.by) == ("Azure Finch", "vote")
    assert unread.confidence == pytest.approx(3 / 8 / 3)
    sure = decide(before(), [question("Azure Finch", Azure_Finch=0.6, Amber_Finch=0.3, Jade_Owl=0.1)])
    assert sure.confidence == pytest.approx(3 / 8 * 0.6)
    assert sure.confidence > unread.confidence


def test_equal_probabilities_leave_the_better_ranked():
    even = [question("Jade Owl", Jade_Owl=0.5, Azure_Finch=0.5, Amber_Finch=0.0)] * 2
    assert decide(before(), even).answer == "Azure Finch"


def test_the_margin_is_of_all_replies():
    assert gate_of(VOTES, 1 / 8) == "margin"
    assert gate_of(VOTES, 0.2) == "asked"
    assert gate_of(replace(VOTES, ranked=VOTES.ranked[:1]), None) == "one name"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"samples": 1}, "samples of at least 2"),
        ({"max_rows": 0}, "max_rows of at least 1"),
        ({"options": 27}, "between 2 and 26"),
        ({"margin": 0.0}, "above 0 and at most 1"),
        ({"rotations": 6}, "between 1 and the 5 options"),
        ({"temperature": 0.0}, "temperature"),
        ({"max_new_tokens": 0}, "max_new_tokens must be at least 1, got 0"),
    ],
)
def test_settings_out_of_range_are_refused(options: dict[str, Any], said: str):
    with pytest.raises(UserError, match=said):
        TwoStep(**options)


def test_none_of_these_needs_a_letter_of_its_own():
    policy = says([TORN])
    choice = ClosedWorld(4, letters=True, none_of_these=0.1)
    with pytest.raises(UserError, match="26 options and 'none of these' need 27 letters"):
        two_step(policy, batch_of(policy, ["Jade Owl"]), ASK, choice.bind(BIRDS), TwoStep(8, options=26))
    TwoStep(8, options=25).fits(choice)
    TwoStep(8, options=26).fits(ClosedWorld(4, none_of_these=0.1))


def test_a_choice_that_knows_no_names_is_refused():
    policy = says([TORN])
    with pytest.raises(ValueError, match="bind"):
        two_step(policy, batch_of(policy, ["Jade Owl"]), ASK, ClosedWorld(), TwoStep(8))
