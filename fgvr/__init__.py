"""fgvr: post-training of large vision-language models for fine-grained visual recognition.

`fgvr.load("runs/photos").predict("photo.jpg")` names a photo. Nothing heavy is imported before something is asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fgvr.recogniser import Candidate, Recogniser, Recognition, load

__version__ = "0.1.0"
__all__ = ["Candidate", "Recogniser", "Recognition", "__version__", "load"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'fgvr' has no attribute {name!r}")
    return getattr(importlib.import_module("fgvr.recogniser"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
