"""What is counted of judged answers. Every figure's denominator is all answers, those that did not parse included.

Correctness, specificity and their harmonic mean are the figures of SpeciaRL (arXiv 2603.03197), whose released code
does not compute them; the definitions are those of `summary`, and the shares of all verdicts are reported beside them,
so that any other can be worked out. Nothing is ever 0/0: a share of nothing is 0, and `n` says so.

Shape legend: N answers, P photos, K answers sampled of each, R ranks, C classes. A verdict is its integer value;
PARSE_FAILURE and UNJUDGED, below all of them, stand for none.
"""

from fgvr.metrics.agreement import Agreement
from fgvr.metrics.best_of_n import BestOfN
from fgvr.metrics.cohort import CohortScores
from fgvr.metrics.datasets import DatasetCounts
from fgvr.metrics.hits import ClassTable, RankAccuracy, rank_hits
from fgvr.metrics.verdicts import (
    INTERVALS,
    PARSE_FAILURE,
    SPECIFICITY_WEIGHTS,
    UNJUDGED,
    VERDICT_FIGURES,
    VerdictHistogram,
    summary,
    verdict_values,
)

__all__ = [
    "INTERVALS",
    "PARSE_FAILURE",
    "SPECIFICITY_WEIGHTS",
    "UNJUDGED",
    "VERDICT_FIGURES",
    "Agreement",
    "BestOfN",
    "ClassTable",
    "CohortScores",
    "DatasetCounts",
    "RankAccuracy",
    "VerdictHistogram",
    "rank_hits",
    "summary",
    "verdict_values",
]
