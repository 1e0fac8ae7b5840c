"""How processes share a model, and how its checkpoints are written."""

from fgvr.strategies.fsdp import SUPPORTED, FSDP2Strategy

__all__ = ["SUPPORTED", "FSDP2Strategy"]
