"""Rewards: what the completions of one photo are worth, as separate components and as their weighted sum."""

from fgvr.rewards.base import AnsweredGroup, Reward
from fgvr.rewards.choice import Choice
from fgvr.rewards.specificity import Specificity, SpecificityReward
from fgvr.rewards.structure import Structure
from fgvr.rewards.verifiable import Exact, Format, SoftLength, Substring
from fgvr.rewards.weighted import Scores, Term, WeightedSum

__all__ = [
    "AnsweredGroup",
    "Choice",
    "Exact",
    "Format",
    "Reward",
    "Scores",
    "SoftLength",
    "Specificity",
    "SpecificityReward",
    "Structure",
    "Substring",
    "Term",
    "WeightedSum",
]
