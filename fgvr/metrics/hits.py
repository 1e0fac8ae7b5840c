"""Where in the taxonomy an answer is right: by rank, and by class."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor
from torchmetrics import Metric

from fgvr.judges.base import Judged
from fgvr.metrics.verdicts import PARSE_FAILURE, UNJUDGED
from fgvr.taxonomy.tree import Taxonomy
from fgvr.types import Verdict


def rank_hits(judged: Sequence[Judged], taxonomy: Taxonomy) -> Int[Tensor, "N R+1"]:
    """Per answer and rank: 1 when the named node stands at or below the label's ancestor there, else 0.

    It is -1 when the label has no name at that rank. The last column is 1 when the answer is the label itself (verdict
    SPECIFIC on it). An answer judged SPECIFIC or better is right at each of the label's ranks, whatever its node.
    """
    rows = [_hits_of(entry, taxonomy) for entry in judged]
    return torch.tensor(rows, dtype=torch.long).reshape(len(rows), len(taxonomy.ranks) + 1)


def _hits_of(entry: Judged, taxonomy: Taxonomy) -> list[int]:
    label, judgement = entry.example.label, entry.judgement
    lineage: tuple[str, ...] = ()
    if judgement is not None and judgement.verdict >= Verdict.SPECIFIC:
        lineage = taxonomy.lineage[label]
    elif judgement is not None and judgement.node is not None:
        lineage = taxonomy.lineage.get(judgement.node, ())
    above = [taxonomy.at_rank(label, rank) for rank in taxonomy.ranks]
    return [-1 if name is None else int(name in lineage) for name in above] + [int(is_exact(entry))]


def is_exact(entry: Judged) -> bool:
    """Whether the answer is the label itself: the verdict SPECIFIC on it."""
    judgement = entry.judgement
    return judgement is not None and judgement.verdict == Verdict.SPECIFIC and judgement.node == entry.example.label


class RankAccuracy(Metric):
    """Share of answers that are right at each rank, and of those that are exactly the label.

    Takes `rank_hits`. An answer is right at a rank when the node it names has the label's ancestor there: a wrong
    species of the right family counts at family, and an answer above a rank does not count at it. Labels without a name
    at a rank are left out of that rank's figure; nothing is left out of `exact`.
    """

    full_state_update = False
    hits: Tensor
    asked: Tensor

    def __init__(self, ranks: Sequence[str]) -> None:
        super().__init__()
        self.ranks = tuple(ranks)
        for name in ("hits", "asked"):
            self.add_state(name, torch.zeros(len(self.ranks) + 1, dtype=torch.long), dist_reduce_fx="sum")

    def update(self, hits: Int[Tensor, "N R+1"]) -> None:
        self.hits += (hits == 1).sum(0).to(self.hits.device)
        self.asked += (hits >= 0).sum(0).to(self.asked.device)

    def compute(self) -> dict[str, float]:
        pairs = zip((*self.ranks, "exact"), self.hits.tolist(), self.asked.tolist(), strict=True)
        return {name: hits / asked if asked else 0.0 for name, hits, asked in pairs}


class ClassTable(Metric):
    """Per class: answers, exact ones, correct ones (GENERIC or better), parse failures, and those without a verdict.

    `update` takes each answer's place in `labels`, its verdict and whether it was exact (the last column of
    `rank_hits`).
    """

    full_state_update = False
    COLUMNS = ("n", "exact", "correct", "parse_failures", "unjudged")
    counts: Tensor

    def __init__(self, labels: Sequence[str]) -> None:
        super().__init__()
        self.labels = tuple(labels)
        self.place = {label: index for index, label in enumerate(self.labels)}
        self.add_state(
            "counts", torch.zeros(len(self.labels), len(self.COLUMNS), dtype=torch.long), dist_reduce_fx="sum"
        )

    def update(self, places: Int[Tensor, " N"], verdicts: Int[Tensor, " N"], exact: Int[Tensor, " N"]) -> None:
        correct, lost = verdicts >= Verdict.GENERIC, (verdicts == PARSE_FAILURE, verdicts == UNJUDGED)
        rows = torch.stack([flag.long() for flag in (torch.ones_like(verdicts), exact == 1, correct, *lost)], 1)
        self.counts.index_add_(0, places.to(self.counts.device), rows.to(self.counts.device))

    def compute(self) -> dict[str, dict[str, int]]:
        """The columns of every class that was asked about, in the order of the labels."""
        rows = zip(self.labels, self.counts.tolist(), strict=True)
        return {label: dict(zip(self.COLUMNS, row, strict=True)) for label, row in rows if row[0]}
