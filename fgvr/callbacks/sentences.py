"""What a run says on stderr: our own sentences, without those from below that no user can act on."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from fgvr.callbacks.progress import BesideBar

# of lightning and torch
NOT_SAID = (
    "Tip:",
    "`Trainer.fit` stopped:",
    "TPU available:",
    "Restoring states from the checkpoint path",
    "Restored all states from the checkpoint",
    "Loaded model weights from the checkpoint",
)
LIGHTNING = ("lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.seed")  # loggers that speak
NOT_WARNED = (
    "`isinstance.treespec, LeafSpec",
    "The `srun` command is available",
    "The number of training batches",
    "Total length of `list` across ranks is zero",
    "This DataLoader will create",  # the data module says it once
)


@contextmanager
def sentences(level: int) -> Iterator[None]:
    """Within it, what fgvr and lightning log from `level` on goes to stderr, above a bar that is live."""
    root = logging.getLogger("fgvr")
    handler, before = BesideBar(), root.level
    root.addHandler(handler)
    root.setLevel(level)
    others = [logging.getLogger(name) for name in LIGHTNING]

    def worth_saying(record: logging.LogRecord) -> bool:
        return record.levelno >= level and not any(part in record.getMessage() for part in NOT_SAID)

    for other in others:
        other.addFilter(worth_saying)
    try:
        with warnings.catch_warnings():
            for message in NOT_WARNED:
                warnings.filterwarnings("ignore", message=message)
            yield
    finally:
        root.setLevel(before)
        root.removeHandler(handler)
        for other in others:
            other.removeFilter(worth_saying)
