"""The drawn world: birds whose family is easy to see, the genus harder and the species hardest."""

from fgvr.aviary.source import Aviary

__all__ = ["Aviary"]
