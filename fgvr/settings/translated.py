"""What Lightning and torch say of a user's mistake, as sentences that tell what to set."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from fgvr.errors import UserError

OF_THE_MACHINE = ("backend found", "accelerator is not available")


def refused_by_trainer(error: Exception) -> UserError:
    """What a Trainer that could not be built said, and what to set where this machine lacks what was asked for."""
    said = f"trainer: {error}"
    if any(part in said for part in OF_THE_MACHINE):
        said += " Set trainer.accelerator to cpu, or to auto for the best that there is."
    return UserError(said)


@contextmanager
def training() -> Iterator[None]:
    """Raises UserError where a Trainer refuses an interval that is longer than an epoch."""
    try:
        yield
    except ValueError as error:
        if "`val_check_interval`" not in str(error):
            raise
        fault = str(error).strip().partition(". ")[0]
        raise UserError(
            f"trainer: {fault}: lower it, or set trainer.check_val_every_n_epoch to null, with which it is counted "
            "over epochs."
        ) from error


@contextmanager
def evaluating() -> Iterator[None]:
    """Evaluating leaves the training's callbacks out on purpose; and weights that do not fit are the user's to mend."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Be aware that when using `ckpt_path`")
        try:
            yield
        except RuntimeError as error:
            if not str(error).startswith("Error(s) in loading state_dict"):
                raise
            raise UserError(f"The checkpoint does not fit the model of this config: {error}") from error
