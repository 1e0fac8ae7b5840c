"""Judges: how an answer relates to a label, in six ordered verdicts."""

from fgvr.judges.base import Judge, Judgement, Unjudged
from fgvr.judges.taxonomy import TaxonomyJudge

__all__ = ["Judge", "Judgement", "TaxonomyJudge", "Unjudged"]
