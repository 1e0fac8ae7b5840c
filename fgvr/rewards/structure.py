"""A reward for thoughts that go through the four parts of Fine-R1's first stage."""

from __future__ import annotations

from collections.abc import Sequence

from fgvr.data.sections import HEADINGS, MOST, candidates_in, sections_of
from fgvr.rewards.base import AnsweredGroup, Reward
from fgvr.taxonomy.spelling import mentions, normalise
from fgvr.types import Answer


class Structure(Reward):
    """A quarter for each part of a structured thought that does its work (arXiv 2602.07605, Table 5); from 0 to 1.

    The analysis is there; there are one to four candidates; the comparison names at least two of them, or the only
    one; the prediction is the answer, and among the candidates. A reply that did not parse, or whose parts stand twice
    or out of order, earns 0. It says nothing of whether the answer is right.
    """

    def score(self, groups: Sequence[AnsweredGroup]) -> list[list[float | None]]:
        return [[share_of_parts(answer) for answer in group.answers] for group in groups]


def share_of_parts(answer: Answer | None) -> float:
    """See `Structure`."""
    parts = sections_of(answer.thought) if answer is not None else {}
    if answer is None or not parts:
        return 0.0
    analysis, listed, comparison, prediction = (parts.get(heading, "") for heading in HEADINGS)
    candidates = {normalise(name) for name in candidates_in(listed)} - {""}  # mere punctuation names nothing
    compared = sum(mentions(comparison, name) for name in candidates)
    done = (
        bool(analysis),
        1 <= len(candidates) <= MOST,
        bool(candidates) and compared >= min(2, len(candidates)),
        normalise(prediction.strip(" .")) == normalise(answer.text) and normalise(answer.text) in candidates,
    )
    return sum(done) / len(done)
