"""Judges: how an answer relates to a label, in six ordered verdicts."""

from fgvr.judges.base import Judge, Judgement
from fgvr.judges.taxonomy import TaxonomyJudge

__all__ = ["Judge", "Judgement", "TaxonomyJudge"]
