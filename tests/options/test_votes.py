"""Votes: names made one before they are counted, scope before the cut, the truth in the lowest-ranked one's place."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fgvr.errors import UserError
from fgvr.options.votes import LONGEST, Reply, canonical, cut, rank, tally
from fgvr.taxonomy.names import Names
from fgvr.taxonomy.tree import Taxonomy

CLASSES = ("Black-footed Albatross", "Sooty Albatross", "Brandt's Cormorant", "Arctic Tern", "Elegant Tern", "B-2")
NAMES = Names(Taxonomy.flat(CLASSES, root="bird"))
SPELT = ("black footed albatross", "Brandts cormorant", "a sooty albatross", "arctic terns", "Gull", "???", None, "b 2")

replies_of = st.lists(
    st.builds(
        lambda answer, logprob: Reply(f"<answer>{answer}</answer>", answer, logprob, 3),
        st.sampled_from([*CLASSES, *SPELT]),
        st.floats(-30, 0, width=32),
    ),
    max_size=24,
)
scopes = st.one_of(st.none(), st.sets(st.sampled_from(CLASSES)))


def said(*answers: str | None, logprob: float = -1.0) -> list[Reply]:
    return [Reply(str(answer), answer, logprob, 4) for answer in answers]


def test_spellings_of_one_name_share_their_votes():
    found = rank(
        said("sooty albatross", "Black-footed Albatross", "black footed albatross", "The Sooty Albatross."), NAMES
    )
    assert [(one.name, one.votes) for one in found] == [("Black-footed Albatross", 2), ("Sooty Albatross", 2)]


def test_what_is_out_of_scope_takes_no_place_among_the_first():
    replies = said(*["gull"] * 5, *["Arctic Tern"] * 3, "Elegant Tern")
    assert cut(rank(replies, NAMES, CLASSES), 2) == ["Arctic Tern", "Elegant Tern"]
    assert cut(rank(replies, NAMES), 2) == ["gull", "Arctic Tern"]


def test_an_unknown_name_keeps_its_own_normalised_spelling():
    assert canonical("  The   GULL's nest ", NAMES) == "the gulls nest"
    assert canonical("!?", NAMES) is None
    assert canonical("x" * (LONGEST + 1), NAMES) is None


def test_equal_votes_stand_by_log_prob_and_equal_log_probs_by_name():
    replies = [*said("Elegant Tern", "Sooty Albatross"), *said("B-2", logprob=-0.5)]
    assert [one.name for one in rank(replies, NAMES)] == ["B-2", "Elegant Tern", "Sooty Albatross"]


def test_the_truth_takes_the_lowest_ranked_ones_place_in_training_alone():
    found = rank(said(*["Arctic Tern"] * 3, *["Elegant Tern"] * 2, "B-2"), NAMES)
    assert cut(found, 3, "Sooty Albatross") == ["Arctic Tern", "Elegant Tern", "Sooty Albatross"]
    assert cut(found, 5, "Sooty Albatross") == ["Arctic Tern", "Elegant Tern", "B-2", "Sooty Albatross"]
    assert cut(found, 2) == ["Arctic Tern", "Elegant Tern"] == cut(found, 2, "Elegant Tern")


@pytest.mark.parametrize("m", [0, 1, 27])
def test_as_many_options_as_letters_are_allowed(m: int):
    with pytest.raises(UserError, match="from 2 to 26"):
        cut(rank(said("B-2"), NAMES), m)


def test_figures_of_the_votes():
    whole, split = tally(said("B-2", "b 2"), NAMES), tally(said("B-2", "B-2", "Arctic Tern", None), NAMES)
    assert (whole.unanimous, whole.margin, whole.entropy) == (True, 1.0, 0.0)
    assert (split.unanimous, split.margin) == (False, 0.25)
    assert 0.63 < split.entropy < 0.64
    none = tally(said(None, "???"), NAMES)
    assert (none.unanimous, none.margin, none.entropy, none.votes) == (False, 0.0, 0.0, 0)
    assert none.dropped == {"unparsed": 1, "unnamed": 1, "out of scope": 0}
    assert not tally(said("B-2", None), NAMES).unanimous


@given(replies_of, scopes)
def test_every_reply_is_a_vote_or_is_dropped_by_reason(replies: list[Reply], scope: set[str] | None):
    found = tally(replies, NAMES, scope)
    assert found.votes + sum(found.dropped.values()) == len(replies) == found.replies
    assert found.votes <= sum(reply.answer is not None for reply in replies)


@given(replies_of, scopes, st.randoms(use_true_random=False))
def test_ranking_is_monotone_in_votes_and_blind_to_the_order_of_replies(
    replies: list[Reply], scope: set[str] | None, rng: random.Random
):
    found = rank(replies, NAMES, scope)
    assert [one.votes for one in found] == sorted((one.votes for one in found), reverse=True)
    assert rank(rng.sample(replies, len(replies)), NAMES, scope) == found


@given(replies_of, scopes, st.integers(2, 6), st.sampled_from(CLASSES))
def test_options_are_distinct_in_scope_and_hold_the_truth_once(
    replies: list[Reply], scope: set[str] | None, m: int, truth: str
):
    found = rank(replies, NAMES, scope)
    trained, tested = cut(found, m, truth), cut(found, m)
    assert trained.count(truth) == 1
    assert len(trained) <= m
    assert len({canonical(name, NAMES) for name in trained}) == len(trained)
    assert tested == [one.name for one in found[:m]]
    assert scope is None or set(tested) <= scope
    assert trained == (tested if truth in tested else [*tested[: m - 1], truth]), "the lowest-ranked gives way"
