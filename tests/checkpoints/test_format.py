import errno
import hashlib
import json
import os
import pickle
import resource
import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from forked_ranks import run_script
from refusals import RENAME, RMDIR, refusing, seccomp
from small_checkpoints import content, save

from fgvr.checkpoints.format import (
    MANIFEST,
    STATE,
    DamagedCheckpoint,
    checkpoints_in,
    newest_checkpoint,
    read_checkpoint,
    read_manifest,
    remove_checkpoint,
    sweep,
    verify_checkpoint,
    write_checkpoint,
)
from fgvr.errors import UserError
from fgvr.runs.folder import RunFolder
from fgvr.types import Verdict


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    layer = torch.nn.BatchNorm1d(3)
    tied = torch.arange(4.0)
    given = {
        "global_step": 7,
        "epoch": 2,
        "state_dict": layer.state_dict(),
        "tied": [tied, tied[1:]],
        "path": Path("runs/x"),
        "verdict": Verdict.GENERIC,
        "numpy": np.float64(0.5),
        "tuple": (1, None, "a", {"deep": [True]}),
        "dtype": torch.bfloat16,
        "hyper_parameters": {"run": RunFolder(Path("runs/y"))},
        "fgvr": {"fingerprint": {"data": "abc"}},
    }
    write_checkpoint(given, tmp_path / "a.ckpt")
    read = read_checkpoint(tmp_path / "a.ckpt")
    layer.load_state_dict(read["state_dict"])
    assert read["state_dict"]._metadata == layer.state_dict()._metadata  # pyright: ignore[reportAttributeAccessIssue]
    read["tied"][0][1] = 9.0
    assert read["tied"][1][0] == 9.0
    assert (read["path"], read["verdict"], read["numpy"], read["dtype"]) == ("runs/x", 2, 0.5, torch.bfloat16)
    assert read["tuple"] == (1, None, "a", {"deep": [True]})
    assert read["hyper_parameters"]["run"]["dir"] == "runs/y"
    manifest = read_manifest(tmp_path / "a.ckpt")
    assert (manifest.step, manifest.epoch, manifest.fingerprint) == (7, 2, {"data": "abc"})


def test_what_could_not_be_loaded_again_is_refused_by_its_place(tmp_path: Path) -> None:
    bad = {"callbacks": {"Timer": {"left": timedelta(1)}}}
    with pytest.raises(UserError, match=r"checkpoint\['callbacks'\]\['Timer'\]\['left'\] is a datetime.timedelta"):
        write_checkpoint(bad, tmp_path / "a.ckpt")
    assert list(tmp_path.iterdir()) == []


# Runs one save that is killed before its k-th file operation (half of the data, for a write), for every k, each in a
# process of its own, and prints what the folder then holds.
KILLED_SAVES = """
import json, os, pathlib, sys, torch
from killed_writes import killed_at
from fgvr.checkpoints import format as io

def content(step):
    return {"global_step": step, "epoch": 0, "state_dict": {"w": torch.full((50,), float(step))}}

def save(folder, kind, number):
    killed_at(number)
    io.sweep(folder)
    if kind == "remove":
        io.remove_checkpoint(folder / "step-1.ckpt")
    else:
        io.write_checkpoint(content(3), folder / ("step-3.ckpt" if kind == "new" else "step-2.ckpt"))
    os._exit(0)

root = pathlib.Path(sys.argv[1])
for kind in ("new", "overwrite", "remove"):
    number, code = 0, None
    while code != 0:
        number += 1
        folder = root / f"{kind}-{number}"
        io.write_checkpoint(content(1), folder / "step-1.ckpt")
        io.write_checkpoint(content(2), folder / "step-2.ckpt")
        if (child := os.fork()) == 0:
            save(folder, kind, number)
        code = os.waitpid(child, 0)[1]
        found = io.newest_checkpoint(folder)
        step = io.read_checkpoint(found)["global_step"]
        assert io.read_checkpoint(found)["state_dict"]["w"].eq(step).all()
        io.sweep(folder)
        left = sorted(path.name for path in folder.iterdir())
        again = io.read_manifest(io.newest_checkpoint(folder)).step
        print(json.dumps([kind, number, code, step, again, left]), flush=True)
"""


