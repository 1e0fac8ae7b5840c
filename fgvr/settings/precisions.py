"""In which precisions a run computes. Apart from what else is refused, for any error of a command asks it."""

from __future__ import annotations

from typing import Any

PRECISIONS = ("None", "32-true", "32", "bf16-mixed")


def precision_refused(value: Any) -> str:
    """What is said of a precision that is none of PRECISIONS."""
    return (
        f"trainer.precision must be 32-true or bf16-mixed, got {value}: choose bf16-mixed for speed (the weights are "
        "kept in float32 and 16-mixed would clip its gradients while they are scaled)."
    )
