"""Rewards that need no model: is the label named, was the reply well formed, was it short enough."""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from typing import Self

import torch

from fgvr.errors import UserError
from fgvr.objectives.overlong import soft_overlong_penalty
from fgvr.rewards.base import AnsweredGroup, Reward
from fgvr.taxonomy.names import Names
from fgvr.taxonomy.tree import Taxonomy


class Exact(Reward):
    """1 for an answer that names the label, by name or synonym, and nothing but the label; else 0.

    The answer is looked up whole in the taxonomy, in all the ways in which names are written and said (`Names.find`).
    So a part of a word, an ancestor, a name below the label, several candidates, or a reply that did not parse earn 0;
    and so does a misspelt name, which `TaxonomyJudge` accepts unless its `similarity` is 1.

    Raises UserError for a label that the taxonomy lacks, and ValueError when it was not bound.
    """

    def __init__(self) -> None:
        self._names: Names | None = None

    def bind(self, taxonomy: Taxonomy) -> Self:
        bound = copy.copy(self)
        bound._names = Names(taxonomy)
        return bound

    def score(self, groups: Sequence[AnsweredGroup]) -> list[list[float | None]]:
        if self._names is None:
            raise ValueError("Exact needs a taxonomy: call bind(taxonomy) and use the reward it returns")
        return [self._of(group, self._names) for group in groups]

    def _of(self, group: AnsweredGroup, names: Names) -> list[float | None]:
        label = group.example.label
        if label not in names.taxonomy.lineage:
            raise UserError(
                f"a label must be a name of the taxonomy, but {group.example.uid} has {label!r}: "
                "use the taxonomy of the data"
            )
        return [float(answer is not None and names.find(answer.text) == label) for answer in group.answers]


class Format(Reward):
    """1 for a reply that the task could parse and that the length limit did not end; else 0."""

    def score(self, groups: Sequence[AnsweredGroup]) -> list[list[float | None]]:
        return [
            [float(answer is not None and not cut) for answer, cut in zip(group.answers, group.truncated, strict=True)]
            for group in groups
        ]


class SoftLength(Reward):
    """From 0 down to -1 over the last `buffer` tokens before `limit`, and -1 beyond (DAPO, arXiv 2503.14476, eq. 13).

    Raises UserError unless 1 <= buffer <= limit.
    """

    def __init__(self, limit: int, buffer: int) -> None:
        if not 1 <= buffer <= limit:
            raise UserError(f"buffer must lie between 1 and the limit of {limit} tokens, got {buffer}")
        self.limit, self.buffer = limit, buffer

    def score(self, groups: Sequence[AnsweredGroup]) -> list[list[float | None]]:
        return [self._of(torch.tensor(group.lengths, dtype=torch.int64)) for group in groups]

    def _of(self, lengths: torch.Tensor) -> list[float | None]:
        return [*soft_overlong_penalty(lengths, limit=self.limit, buffer=self.buffer).tolist()]


class Substring(Reward):
    """1 when the label, in lower case, occurs anywhere in the first answer block of the text, in lower case; else 0.

    The accuracy reward of Fine-R1's released code (arXiv 2602.07605), white space around "<", ">" and "/" dropped first
    as there. It is easily fooled: an answer that lists every candidate earns 1, and so does "Goldfinch" for the label
    "Finch". It serves to reproduce that code; `Exact` is the reward to train with.

    Raises UserError for a blank label, which every answer would contain.
    """

    def score(self, groups: Sequence[AnsweredGroup]) -> list[list[float | None]]:
        return [self._of(group) for group in groups]

    def _of(self, group: AnsweredGroup) -> list[float | None]:
        label = group.example.label.lower()
        if not label.strip():
            raise UserError(
                f"a label must hold text, but that of {group.example.uid} is blank: label it or leave it out"
            )
        return [float(label in _first_answer(text).lower()) for text in group.texts]


def _first_answer(text: str) -> str:
    """What stands between the first opening answer tag and the next closing one; nothing where either is missing."""
    tight = "".join(piece.strip() for piece in re.split(r"([<>/])", text))
    answer, closing, _ = tight.partition("<answer>")[2].partition("</answer>")
    return answer if closing else ""
