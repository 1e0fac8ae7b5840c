import json
import os
import signal
import subprocess
import sys
import time
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from small_checkpoints import content, save

from fgvr.checkpoints.background import BackgroundWriter
from fgvr.checkpoints.format import STATE, Saving, hidden_name, newest_checkpoint, read_checkpoint
from fgvr.checkpoints.plain_data import plain
from fgvr.checkpoints.sharded import Part
from fgvr.errors import UserError

ROOT = Path(__file__).parents[2]


def begun(checkpoint: dict[str, Any], path: Path) -> Saving:
    saving = Saving(path, hidden_name(path, "new"), Part(plain(checkpoint)))
    saving.begin()
    return saving


@pytest.mark.slow
def test_what_is_written_behind_is_what_was_there_and_refused_as_at_once(tmp_path: Path) -> None:
    tied = torch.arange(40.0).view(5, 8)
    given = {
        "global_step": 7,
        "state_dict": OrderedDict(a=tied, b=tied[1:, 2:], c=tied.t(), none=torch.zeros(0, 3), one=torch.tensor(2.5)),
        "halves": [torch.full((3,), 1.5, dtype=torch.bfloat16), torch.tensor([True, False])],
        "optimizer_states": [{"state": {0: {"step": torch.tensor(4.0), "exp_avg": tied.clone()}}}],
        "text": {"deep": (1, None, "a")},
    }
    writer = BackgroundWriter(1000)
    for path, fill in ((tmp_path / "a.ckpt", -1.0), (tmp_path / "larger.ckpt", -2.0)):
        expected = plain(given)
        save_at_once = tmp_path / f"at-once-{path.name}"
        Saving(save_at_once, save_at_once, Part(expected)).begin()
        record = Part(expected).write(save_at_once)[STATE]
        saving = begun(given, path)
        writer.begin(saving)
        tied.fill_(fill)
        assert not path.exists()
        files = writer.result()
        assert writer.done is False
        assert files[STATE] == record  # byte for byte
        saving.complete(files)
        read = read_checkpoint(path)
        read["state_dict"]["a"][1, 2] = 99.0
        assert read["state_dict"]["b"][0, 0] == read["state_dict"]["c"][2, 1] == 99.0  # tied still
        given["more"] = torch.randn(100_000)  # memory grows for the second
        save_at_once.rename(tmp_path / f".{save_at_once.name}")

    (tmp_path / "closed").mkdir()
    saving = begun(given, tmp_path / "closed/b.ckpt")
    saving.give_up()  # as another process might
    with pytest.raises(UserError) as at_once:
        saving.write()
    writer.begin(saving)
    with pytest.raises(UserError) as behind:
        writer.result()
    assert str(behind.value) == str(at_once.value)
    assert r"b.ckpt could not be written (No such file or directory; " in str(behind.value)

    os.kill(writer._process.pid, signal.SIGKILL)
    writer._process.wait()
    with pytest.raises(UserError, match=r"has ended by itself \(exit code -9\).*are untouched"):
        writer.begin(begun(given, tmp_path / "c.ckpt"))
    writer.close()


# Saves in the background and is killed at the k-th file operation, its own or the writer's; then says what is there.
KILLED = """
import json, os, sys
from pathlib import Path
from killed_writes import killed_at
from small_checkpoints import content, save
from fgvr.checkpoints import format as io
from fgvr.checkpoints.background import BackgroundWriter
from fgvr.checkpoints.plain_data import plain
from fgvr.checkpoints.sharded import Part

root = Path(sys.argv[1])

def train(path, victim, number):
    if victim == "writer":
        os.environ["KILLED_AT"] = str(number)
    writer = BackgroundWriter()
    print(writer._process.pid, flush=True)
    if victim == "training":
        killed_at(number)
    saving = io.Saving(path, io.hidden_name(path, "new"), Part(plain(content(3))))
    saving.begin()
    writer.begin(saving)
    saving.complete(writer.result())
    os._exit(0)

for victim in ("training", "writer"):
    number, code = 0, None
    while code != 0:
        number += 1
        folder = root / f"{victim}-{number}"
        save(folder, 1)
        save(folder, 2)
        if (child := os.fork()) == 0:
            train(folder / "step-3.ckpt", victim, number)
        code = os.waitpid(child, 0)[1]
        found = io.newest_checkpoint(folder)
        read = io.read_checkpoint(found)
        assert read["state_dict"]["w"].eq(read["global_step"]).all()
        io.sweep(folder)
        there = sorted(path.name for path in folder.iterdir())
        print(json.dumps([victim, code, read["global_step"], there]), flush=True)  # before another child has a copy
"""

# What a writer does at its start that is to be killed, with the training, before one of its file operations.
SITE = """
import os
if "KILLED_AT" in os.environ:
    from killed_writes import killed_at
    killed_at(int(os.environ["KILLED_AT"]), os.getppid())
"""


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_killed_at_any_file_operation_of_either_process_a_whole_checkpoint_is_there(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site/sitecustomize.py").write_text(SITE)
    paths = f"{tmp_path / 'site'}:{ROOT}:{ROOT / 'tests'}"
    run = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path / "saves")],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
    )
    assert run.returncode == 0, run.stderr
    said = [json.loads(line) for line in run.stdout.splitlines()]
    pids, lines = [line for line in said if isinstance(line, int)], [line for line in said if isinstance(line, list)]
    for victim, least in (("training", 8), ("writer", 6)):
        own = [line for line in lines if line[0] == victim]
        assert len(own) > least, own
        assert [line[1] for line in own] == [9] * (len(own) - 1) + [0]
        steps = [line[2] for line in own]
        assert steps == sorted(steps)
        assert set(steps[:-1]) == ({2, 3} if victim == "training" else {2})  # the writer gives no name
        assert all(set(line[3]) <= {"step-1.ckpt", "step-2.ckpt", "step-3.ckpt"} for line in own), own
    late = time.monotonic() + 20
    while any(Path(f"/proc/{pid}").exists() for pid in pids):  # writers end with whom they write for
        assert time.monotonic() < late
        time.sleep(0.1)


def test_nothing_is_there_before_it_is_complete(tmp_path: Path) -> None:
    save(tmp_path, 1)
    saving = begun(content(2), tmp_path / "step-2.ckpt")
    files = saving.write()
    newest = newest_checkpoint(tmp_path)
    assert newest is not None
    assert newest.name == "step-1.ckpt"
    saving.complete(files)
    newest = newest_checkpoint(tmp_path)
    assert newest is not None
    assert newest.name == "step-2.ckpt"
