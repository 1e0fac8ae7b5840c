"""An example becomes a prompt, a target, a batch."""

from fgvr.data.tasks import ClosedWorld, OpenWorld, Task

__all__ = ["ClosedWorld", "OpenWorld", "Task"]
