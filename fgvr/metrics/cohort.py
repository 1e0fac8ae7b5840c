"""All that is counted of one cohort's answers, under the names that are logged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torchmetrics import SumMetric

from fgvr.judges.base import Judged
from fgvr.metrics.agreement import Agreement
from fgvr.metrics.best_of_n import BestOfN
from fgvr.metrics.datasets import DatasetCounts
from fgvr.metrics.hierarchy import Hierarchy
from fgvr.metrics.hits import ClassTable, RankAccuracy, rank_hits
from fgvr.metrics.verdicts import SPECIFICITY_WEIGHTS, VerdictHistogram, verdict_values
from fgvr.taxonomy.tree import Taxonomy


class CohortScores(nn.Module):
    """What is counted of a cohort: verdicts, ranks, paths, classes, datasets; with `sampled` the best of so many too.

    `unread` counts samples that were to be answered and could not be read: they are in no other figure's denominator.
    `compared` says that a second judge's verdicts are given too.
    """

    def __init__(
        self,
        taxonomy: Taxonomy,
        weights: Sequence[float] = SPECIFICITY_WEIGHTS,
        sampled: int = 0,
        compared: bool = False,
    ) -> None:
        super().__init__()
        self.taxonomy, self.weights = taxonomy, tuple(weights)
        self.histogram, self.ranks = VerdictHistogram(weights), RankAccuracy(taxonomy.ranks)
        self.hierarchy = Hierarchy(taxonomy)
        self.classes, self.unread = ClassTable(sorted(taxonomy.paths)), SumMetric()
        self.best_of = BestOfN(sampled, weights) if sampled else None
        self.agreement = Agreement() if compared else None
        self.datasets = DatasetCounts()
        # a process that gets no samples still takes part in the sums
        self.update([], second=[] if compared else None, sampled=[] if sampled else None)

    def update(
        self,
        judged: Sequence[Judged],
        unread: int = 0,
        second: Sequence[Judged] | None = None,
        sampled: Sequence[Judged] | None = None,
    ) -> None:
        """Adds answers, one per photo; the second judge's view of the same; and those sampled, photo by photo."""
        verdicts, hits = verdict_values(judged), rank_hits(judged, self.taxonomy)
        places = [self.classes.place[entry.example.label] for entry in judged]
        several = sum(entry.judgement is not None and entry.judgement.several for entry in judged)
        self.histogram.update(verdicts, several)
        self.ranks.update(hits)
        self.hierarchy.update(judged)
        self.classes.update(torch.tensor(places, dtype=torch.long), verdicts, hits[:, -1])
        self.unread.update(float(unread))
        self.datasets.update(judged)
        if self.agreement is not None and second is not None:
            self.agreement.update(verdicts, verdict_values(second))
        if self.best_of is not None and sampled is not None:
            self.best_of.update(verdict_values(sampled).view(-1, self.best_of.n))

    def figures(self, gather: Callable[[list[Any]], list[Any]] = list) -> dict[str, float]:
        """Every figure by name, over all ranks of the run; `gather` brings their rows together. A collective call."""
        more: dict[str, float] = {}
        for metric in (self.agreement, self.best_of):
            more |= metric.compute() if metric is not None else {}
        more |= DatasetCounts.figures(gather(self.datasets.rows()), self.weights)
        own = (self.histogram, self.ranks, self.hierarchy)
        found = {name: value for metric in own for name, value in metric.compute().items()}
        return {**found, "unread": float(self.unread.compute()), **more}
