"""Equations: pure functions of tensors, one idea each."""

from fgvr.objectives.advantages import Advantage, GroupFilter, group_advantages, informative, zero_variance
from fgvr.objectives.entropy import exact_entropy, sampled_entropy
from fgvr.objectives.kl import KL, KLEstimator, k1, k2, k3, kl_penalty
from fgvr.objectives.overlong import soft_overlong_penalty
from fgvr.objectives.policy_loss import Clip, PolicyLoss, policy_loss
from fgvr.objectives.reduction import Reduction, loss_weights
from fgvr.objectives.triplet import Triplet, divergence, triplet_loss

__all__ = [
    "KL",
    "Advantage",
    "Clip",
    "GroupFilter",
    "KLEstimator",
    "PolicyLoss",
    "Reduction",
    "Triplet",
    "divergence",
    "exact_entropy",
    "group_advantages",
    "informative",
    "k1",
    "k2",
    "k3",
    "kl_penalty",
    "loss_weights",
    "policy_loss",
    "sampled_entropy",
    "soft_overlong_penalty",
    "triplet_loss",
    "zero_variance",
]
