"""How processes share a model, and how its checkpoints are written."""

from fgvr.strategies.fsdp import FSDP2Strategy, is_supported

__all__ = ["FSDP2Strategy", "is_supported"]