@pytest.mark.parametrize("temporary", ["", pytest.param("/dev/shm", marks=pytest.mark.slow)])
def test_a_save_killed_at_any_file_operation_leaves_a_whole_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, temporary: str
) -> None:
    """Wherever temporary files are: a save puts none of its own there, or a last rename would be none."""
    if temporary:
        monkeypatch.setenv("TMPDIR", temporary)
    lines = run_script(KILLED_SAVES, str(tmp_path))
    for kind, least in (("new", 10), ("overwrite", 15), ("remove", 4)):
        own = [line for line in lines if line[0] == kind]
        assert len(own) > least, own
        assert [line[2] for line in own] == [9] * (len(own) - 1) + [0]
        steps = [line[3] for line in own]
        if kind == "remove":
            assert set(steps) == {2}
            continue
        assert set(steps) == {2, 3}
        assert steps == sorted(steps)  # from some operation on it is the new one, and never again the old one
        assert steps == [line[4] for line in own]
        whole = {"step-1.ckpt", "step-2.ckpt"} | ({"step-3.ckpt"} if kind == "new" else set())
        assert all(set(line[5]) <= whole for line in own), own


class Malicious:
    def __reduce__(self) -> Any:
        return os.mkdir, (f"{os.environ['TMPDIR']}/ran",)


def test_a_pickle_with_code_is_refused_though_its_manifest_fits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    path = save(tmp_path, 1)
    for write in (lambda: torch.save({"a": Malicious()}, path / STATE), lambda: _pickle(path / STATE)):
        write()
        _confirm_again(path)
        with pytest.raises(DamagedCheckpoint, match="more than tensors and plain data"):
            read_checkpoint(path)
        assert not (tmp_path / "ran").exists()


def _pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps({"a": Malicious()}, protocol=2))


def _confirm_again(path: Path) -> None:
    manifest = json.loads((path / MANIFEST).read_text())
    del manifest["sha256"]
    data = (path / STATE).read_bytes()
    manifest["files"][STATE] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    own = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
    (path / MANIFEST).write_text(json.dumps({**manifest, "sha256": own}))


def test_links_out_of_the_folder_are_not_followed(tmp_path: Path) -> None:
    inside, outside = tmp_path / "run", tmp_path / "elsewhere"
    there = save(outside, 5)
    own = save(inside, 1)
    (inside / "step-9.ckpt").symlink_to(there)
    with pytest.raises(DamagedCheckpoint, match="link that leads out"):
        verify_checkpoint(inside / "step-9.ckpt")
    (own / STATE).unlink()
    (own / STATE).symlink_to(there / STATE)
    with pytest.raises(DamagedCheckpoint, match="lacks a readable"):
        read_checkpoint(own)
    assert newest_checkpoint(inside) is None


def test_a_full_disk_leaves_the_old_checkpoint_and_a_sentence(tmp_path: Path) -> None:
    path = save(tmp_path, 1)
    big = content(2) | {"state_dict": {"w": torch.zeros(300_000)}}
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, before[1]))
    try:
        with pytest.raises(UserError, match=r"could not be written .* already saved are untouched"):
            write_checkpoint(big, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    assert read_checkpoint(path)["global_step"] == 1


def test_order_is_by_step_and_a_replaced_one_comes_before_its_successor(tmp_path: Path) -> None:
    for step in (10, 9, 100):
        save(tmp_path, step)
    save(tmp_path, 100, "step-100~replaced")
    assert [path.stem for path in checkpoints_in(tmp_path)] == ["step-9", "step-10", "step-100~replaced", "step-100"]
    remove_checkpoint(tmp_path / "step-100.ckpt")
    sweep(tmp_path)  # killed between its two renames: the old one takes its name back
    assert [path.stem for path in checkpoints_in(tmp_path)] == ["step-9", "step-10", "step-100"]


def test_sweep_removes_what_dead_processes_left_and_nothing_else(tmp_path: Path) -> None:
    path = save(tmp_path, 1)
    for name in (".step-2.ckpt.new-abc", ".step-0.ckpt.gone-abc"):
        shutil.copytree(path, tmp_path / name)
    assert len(sweep(tmp_path)) == 2
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


@seccomp
def test_a_disk_that_keeps_an_old_checkpoint_does_not_stop_the_run(tmp_path: Path, caplog: Any) -> None:
    path = save(tmp_path, 1)
    refusing({RMDIR: errno.ENOTEMPTY}, lambda: (write_checkpoint(content(2), path), write_checkpoint(content(3), path)))
    assert read_checkpoint(path)["global_step"] == 3
    assert [found.name for found in checkpoints_in(tmp_path)] == [path.name]
    assert "step-1~replaced.ckpt could not be removed (Directory not empty)" in caplog.text
    refusing({RMDIR: errno.ENOTEMPTY}, lambda: remove_checkpoint(path))
    last = save(tmp_path, 4)
    refusing({RENAME: errno.EBUSY}, lambda: remove_checkpoint(last))
    assert refusing({RMDIR: errno.EBUSY}, lambda: sweep(tmp_path)) == []
    assert len(sweep(tmp_path)) == 3
    assert [entry.name for entry in tmp_path.iterdir()] == ["step-4.ckpt"]
