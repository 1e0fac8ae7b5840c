"""Equations: pure functions of tensors, one idea each."""

from fgvr.objectives.reduction import loss_weights

__all__ = ["loss_weights"]
