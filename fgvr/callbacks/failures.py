"""An error in one process of a run ends them all, with its sentence; and memory that ran out is one."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch.distributed as dist
from lightning.pytorch import Callback, LightningModule, Trainer

from fgvr.errors import SampleError, UserError, sentence_of_disk
from fgvr.models.memory import is_out_of_memory
from fgvr.ranks import LEAVING, Failure, Watch, end_together, first_failure, stay_until_told
from fgvr.watchdog.beats import NOTICED, is_watched


class Place(NamedTuple):
    """Where memory can run out, what to lower then, and the functions by which it is known in a traceback.

    `within` is a part of these functions' file names; without functions any of such a file will do.
    """

    where: str
    remedy: str
    functions: tuple[str, ...] = ()
    within: str = ""


PIXELS = "or lower model.init_args.policy.pixels.max"
MORE_ROOM = "take a device or a machine with more memory, or a smaller model"
PLACES = (  # the first that a traceback goes through
    Place(
        " while drawing the best of several",
        "lower n or max_new_tokens (of JudgeValidation's samples), the max_rows of their engine or "
        f"data.init_args.eval_batch_size, {PIXELS}",
        ("draw",),
        "/callbacks/judge_validation.py",
    ),
    Place(
        " in validation",
        f"lower data.init_args.eval_batch_size, {PIXELS}",
        ("validation_step", "test_step", "predict_step"),
    ),
    Place(
        " while sampling",
        "lower the engine's max_rows (of RolloutGeneration; one whole group is the least), "
        f"model.init_args.sampling.group_size or max_new_tokens beside it, {PIXELS}",
        within="/rollouts/",
    ),
    Place(
        " in training",
        "lower micro_batch_tokens (of the model in RL, of the data in SFT), or set "
        f"model.init_args.policy.gradient_checkpointing to true, {PIXELS}",
        ("training_step",),
    ),
    Place(
        " while loading the model",
        MORE_ROOM,
        ("configure_model", "load_checkpoint", "model_to_device", "configure_ddp", "on_fit_start"),
    ),
)
ELSEWHERE = Place("", MORE_ROOM)


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
    users_own = _is_users_own(error)
    if not users_own and isinstance(error, RuntimeError) and is_watched():
        time.sleep(NOTICED)  # where a connection broke because another was killed, the watchdog has the word
    own = Failure(dist.get_rank(), 2 if users_own else 1, sentence_of(error))
    first = first_failure(own)
    if first is not None and first.rank != own.rank and not users_own:
        first.end()
    late = threading.Timer(LEAVING, own.end)
    late.daemon = True
    late.start()


@contextmanager
def failing_together() -> Iterator[None]:
    """Within it an error of this process ends the others too, and memory that ran out is a UserError.

    One without an error ends when all have: another may still fail.
    """
    try:
        yield
        end_together()
    except Exception as error:
        tell_others(error)
        stay_until_told()
        if is_out_of_memory(error):
            raise UserError(sentence_of(error)) from error
        raise


def sentence_of(error: Exception) -> str:
    """What a user is told of an error."""
    said = next(iter(str(error).splitlines()), "")
    if is_out_of_memory(error):
        place = _place(error)
        return f"Memory must suffice, but it ran out{place.where} ({said or type(error).__name__}): {place.remedy}."
    if isinstance(error, UserError | SampleError):
        return str(error)
    if isinstance(error, OSError) and (of_disk := sentence_of_disk(error)) is not None:
        return of_disk
    return f"{type(error).__name__}: {said}"


def _is_users_own(error: Exception) -> bool:
    """Whether the error is one that a user can mend, which ends a process with 2."""
    of_disk = isinstance(error, OSError) and sentence_of_disk(error) is not None
    return isinstance(error, UserError | SampleError) or is_out_of_memory(error) or of_disk


def _place(error: Exception) -> Place:
    frames = traceback.extract_tb(error.__traceback__)
    return next((place for place in PLACES if any(_is_at(frame, place) for frame in frames)), ELSEWHERE)


def _is_at(frame: traceback.FrameSummary, place: Place) -> bool:
    return place.within in frame.filename and (not place.functions or frame.name in place.functions)
