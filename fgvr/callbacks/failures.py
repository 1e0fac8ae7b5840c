"""An error in one process of a run ends them all, with its sentence; and memory that ran out is one."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import torch.distributed as dist
from lightning.pytorch import Callback, LightningModule, Trainer

from fgvr.errors import SampleError, UserError
from fgvr.models.memory import is_out_of_memory
from fgvr.ranks import LEAVING, Failure, Watch, first_failure

REMEDIES = {  # what to do, by where it happened
    "in validation": "lower data.init_args.eval_batch_size",
    "while sampling": "lower the engine's max_rows (of RolloutGeneration) or model.init_args.sampling.max_new_tokens",
    "in training": "lower micro_batch_tokens (of the model in RL, of the data in SFT), or set "
    "model.init_args.policy.gradient_checkpointing to true",
}


class EndTogether(Callback):
    """Watches the other processes of a run, and tells them of this one's error before anything else is done about it.

    It is to be the first of the callbacks.
    """

    def __init__(self) -> None:
        self._watch: Watch | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if self._watch is None and trainer.world_size > 1 and dist.is_initialized():
            self._watch = Watch()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if self._watch is not None:
            self._watch.stop()
            self._watch = None

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self.teardown(trainer, pl_module, "")
        if trainer.world_size > 1 and isinstance(exception, Exception):
            tell_others(exception)


def tell_others(error: Exception) -> None:
    """Lets the other processes end with this one, which itself has a minute left to do so.

    An error that only follows from another's, a connection that broke, ends this process with that one's sentence.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return
    users_own = isinstance(error, UserError | SampleError) or is_out_of_memory(error)
    own = Failure(dist.get_rank(), 2 if users_own else 1, sentence_of(error))
    first = first_failure(own)
    if first is not None and first.rank != own.rank and not users_own:
        first.end()
    late = threading.Timer(LEAVING, own.end)
    late.daemon = True
    late.start()


@contextmanager
def failing_together() -> Iterator[None]:
    """Within it an error of this process ends the others too, and memory that ran out is a UserError."""
    try:
        yield
    except Exception as error:
        tell_others(error)
        if is_out_of_memory(error):
            raise UserError(sentence_of(error)) from error
        raise


def sentence_of(error: Exception) -> str:
    """What a user is told of an error."""
    said = next(iter(str(error).splitlines()), "")
    if is_out_of_memory(error):
        where = _where(error)
        return (
            f"Memory must suffice, but it ran out {where} ({said or type(error).__name__}): {REMEDIES[where]}, "
            "or lower model.init_args.policy.pixels.max."
        )
    if isinstance(error, UserError | SampleError):
        return str(error)
    return f"{type(error).__name__}: {said}"


def _where(error: Exception) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    if any(frame.name in ("validation_step", "test_step", "predict_step") for frame in frames):
        return "in validation"
    return "while sampling" if any("/rollouts/" in frame.filename for frame in frames) else "in training"
