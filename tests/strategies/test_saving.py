import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from forked_ranks import run_script

from fgvr.checkpoints.format import checkpoints_in, read_checkpoint
from fgvr.ranks import Ranks
from fgvr.strategies.checkpoint_io import WholeCheckpointIO
from fgvr.strategies.saving import Background

# Prints what groups of processes find that write a checkpoint together, at once and in the background.
TOGETHER = """
import os, resource, sys, time
from pathlib import Path
from forked_ranks import checkpoint, gathered, group, say, trained
from toy_run import same_weights
from fgvr.checkpoints.format import read_checkpoint, read_manifest
from fgvr.errors import UserError
from fgvr.strategies.saving import Background, begin_together, complete_together

root = Path(sys.argv[1])

def save(rank, ranks, folder, replicate):
    net, optimizer = trained(replicate)
    content, background = checkpoint(net, optimizer), Background()
    saving = begin_together(content, folder / "at-once.ckpt", ranks, rank)
    complete_together(saving, saving.write, ranks)
    whole, before = gathered(content), (folder / "behind.ckpt").exists()
    background.begin(begin_together(content, folder / "behind.ckpt", ranks, rank))
    for weight in net.parameters():
        weight.data.zero_()  # what was saved is what was there
    early = (folder / "behind.ckpt").exists()
    background.finish(ranks)
    background.close()
    read = [read_checkpoint(folder / f"{name}.ckpt") for name in ("at-once", "behind")]
    same = [same_weights(one, whole) for one in read]
    tied = [one["state_dict"]["tied.weight"] is one["state_dict"]["second.weight"] for one in read]
    if rank == 0:
        files = sorted(read_manifest(folder / "at-once.ckpt").files)
        modes = sorted({oct(file.stat().st_mode) for file in (folder / "at-once.ckpt").iterdir()})
        say({"same": same, "tied": tied, "early": early, "files": files, "modes": modes})

def refused(rank, ranks, folder):
    net, optimizer = trained(shape=(700, 50, 30))
    content, background, said = checkpoint(net, optimizer), Background(), []
    if rank == 1:
        background.prepare(2_000_000)
        while os.fstat(background._writer._memory.descriptor).st_size < 2_000_000:
            time.sleep(0.05)
        for process in (os.getpid(), background._writer._process.pid):
            resource.prlimit(process, resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
    for name in ("at-once", "behind"):
        saving = begin_together(content, folder / f"{name}.ckpt", ranks, rank)
        try:
            if name == "at-once":
                complete_together(saving, saving.write, ranks)
            else:
                background.begin(saving)
                background.finish(ranks)
        except UserError as error:
            said.append(str(error).replace(name, "NAME"))
    background.close()
    left = sorted(path.name for path in folder.iterdir())
    say({"rank": rank, "said": said, "left": left})

for name, world, replicate in (("two", 2, 1), ("three", 3, 1), ("copies", 4, 2)):
    (root / name).mkdir()
    assert group(world, save, root / name, replicate) == [0] * world
(root / "full").mkdir()
assert group(2, refused, root / "full") == [0, 0]
"""


@pytest.mark.slow
def test_a_checkpoint_of_several_is_whole_and_an_error_of_one_is_everybody_s(tmp_path: Path) -> None:
    *saved, first, second = run_script(TOGETHER, str(tmp_path))
    for found, shards in zip(saved, (2, 3, 2), strict=True):  # of two copies of the model one is written
        assert found["same"] == found["tied"] == [True, True]
        assert not found["early"]
        assert found["files"] == [*(f"shard-{number:05d}.safetensors" for number in range(shards)), "state.pt"]
        assert found["modes"] == [oct(0o100666 & ~_umask())]
    at_once, behind = first["said"]
    assert "NAME.ckpt could not be written (File too large; " in at_once
    assert "The checkpoints already saved are untouched" in at_once
    assert behind.partition(";")[0] == at_once.partition(";")[0]  # but for the room that was free
    assert [said.partition(";")[0] for said in second["said"]] == [said.partition(";")[0] for said in first["said"]]
    assert first["left"] == []


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@pytest.mark.slow
def test_a_writer_that_ended_while_it_had_nothing_to_do_is_replaced(tmp_path: Path) -> None:
    background = Background()
    for step in (1, 2):
        checkpoint: dict[str, Any] = {"global_step": step, "w": torch.full((5,), float(step))}
        WholeCheckpointIO().save_checkpoint(checkpoint, tmp_path / f"step-{step}.ckpt", background)
        background.finish(Ranks())
        assert background._writer is not None
        os.kill(background._writer._process.pid, signal.SIGKILL)
        background._writer._process.wait()
    background.close()
    assert [read_checkpoint(path)["w"][0] for path in checkpoints_in(tmp_path)] == [1.0, 2.0]


# Runs one save of two processes of which one is killed before its k-th file operation, for every k and each of them,
# and prints what the folder then holds.
KILLED = """
import os, shutil, sys
from pathlib import Path
from forked_ranks import checkpoint, group, say, trained
from killed_writes import killed_at
from fgvr.checkpoints import format as io
from fgvr.strategies.saving import begin_together, complete_together

root = Path(sys.argv[1])

def save(rank, ranks, path, step, victim, number):
    net, optimizer = trained()
    for weight in net.parameters():
        weight.data.fill_(step)
    if rank == victim:
        killed_at(number)
    saving = begin_together(checkpoint(net, optimizer, step), path, ranks, rank)
    complete_together(saving, saving.write, ranks)

sys.stderr = open(os.devnull, "w")  # the one that is left says that the other is gone
for step in (1, 2):
    assert group(2, save, root / f"before/step-{step}.ckpt", step, None, 0) == [0, 0]
for kind in ("new", "overwrite"):
    for victim in (0, 1):
        number, code = 0, None
        while code != 0:
            number += 1
            folder = root / f"{kind}-{victim}-{number}"
            shutil.copytree(root / "before", folder)
            path = folder / ("step-3.ckpt" if kind == "new" else "step-2.ckpt")
            code = group(2, save, path, 3, victim, number)[victim]
            found = io.newest_checkpoint(folder)
            read = io.read_checkpoint(found)
            assert all(weight.eq(read["global_step"]).all() for weight in read["state_dict"].values())
            io.sweep(folder)
            left = sorted(path.name for path in folder.iterdir())
            again = io.read_manifest(io.newest_checkpoint(folder)).step
            say([kind, victim, code, read["global_step"], again, left])
"""


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_of_several_processes_one_killed_at_any_file_operation_leaves_a_whole_checkpoint(tmp_path: Path) -> None:
    lines = run_script(KILLED, str(tmp_path))
    for kind, victim, least in (("new", 0, 14), ("overwrite", 0, 20), ("new", 1, 5), ("overwrite", 1, 5)):
        own = [line for line in lines if line[:2] == [kind, victim]]
        assert len(own) > least, own
        assert [line[2] for line in own] == [9] * (len(own) - 1) + [0]
        steps = [line[3] for line in own]
        assert steps == sorted(steps)  # from some operation on it is the new one, and never again the old one
        assert steps == [line[4] for line in own]
        assert set(steps[:-1]) == ({2, 3} if victim == 0 else {2})  # the second has written when the first begins to
        whole = {"step-1.ckpt", "step-2.ckpt"} | ({"step-3.ckpt"} if kind == "new" else set())
        assert all(set(line[5]) <= whole for line in own), own
