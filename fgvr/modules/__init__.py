"""LightningModules, one per training objective."""

from fgvr.modules.base import Optimizer, PolicyModule
from fgvr.modules.divek import DiVEk
from fgvr.modules.grpo import GRPO
from fgvr.modules.sft import SFT
from fgvr.modules.speciarl import SpeciaRL
from fgvr.modules.tapo import TAPO

__all__ = ["GRPO", "SFT", "TAPO", "DiVEk", "Optimizer", "PolicyModule", "SpeciaRL"]
