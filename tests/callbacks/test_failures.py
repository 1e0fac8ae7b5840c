from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import prompt_batch, tiny_backbone, tiny_policy
from two_processes import both, callback, said

from fgvr.callbacks.failures import sentence_of
from fgvr.callbacks.judge_validation import Samples
from fgvr.errors import UserError
from fgvr.models import PolicyConfig
from fgvr.models.sampling import Sampling
from fgvr.modules import SFT
from fgvr.modules.base import Optimizer
from fgvr.rollouts import InProcess

EEL = "the eel must be dry, but it is wet: dry it"
NO_ROOM = "Memory must suffice, but it ran out{} (CUDA out of memory. Tried to allocate 2.00 GiB.): "
MORE_ROOM = "take a device or a machine with more memory, or a smaller model."
PLACES = {
    "training": ("--model=failing_run.FailingModel", "--model.init_args.place=training"),
    "validation": ("--model=failing_run.FailingModel", "--model.init_args.place=validation"),
    "loading": ("--model=failing_run.FailingModel", "--model.init_args.place=loading"),
    "rollout": (callback("failing_run.FailingCallback", '{"kind": "KIND"}'),),
    "saving": (callback("failing_run.FailingCallback", '{"kind": "KIND", "place": "saving"}'),),
    "loader": ("--data=failing_run.FailingData",),
}


NO_DISK = "/runs/eel must find room, but the disk is full (No space left on device): make room, then start again."
ELSEWHERE = [  # than in training
    ("rollout", "memory", 2, NO_ROOM.format("") + MORE_ROOM),
    ("validation", "memory", 2, NO_ROOM.format(" in validation") + "lower data.init_args.eval_batch_size"),
    ("loading", "memory", 2, NO_ROOM.format(" while loading the model") + MORE_ROOM),
    ("saving", "memory", 2, NO_ROOM.format("") + MORE_ROOM),
    ("saving", "disk", 2, NO_DISK),
]


@pytest.mark.parametrize(
    ("place", "kind", "code", "sentence"),
    [
        ("training", "users", 2, EEL),
        ("training", "memory", 2, NO_ROOM.format(" in training") + "lower micro_batch_tokens"),
        ("training", "bug", 1, "KeyError: 'eel'"),
        ("loader", "bug", 1, "KeyError: 'eel'"),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in ELSEWHERE),
    ],
)
def test_an_error_of_one_process_ends_both_with_its_sentence(
    tmp_path: Path, place: str, kind: str, code: int, sentence: str
) -> None:
    kinds = (f"--model.init_args.kind={kind}",) if "model" in PLACES[place][0] else ()
    processes = both(tmp_path, *(option.replace("KIND", kind) for option in PLACES[place]), *kinds)
    deadline = time.monotonic() + 90
    while all(process.poll() is None for process in processes) and time.monotonic() < deadline:
        time.sleep(0.05)
    codes = [process.wait(15) for process in processes]  # the other follows in seconds
    assert codes == [code, code], said(tmp_path)
    first, second = said(tmp_path)
    assert sentence in second
    assert f"fgvr: process 1 has failed, which ends them all: {sentence}" in first
    assert ("Traceback" in second) is (kind == "bug")  # of a mistake of ours all is shown, where it was made
    assert "Traceback" not in first


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_one_that_fails_where_the_others_have_ended_ends_them_too(tmp_path: Path, rank: int) -> None:
    options = f'{{"kind": "users", "place": "end", "rank": {rank}}}'
    codes = [process.wait(90) for process in both(tmp_path, callback("failing_run.FailingCallback", options))]
    assert codes == [2, 2], said(tmp_path)
    assert f"fgvr: process {rank} has failed, which ends them all: {EEL}" in said(tmp_path)[1 - rank]


@pytest.mark.slow
def test_a_process_that_has_failed_and_does_not_end_keeps_no_other(tmp_path: Path) -> None:
    stuck = callback("failing_run.Stuck")
    options = (*PLACES["training"], "--model.init_args.kind=users", stuck)
    waiting, failing = both(tmp_path, *options)
    try:
        assert waiting.wait(90) == 2
        assert f"fgvr: process 1 has failed, which ends them all: {EEL}" in said(tmp_path)[0]
        assert failing.poll() is None
    finally:
        failing.send_signal(signal.SIGKILL)
        failing.wait()


def test_what_memory_that_ran_out_is_called() -> None:
    for error in (
        torch.OutOfMemoryError("CUDA out of memory."),
        MemoryError(),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes."),
    ):
        assert sentence_of(error).startswith("Memory must suffice, but it ran out (")
    assert sentence_of(UserError("out of memory")) == "out of memory"
    assert sentence_of(RuntimeError("size mismatch\nmore")) == "RuntimeError: size mismatch"


class NoRoom:
    """An engine, a module's part or a device that has no memory left."""

    def __getattr__(self, name: str) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def answers(policy: Any) -> None:
    module = SFT(PolicyConfig(tiny_backbone()), Optimizer())
    module.policy = policy
    module.validation_step(prompt_batch(tiny_policy()), 0)


@pytest.mark.parametrize(
    ("work", "where", "lowered"),
    [
        (
            lambda broken: Samples(n=2).draw(broken, prompt_batch(tiny_policy()), 4),
            " while drawing the best of several",
            ("n or max_new_tokens (of JudgeValidation's samples)", "max_rows of their engine", "eval_batch_size"),
        ),
        (
            lambda broken: InProcess().sample(broken, prompt_batch(tiny_policy()), Sampling(2, 1.0, 4), (1, 2, 3)),
            " while sampling",
            ("max_rows (of RolloutGeneration; one whole group", "sampling.group_size", "max_new_tokens"),
        ),
        (answers, " in validation", ("data.init_args.eval_batch_size",)),
    ],
)
def test_memory_that_ran_out_is_told_what_is_used_there(work: Any, where: str, lowered: tuple[str, ...]) -> None:
    with pytest.raises(torch.OutOfMemoryError) as error:
        work(NoRoom())
    said = sentence_of(error.value)
    assert said.startswith(NO_ROOM.format(where))
    assert all(setting in said for setting in lowered)
    assert said.endswith(", or lower model.init_args.policy.pixels.max.")
