from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from fgvr.callbacks.failures import sentence_of
from fgvr.errors import UserError

ROOT = Path(__file__).parents[2]
CONFIG = """
model: {class_path: toy_run.ToyModel}
data: {class_path: toy_run.ToyData}
trainer: {accelerator: cpu, strategy: ddp, devices: 2, max_steps: 12, max_epochs: -1, val_check_interval: 5,
  logger: false}
run: {save_every: 2, allow_changed: [code]}
"""
EEL = "the eel must be dry, but it is wet: dry it"
NO_ROOM = "Memory must suffice, but it ran out {} (CUDA out of memory. Tried to allocate 2.00 GiB.): lower "
CALLBACK = '--trainer.callbacks=[{{"class_path": "failing_run.{}", "init_args": {}}}]'
PLACES = {
    "training": ("--model=failing_run.FailingModel", "--model.init_args.place=training"),
    "validation": ("--model=failing_run.FailingModel", "--model.init_args.place=validation"),
    "rollout": (CALLBACK.format("FailingCallback", '{"kind": "KIND"}'),),
    "loader": ("--data=failing_run.FailingData",),
}


def both(folder: Path, *options: str) -> list[subprocess.Popen[str]]:
    (folder / "toy.yaml").write_text(CONFIG)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    line = [sys.executable, "-m", "fgvr", "fit", "--config", str(folder / "toy.yaml"), f"--run.dir={folder / 'run'}"]
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCHELASTIC_RUN_ID": "toy"}
    paths = {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "OMP_NUM_THREADS": "1"}
    processes: list[subprocess.Popen[str]] = []
    for rank in ("0", "1"):
        own = {"RANK": rank, "LOCAL_RANK": rank}
        with (folder / f"said{rank}").open("w") as file:
            environment = {**os.environ, **paths, **shared, **own}
            process = subprocess.Popen([*line, *options], text=True, env=environment, stdout=file, stderr=file)
            processes.append(process)
    return processes


def said(folder: Path) -> list[str]:
    return [(folder / f"said{rank}").read_text() for rank in ("0", "1")]


@pytest.mark.parametrize(
    ("place", "kind", "code", "sentence"),
    [
        ("training", "users", 2, EEL),
        ("training", "memory", 2, NO_ROOM.format("in training")),
        ("training", "bug", 1, "KeyError: 'eel'"),
        ("rollout", "memory", 2, NO_ROOM.format("in training")),
        ("validation", "memory", 2, NO_ROOM.format("in validation") + "data.init_args.eval_batch_size"),
        ("loader", "bug", 1, "KeyError: 'eel'"),
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


def test_a_process_that_has_failed_and_does_not_end_keeps_no_other(tmp_path: Path) -> None:
    stuck = CALLBACK.format("Stuck", "{}")
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
        assert sentence_of(error).startswith("Memory must suffice, but it ran out in training (")
        assert "micro_batch_tokens" in sentence_of(error)
        assert "gradient_checkpointing" in sentence_of(error)
        assert "pixels.max" in sentence_of(error)
    assert sentence_of(UserError("out of memory")) == "out of memory"
    assert sentence_of(RuntimeError("size mismatch\nmore")) == "RuntimeError: size mismatch"
