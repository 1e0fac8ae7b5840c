"""Whether transformers draws its bars: where somebody sees them move, and not into a log."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from transformers.utils import logging


@contextmanager
def bars_on_terminals_alone() -> Iterator[None]:
    """Within it transformers' bars, of weights that it reads and writes, are left out unless stderr is a terminal."""
    before = logging.is_progress_bar_enabled()
    if not sys.stderr.isatty():
        logging.disable_progress_bar()
    try:
        yield
    finally:
        if before:
            logging.enable_progress_bar()
