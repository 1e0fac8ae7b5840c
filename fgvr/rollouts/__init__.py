"""Rollouts: completions sampled from the policy, scored, and made into what an update learns from."""

from fgvr.rollouts.collector import Collector, collect
from fgvr.rollouts.engine import RolloutEngine
from fgvr.rollouts.in_process import InProcess

__all__ = ["Collector", "InProcess", "RolloutEngine", "collect"]
