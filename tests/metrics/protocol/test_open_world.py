from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fgvr.metrics.protocol.open_world import Said, included, open_figures, relative_similarity, said_in

VECTORS = {"bird": (1.0, 0.0), "Red Finch": (0.6, 0.8), "finch": (0.0, 2.0), "Wren": (0.0, 1.0), "": (1.0, 0.0)}


def encode(texts: Sequence[str]) -> torch.Tensor:
    return torch.tensor([VECTORS[text] for text in texts])


def test_text_inclusion_as_in_the_paper() -> None:
    assert included("A red finch, male", "Red Finch")
    assert included("mexican petunia", "petunia")  # the rule's own weakness
    assert not included("finch", "Red Finch")
    assert included("an Audi A4", "Audi_A4 Sedan 2012", dropped=2)
    assert not included("an Audi A4", "Audi A4 Sedan 2012")
    assert included("jeep", "Jeep 2012", dropped=2)  # of two words the first is kept


def test_relative_similarity_by_hand() -> None:
    assert relative_similarity(0.8, 0.6) == pytest.approx(0.5)  # (.8 - .6) / (1 - .6)
    assert relative_similarity(0.5, 0.6) == 0
    assert relative_similarity(1.0, 0.6) == 1
    assert (relative_similarity(1.0, 1.0), relative_similarity(0.9, 1.0)) == (1, 0)


def test_figures_by_hand() -> None:
    rows = [
        Said("seen", "birds", "a", "Red Finch", "Red Finch"),  # included; cosine 1, so 1
        Said("seen", "birds", "b", "Red Finch", "finch"),  # not; (.8 - .6) / .4 = .5
        Said("unseen", "birds", "c", "Wren", "Red Finch"),  # not; cosine .8, bird and Wren 0: .8
    ]
    found = open_figures(rows, encode, "bird", {})
    assert found["text inclusion"] == pytest.approx({"seen": 0.5, "unseen": 0.0, "all": 0.25})
    assert found["semantic similarity"] == pytest.approx({"seen": 0.75, "unseen": 0.8, "all": 0.775})
    assert open_figures(rows[:1], None, "bird", {}) == {"text inclusion": {"seen": 1.0, "all": 1.0}}
    assert open_figures([], None, "bird", {}) == {"text inclusion": {}}


@given(st.lists(st.tuples(st.sampled_from(sorted(VECTORS)), st.sampled_from(["Red Finch", "Wren"]))), st.randoms())
def test_order_changes_no_bit(pairs: list[tuple[str, str]], rng: random.Random) -> None:
    rows = [Said("seen", "birds", str(n), label, text) for n, (text, label) in enumerate(pairs)]
    whole = open_figures(rows, encode, "bird", {})
    rng.shuffle(rows)
    assert open_figures(rows, encode, "bird", {}) == whole
    assert all(0 <= value <= 1 for row in whole.values() for value in row.values())


def test_what_was_said_is_what_stands_between_the_tags() -> None:
    assert said_in("<think>x</think><answer> Wren </answer>") == "Wren"
    assert said_in("It is a Wren.") == "It is a Wren."
    assert said_in("<answer>a</answer><answer>b</answer>") == "a</answer><answer>b"  # as released
