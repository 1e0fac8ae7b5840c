"""An example becomes a prompt, a target, a batch."""

from fgvr.data.as_written import AsWritten
from fgvr.data.closed_world import ClosedWorld
from fgvr.data.own_question import OwnQuestion
from fgvr.data.tasks import OpenWorld, Task

__all__ = ["AsWritten", "ClosedWorld", "OpenWorld", "OwnQuestion", "Task"]
