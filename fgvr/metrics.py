"""What is counted of judged answers. Every figure's denominator is all answers, those that did not parse included.

Correctness, specificity and their harmonic mean are the figures of SpeciaRL (arXiv 2603.03197), whose released code
does not compute them; the definitions are those in the docstrings, and the shares of all verdicts are reported beside
them, so that any other can be worked out. Nothing is ever 0/0: a share of nothing is 0, and `n` says so.

Shape legend: N answers, R ranks, C classes. A verdict is its integer value; PARSE_FAILURE stands for none.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor, nn
from torchmetrics import Metric, SumMetric

from fgvr.data.taxonomy import Taxonomy
from fgvr.errors import UserError
from fgvr.judges.base import Judged
from fgvr.types import Verdict

PARSE_FAILURE = -1
SPECIFICITY_WEIGHTS = (1 / 3, 2 / 3, 1.0, 1.0)
VERDICT_FIGURES = ("parse_failures", *(verdict.name.lower() for verdict in Verdict))
HISTOGRAM_FIGURES = ("n", "correctness", "specificity", "harmonic_mean", *VERDICT_FIGURES)
FIGURES = (*HISTOGRAM_FIGURES, "exact", "unread")


def verdict_values(judged: Sequence[Judged]) -> Int[Tensor, " N"]:
    """The verdicts as integers, PARSE_FAILURE for replies that did not parse."""
    values = [PARSE_FAILURE if entry.judgement is None else int(entry.judgement.verdict) for entry in judged]
    return torch.tensor(values, dtype=torch.long)


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
    exact = judgement is not None and judgement.verdict == Verdict.SPECIFIC and judgement.node == label
    return [-1 if name is None else int(name in lineage) for name in above] + [int(exact)]


class VerdictHistogram(Metric):
    """Counts of the six verdicts and of replies that did not parse, and what follows from them.

    - correctness: share of n whose verdict is GENERIC or better; abstentions and parse failures stay in n.
    - specificity: mean weight of the correct answers alone; `weights` are those of GENERIC, LESS_SPECIFIC, SPECIFIC,
      MORE_SPECIFIC, each in [0, 1]. 0 when none is correct.
    - harmonic_mean: 2cs / (c + s) of this very set of answers; 0 when both are 0.

    Raises ValueError for weights outside [0, 1].
    """

    full_state_update = False
    counts: Tensor

    def __init__(self, weights: Sequence[float] = SPECIFICITY_WEIGHTS) -> None:
        super().__init__()
        if len(weights) != 4 or not all(0 <= weight <= 1 for weight in weights):
            raise ValueError(f"specificity needs four weights in [0, 1], from generic to more specific, got {weights}")
        self.weights = tuple(weights)
        self.add_state("counts", torch.zeros(len(Verdict) + 1, dtype=torch.long), dist_reduce_fx="sum")

    def update(self, verdicts: Int[Tensor, " N"]) -> None:
        counted = torch.bincount(verdicts.long() - PARSE_FAILURE, minlength=len(Verdict) + 1)
        self.counts += counted.to(self.counts.device)

    def compute(self) -> dict[str, float]:
        """The count n; the shares of parse_failures and of each verdict; correctness, specificity, harmonic_mean."""
        failures, *by_verdict = self.counts.tolist()
        n, correct = failures + sum(by_verdict), by_verdict[Verdict.GENERIC :]
        correctness = _share(sum(correct), n)
        specificity = _share(sum(w * c for w, c in zip(self.weights, correct, strict=True)), sum(correct))
        harmonic_mean = _share(2 * correctness * specificity, correctness + specificity)
        shares = [_share(count, n) for count in (failures, *by_verdict)]
        figures = [float(n), correctness, specificity, harmonic_mean, *shares]
        return dict(zip(HISTOGRAM_FIGURES, figures, strict=True))


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
        return {name: _share(hits, asked) for name, hits, asked in pairs}


class ClassTable(Metric):
    """Per class: answers, exact answers, correct answers (GENERIC or better), parse failures.

    `update` takes each answer's place in `labels`, its verdict and whether it was exact (the last column of
    `rank_hits`).
    """

    full_state_update = False
    COLUMNS = ("n", "exact", "correct", "parse_failures")
    counts: Tensor

    def __init__(self, labels: Sequence[str]) -> None:
        super().__init__()
        self.labels = tuple(labels)
        self.place = {label: index for index, label in enumerate(self.labels)}
        self.add_state("counts", torch.zeros(len(self.labels), 4, dtype=torch.long), dist_reduce_fx="sum")

    def update(self, places: Int[Tensor, " N"], verdicts: Int[Tensor, " N"], exact: Int[Tensor, " N"]) -> None:
        flags = [torch.ones_like(verdicts), exact == 1, verdicts >= Verdict.GENERIC, verdicts == PARSE_FAILURE]
        rows = torch.stack([flag.long() for flag in flags], 1)
        self.counts.index_add_(0, places.to(self.counts.device), rows.to(self.counts.device))

    def compute(self) -> dict[str, dict[str, int]]:
        """The columns of every class that was asked about, in the order of the labels."""
        rows = zip(self.labels, self.counts.tolist(), strict=True)
        return {label: dict(zip(self.COLUMNS, row, strict=True)) for label, row in rows if row[0]}


class CohortScores(nn.Module):
    """All that is counted of one cohort's answers, under the names that are logged.

    `unread` counts samples that were to be answered and could not be read: they are in no other figure's denominator.
    Raises UserError when a rank bears the name of another figure.
    """

    def __init__(self, taxonomy: Taxonomy, weights: Sequence[float] = SPECIFICITY_WEIGHTS) -> None:
        super().__init__()
        self.taxonomy = taxonomy
        self.histogram, self.ranks = VerdictHistogram(weights), RankAccuracy(taxonomy.ranks)
        self.classes, self.unread = ClassTable(sorted(taxonomy.paths)), SumMetric()
        self.update([])  # a process that gets no samples still takes part in the sums
        taken = set(FIGURES) & set(taxonomy.ranks)
        if taken:
            raise UserError(f"a taxonomy's rank must not be called like a figure, got {sorted(taken)}: rename it")

    def update(self, judged: Sequence[Judged], unread: int = 0) -> None:
        verdicts, hits = verdict_values(judged), rank_hits(judged, self.taxonomy)
        places = [self.classes.place[entry.example.label] for entry in judged]
        self.histogram.update(verdicts)
        self.ranks.update(hits)
        self.classes.update(torch.tensor(places, dtype=torch.long), verdicts, hits[:, -1])
        self.unread.update(float(unread))

    def figures(self) -> dict[str, float]:
        """Every figure by name, over all ranks of the run."""
        return {**self.histogram.compute(), **self.ranks.compute(), "unread": float(self.unread.compute())}


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
