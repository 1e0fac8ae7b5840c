"""The groups that a run learned from, out of the rows of rollouts.jsonl: as many as a page can hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fgvr.judges import Judgement, TaxonomyJudge
from fgvr.report.ran import Sampled
from fgvr.taxonomy.tree import Taxonomy

Row = Mapping[str, Any]
NO_ANSWER = "no answer"


@dataclass(frozen=True)
class Group:
    """The rows of the completions about one example, with the optimiser steps done after its batch, and the verdict of
    each: the run's own judge's, or with `by_taxonomy` that of names and places in the taxonomy alone.
    """

    step: int
    epoch: int
    rows: tuple[Row, ...]
    verdicts: tuple[str | None, ...]
    by_taxonomy: bool

    @property
    def uid(self) -> str:
        return str(self.rows[0].get("uid", ""))

    @property
    def label(self) -> str:
        return str(self.rows[0].get("label", ""))

    @property
    def partners(self) -> dict[str, str]:
        """The uids of a triplet's other photos, by role."""
        return {role: str(self.rows[0][role]) for role in ("positive", "negative") if self.rows[0].get(role)}

    @property
    def options(self) -> list[str]:
        """The options of a choice, in the order of the question."""
        shown = self.rows[0].get("shown")
        return [str(option) for option in shown] if isinstance(shown, list) else []


@dataclass(frozen=True)
class Kept:
    """The groups that are shown, of `groups` with `rollouts` completions that the run has learned from."""

    shown: tuple[Group, ...]
    groups: int
    rollouts: int


def groups_of(sampled: Sequence[Sampled], most: int, taxonomy: Taxonomy | None) -> Kept:
    """Groups whose completions are `most` at the most, taken evenly over the training; one at least."""
    gathered: dict[tuple[int, int, int], list[Sampled]] = {}
    for one in sampled:
        gathered.setdefault((one.epoch, one.step, one.place), []).append(one)
    places = sorted(gathered)
    each = len(sampled) / len(places) if places else 1.0
    chosen = evenly(len(places), max(1, int(most / each)))
    judged = Judged(taxonomy)
    shown = tuple(_group([one.row() for one in gathered[places[n]]], judged) for n in chosen)
    return Kept(shown, len(places), len(sampled))


def evenly(count: int, most: int) -> list[int]:
    """At most `most` of the numbers below `count`, as far apart as can be, the first and the last among them."""
    if count <= most:
        return list(range(count))
    if most == 1:
        return [count - 1]
    return [round(n * (count - 1) / (most - 1)) for n in range(most)]


class Judged:
    """What a taxonomy alone says of an answer, each pair of label and answer looked up once."""

    def __init__(self, taxonomy: Taxonomy | None) -> None:
        self._labels = frozenset() if taxonomy is None else frozenset(taxonomy.lineage)
        self._judge = None if taxonomy is None else TaxonomyJudge().bind(taxonomy)
        self._known: dict[tuple[str, str], str | None] = {}

    def verdict(self, label: Any, answer: Any) -> str | None:
        """None where it does not know the label, or there is no taxonomy."""
        if answer is None:
            return NO_ANSWER
        if self._judge is None or label not in self._labels:
            return None
        pair = str(label), str(answer)
        if pair not in self._known:
            (found,) = self._judge.verdicts([pair])
            self._known[pair] = str(found.verdict) if isinstance(found, Judgement) else None
        return self._known[pair]


def _group(rows: Sequence[Row], judged: Judged) -> Group:
    own = any("verdict" in row for row in rows)
    verdicts = tuple(
        (row.get("verdict") or NO_ANSWER) if own else judged.verdict(row.get("label"), row.get("answer"))
        for row in rows
    )
    first = rows[0]
    return Group(int(first.get("global_step", 0)), int(first["epoch"]), tuple(rows), verdicts, not own)
